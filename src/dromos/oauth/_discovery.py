"""Where an authorization server's endpoints are, from its metadata: RFC 8414."""

from collections.abc import Mapping
from typing import Any, Final

from dromos.errors import TokenError
from dromos.oauth._answers import fields
from dromos.oauth._checks import ServerUrl, server_url
from dromos.oauth._client import Client
from dromos.oauth._expiry import retry_after
from dromos.oauth._flow import Flow
from dromos.oauth._http import Answer, NoAnswer, Outcome, Request

__all__ = ["located"]

_KNOWN: Final = ("token_endpoint", "device_authorization_endpoint")


def located(client: Client, endpoint: str) -> Flow[ServerUrl | TokenError]:
    """Find an endpoint, asking for the metadata if nobody has yet."""
    known = client.token_url if endpoint == "token_endpoint" else client.device_url
    if known is not None:
        return known
    if client.issuer is None:
        return _problem(client, f"{endpoint} is not known: give issuer", code="no_endpoint")
    if client.metadata is None:
        found = yield from _metadata(client, client.issuer)
        if isinstance(found, TokenError):
            return found
        client.metadata = found
    return _endpoint(client, client.issuer, client.metadata, endpoint)


def _metadata(client: Client, issuer: ServerUrl) -> Flow[Mapping[str, str] | TokenError]:
    first, second = _places(issuer)
    outcome: Outcome = yield _question(client, first)
    if isinstance(outcome, Answer) and outcome.status in (404, 405, 410):
        outcome = yield _question(client, second)
    return _read(client, issuer, outcome)


def _question(client: Client, url: str) -> Request:
    headers = tuple(client.wire.headers().items())
    return Request(method="GET", url=url, headers=headers, deadline=client.timeout)


def _places(issuer: ServerUrl) -> tuple[str, str]:
    """RFC 8414, 3: before the path; and as OpenID Connect has it, after the path."""
    path = issuer.url.partition("://")[2].partition("/")[2].rstrip("/")
    behind = f"/{path}" if path else ""
    return (
        f"{issuer.origin}/.well-known/oauth-authorization-server{behind}",
        f"{issuer.origin}{behind}/.well-known/openid-configuration",
    )


def _read(client: Client, issuer: ServerUrl, outcome: Outcome) -> Mapping[str, str] | TokenError:
    if isinstance(outcome, NoAnswer):
        return _problem(client, f"no answer: {outcome.reason}", code=outcome.code, caused=outcome)
    if not 200 <= outcome.status < 300:
        return _problem(
            client,
            f"it answered {outcome.status}",
            status=outcome.status,
            retry_after=retry_after(outcome.headers, at=outcome.at),
        )
    told = None if outcome.flaw else fields(outcome)
    if told is None:
        return _problem(client, "it is no JSON object", status=outcome.status, malformed=True)
    if told.get("issuer") != issuer.url:
        # RFC 8414, 3.3: identical, or somebody else's metadata are being served.
        return _problem(client, "it names another issuer than this", code="issuer_mismatch")
    return _kept(client, told)


def _kept(client: Client, told: Mapping[str, Any]) -> Mapping[str, str]:
    aliases = told.get("mtls_endpoint_aliases")
    # RFC 8705, 5: where a certificate is asked for, the endpoints may have other names.
    if client.client_auth == "tls" and isinstance(aliases, dict):
        told = {**told, **aliases}
    return {name: told[name] for name in _KNOWN if isinstance(told.get(name), str)}


def _endpoint(
    client: Client, issuer: ServerUrl, metadata: Mapping[str, str], name: str
) -> ServerUrl | TokenError:
    told = metadata.get(name)
    if told is None:
        return _problem(client, f"it names no {name}", code="no_endpoint")
    try:
        url = server_url(name, told)
    except ValueError as error:
        return _problem(client, str(error), code="endpoint_refused")
    if not client.wire.allows(url):
        return _problem(client, f"its {name} is not https", code="endpoint_refused")
    if url.origin not in (issuer.origin, *client.endpoint_origins):
        what = f"its {name} is of another origin, {url.origin}; endpoint_origins can allow that"
        return _problem(client, what, code="endpoint_refused")
    return url


def _problem(
    client: Client,
    what: str,
    *,
    code: str | None = None,
    status: int | None = None,
    retry_after: float | None = None,
    malformed: bool = False,
    caused: NoAnswer | None = None,
) -> TokenError:
    error = TokenError(
        f"the metadata of the authorization server at {client.server} can't be used: {what}",
        code=code,
        status=status,
        retry_after=retry_after,
        step="discovery",
        malformed=malformed,
        origin=client.server,
    )
    if caused is not None:
        error.__cause__ = caused.cause()
    return error
