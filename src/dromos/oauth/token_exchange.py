"""Tokens in exchange for others, such as a workload's identity: RFC 8693."""

from typing import Any, Final, Unpack

from dromos.oauth._client import Client, ClientOptions, Pairs, SecretValue
from dromos.oauth._endpoint import Asking
from dromos.oauth._flow import Flow
from dromos.oauth._issuer import Issuer
from dromos.oauth._subject import Subject
from dromos.redaction import unseen

__all__ = ["TokenExchange"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE: Final = "urn:ietf:params:oauth:token-type:"


class TokenExchange(Issuer):
    """Tokens that are given for a token of somebody else.

        tokens = TokenExchange(
            FileToken("/var/run/secrets/tokens/agent"),
            subject_token_type="jwt",
            issuer="https://login.example.com",
            audience="telemetry",
        )

    Args:
        subject_token: For whom: a token, a callable, sync or async, that returns one for
            each request, or an object with `get_token`, such as a `FileToken`.
        subject_token_type: `"access_token"` (default), `"jwt"`, `"id_token"`,
            `"refresh_token"`, `"saml1"`, `"saml2"`, or a URI.
        actor_token: Who acts for it, given likewise. Default None: the client itself.
        actor_token_type: As for the subject. Default `"access_token"`.
        requested_token_type: What to ask for, likewise. Default None: what the server
            gives by itself.
        **options: See `ClientOptions`; the client needs no name of its own.

    Raises:
        TypeError: If an argument is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    @unseen
    def __init__(
        self,
        subject_token: SecretValue | Any,
        *,
        subject_token_type: str = "access_token",
        actor_token: SecretValue | Any | None = None,
        actor_token_type: str = "access_token",
        requested_token_type: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(Client(options, needs_id=False))
        self._subject = Subject("subject_token", subject_token)
        self._actor = None if actor_token is None else Subject("actor_token", actor_token)
        self._types = [("subject_token_type", _uri("subject_token_type", subject_token_type))]
        if actor_token is not None:
            self._types.append(("actor_token_type", _uri("actor_token_type", actor_token_type)))
        if requested_token_type is not None:
            wanted = _uri("requested_token_type", requested_token_type)
            self._types.append(("requested_token_type", wanted))

    def _asking(self) -> Asking:
        return Asking(
            step="token",
            subject="the token exchange",
            form=self._form,
            presented=self._presented,
        )

    def _form(self, now: float) -> Pairs:
        return [("grant_type", _GRANT), *self._types, *self._client.asked_for()]

    def _presented(self) -> Flow[Pairs]:
        # In one expression, so that the subject's is in no frame that the actor's may raise in.
        return [("subject_token", (yield from self._subject.now())), *(yield from self._acting())]

    def _acting(self) -> Flow[Pairs]:
        if self._actor is None:
            return ()
        return [("actor_token", (yield from self._actor.now()))]

    def _mark(self) -> Flow[bytes]:
        mark = yield from self._client.mark()
        for presented in (self._subject, self._actor):
            if presented is not None:
                mark += yield from presented.mark()
        return mark


def _uri(name: str, kind: str) -> str:
    if not isinstance(kind, str):
        raise TypeError(f"{name} must be a str, not {type(kind).__name__}")
    if not kind:
        raise ValueError(f"{name} must not be empty")
    return kind if ":" in kind else _TYPE + kind
