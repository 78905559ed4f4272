"""Tokens for the client itself: the client credentials grant, RFC 6749, 4.4."""

from typing import Unpack

from dromos.oauth._client import Client, ClientOptions, Pairs
from dromos.oauth._endpoint import Asking
from dromos.oauth._issuer import Issuer
from dromos.redaction import unseen

__all__ = ["ClientCredentials"]


class ClientCredentials(Issuer):
    """Tokens that a client gets for itself, with its secret, key or certificate.

        tokens = ClientCredentials(
            issuer="https://login.example.com",
            client_id="agent-7",
            client_secret="...",
            scope="telemetry.write",
        )

    Args:
        **options: See `ClientOptions`; `client_id` and a way to prove it are needed.

    Raises:
        TypeError: If an option is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the option.
        ImportError: If a private key is given without PyJWT.
    """

    @unseen
    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        client = Client(options)
        if client.client_auth == "none":
            # RFC 6749, 4.4: "MUST only be used by confidential clients".
            raise ValueError("give client_secret, private_key, or client_auth='tls' with ssl")
        super().__init__(client)

    def _asking(self) -> Asking:
        return Asking(step="token", subject="the client credentials request", form=self._form)

    def _form(self, now: float) -> Pairs:
        return [("grant_type", "client_credentials"), *self._client.asked_for()]
