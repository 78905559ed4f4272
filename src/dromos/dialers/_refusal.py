"""Turns whatever a dial fails with into a `HandshakeError` that shows no secret."""

import re
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from dromos.dialers._request import Redactor, Request
from dromos.errors import HandshakeError
from dromos.redaction import REDACTED, is_sensitive

__all__ = ["Headers", "cause", "failed", "parse_head", "refused", "retry_after"]

BODY: Final = 1024
"""Bytes of an answer's body that are kept."""

LONGEST_WAIT: Final = 3600.0
"""Seconds: no `Retry-After` counts for more."""

_STATUS_LINE: Final = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})(?: |$)")
_PROXY_STATUS: Final = re.compile(r"status (\d{3})\b")


class Headers(Mapping[str, str]):
    """An answer's headers; names in any case find their value."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    def __getitem__(self, name: str, /) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object, /) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __repr__(self) -> str:
        return repr(self._values)


def refused(
    request: Request, head: bytes, body: bytes, *, bad_header: str | None = None
) -> HandshakeError:
    """Return the error for an answer that is not a good upgrade.

    Args:
        request: What was asked.
        head: The answer as it came, so it must not be chained.
        body: As much of it as came together with the head.
        bad_header: The name of the header that spoils an upgrade.
    """
    status, headers = parse_head(head)
    target = headers.get("location")
    if target is not None:
        headers["location"] = target = _origin(request.url, target)
    shown = Headers(
        {
            request.redactor.text(name): _shown(name, value, request)
            for name, value in headers.items()
        }
    )
    return HandshakeError(
        _why(bad_header, status, target if status and 300 <= status < 400 else None, request),
        status=status,
        headers=shown,
        retry_after=retry_after(headers),
        body=_body(body, headers, request.redactor),
    )


def failed(error: BaseException, request: Request, *, proxied: bool) -> HandshakeError:
    """Return the error for a dial that got no answer; chain it with `cause` if clean."""
    text = request.redactor.text(str(error)) or "no further details"
    status = _PROXY_STATUS.search(text) if proxied else None
    # Only 407 is certain to be about the proxy; its 401 or 403 must not read as the far side's.
    refused_by_proxy = status is not None and status[1] == "407"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"the certificate was refused: {text}"
    elif isinstance(error, ssl.SSLError):
        why = f"TLS failed: {text}"
    else:
        why = f"{type(error).__name__}: {text}"
    return HandshakeError(
        f"dialling {request.origin}{' through the proxy' if proxied else ''} failed: {why}",
        status=407 if refused_by_proxy else None,
    )


def cause(error: BaseException, request: Request) -> BaseException | None:
    """Return the error for chaining, without frames; None if it holds a secret.

    The frames of a foreign library hold the URL and the headers as locals.
    """
    told = f"{error} {error.args!r} {vars(error)!r}"
    if request.redactor.text(told) != told:
        return None
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds an answer asks us to wait, at most an hour.

    RFC 9110, 10.2.3: seconds, or a date, which is taken relative to the
    answer's own `Date`, so that the clocks need not agree.  None if there is
    none, it is in the past, or it makes no sense.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9] if len(value) <= 9 else "1e9"), LONGEST_WAIT)
    until = _timestamp(value)
    if until is None:
        return None
    since = _timestamp(headers.get("date", ""))
    if since is None:
        since = time.time()  # noqa: TID251 - a dial happens now, and decides nothing
    wait = until - since
    return min(wait, LONGEST_WAIT) if wait > 0 else None


def _timestamp(value: str) -> float | None:
    try:
        parsed: datetime = parsedate_to_datetime(value)
        return parsed.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def parse_head(head: bytes) -> tuple[int | None, dict[str, str]]:
    """Return status and headers of an answer, as far as there are any.

    picows gives neither for a status that Python has no name for (Cloudflare's
    520 to 530) nor for HTTP/1.0.
    """
    first, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.match(first)
    if status is None:
        return None, {}
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            continue
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status[1]), headers


def _shown(name: str, value: str, request: Request) -> str:
    return REDACTED if is_sensitive(name) else request.redactor.text(value)


def _origin(base: str, target: str) -> str:
    """Return a target's scheme, host and port: its path and query may carry what we sent."""
    try:
        parts = urlsplit(urljoin(base, target))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return REDACTED
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}"


def _why(bad_header: str | None, status: int | None, target: str | None, request: Request) -> str:
    where = request.origin
    if status is None:
        return f"{where} did not answer in HTTP/1.1"
    if status != 101:
        answer = f"{where} refused the upgrade with {status}{_phrase(status)}"
        if target is not None:
            answer += f", a redirect to {request.redactor.text(target)}, which is not followed"
        return answer
    if bad_header is not None:
        return f"{where} answered the upgrade with a missing or wrong {bad_header} header"
    return f"{where} answered the upgrade with a malformed response"


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _body(raw: bytes, headers: Mapping[str, str], redactor: Redactor) -> bytes:
    """Return what came of the body together with the head; picows waits for no more."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        raw = _unchunked(raw)
    return redactor.clean(raw, cut=True)[:BODY]


def _unchunked(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        if length <= 0:
            break
        body += raw[:length]
        raw = raw[length + 2 :]
    return body
