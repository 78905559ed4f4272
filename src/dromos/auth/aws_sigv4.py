"""A signature by AWS's scheme, in headers or in the URL."""

import re
from typing import Final
from urllib.parse import urlunsplit

from dromos.auth._sigv4 import Signer, canonical_query, is_s3, signed_headers, signed_query
from dromos.auth._target import target
from dromos.auth._values import add_header, credential, setting, switch
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["aws_sigv4"]

_NAME: Final = re.compile(r"[0-9A-Za-z._-]{1,128}", re.ASCII)
_KEY: Final = re.compile(r"[!-~]+", re.ASCII)
_EXPIRES: Final = 300  # the most that Transcribe and Bedrock AgentCore take
_LONGEST_EXPIRES: Final = 604800  # SigV4's own limit: a week
# AWS IoT's "IAM users, groups, and roles": its gateway wants the token after the signature.
_TOKEN_LAST: Final = "iotdevicegateway"


def aws_sigv4(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Sign the upgrade request with AWS Signature Version 4.

    The URL is dialled as it was signed: its query in canonical order, and
    without a default port, which engines would send in `Host` or not.

    Credentials: `access_key`, `secret_key` and, if temporary, `session_token`.

    Settings: `service` (required) and `region` (default `us-east-1`), as in the
    Go library; `presign`, true to sign in the query instead of headers, for a
    URL that may be used for `expires` seconds (1 to 604800, default 300);
    `sign_session_token`, whether the query's signature covers the session token
    (default true, but for `iotdevicegateway`); `single_encoding`, whether the
    path is signed as it is sent (default true for S3's services, which the Go
    library gets wrong, and false for all others).

    Raises:
        PermanentError: If a credential is missing or empty, `service` is missing,
            or a setting can't be used.
    """
    signer = _signer(token, now)
    parts = target(handshake.url)
    if switch(token, "presign", default=False):
        query = signed_query(
            signer,
            host=parts.netloc,
            path=parts.path,
            query=parts.query,
            expires=_expires(token),
            signs_token=switch(token, "sign_session_token", default=signer.service != _TOKEN_LAST),
        )
        return handshake.with_url(urlunsplit(parts._replace(query=query)))
    query = canonical_query(parts.query)
    made = handshake.with_url(urlunsplit(parts._replace(query=query)))
    signed = signed_headers(signer, host=parts.netloc, path=parts.path, query=query)
    for name, value in signed.items():
        made = add_header(made, name, value, strategy="aws_sigv4")
    return made


def _signer(token: Token, now: float) -> Signer:
    service = setting(token, "service")
    if not service:
        raise PermanentError("config 'service' is required for aws_sigv4 strategy")
    region = setting(token, "region", "us-east-1")
    for name, value in (("service", service), ("region", region)):
        if not _NAME.fullmatch(value):
            raise PermanentError(f"config {name!r} holds characters that no {name} has")
    return Signer(
        access_key=_key(token, "access_key"),
        secret_key=_key(token, "secret_key"),
        session_token=_session_token(token),
        region=region,
        service=service,
        single_encoding=switch(token, "single_encoding", default=is_s3(service)),
        now=now,
    )


def _session_token(token: Token) -> str:
    # As in the Go library: a session token of the wrong type counts as absent, or empty.
    given = token.credentials.get("session_token")
    return _key(token, "session_token") if isinstance(given, str) and given else ""


def _key(token: Token, field: str) -> str:
    if not _KEY.fullmatch(credential(token, field)):
        raise PermanentError(f"credential field {field!r} holds a space or is beyond ASCII")
    return credential(token, field)


def _expires(token: Token) -> int:
    value: object = token.strategy.config.get("expires")
    if isinstance(value, bool) or not isinstance(value, int):
        return _EXPIRES
    if not 1 <= value <= _LONGEST_EXPIRES:
        raise PermanentError(f"config 'expires' must be from 1 to {_LONGEST_EXPIRES} seconds")
    return value
