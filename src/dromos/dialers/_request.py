"""Checks an upgrade request before anything is sent, and says what in it is secret."""

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from dromos.model import Handshake
from dromos.redaction import REDACTED, header_secrets

__all__ = ["Redactor", "Request", "check_headers", "check_subprotocols"]

# RFC 9110, 5.6.2
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110, 5.5: visible characters, space, tab and obs-text; no other control characters.
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_RESERVED: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding"}
)
# Refusals speak of these, and it helps to read what they say.
_PUBLIC: Final = frozenset({"origin", "user-agent"})
# RFC 3987's gen-delims and sub-delims, and what is escaped already.
_DELIMITERS: Final = ":/?#[]@!$&'()*+,;=%"
_SHORTEST_SECRET: Final = 4
_LONG_SEGMENT: Final = 16
_LONGEST_WORD: Final = 13
_LONG_REASON: Final = 64


def check_headers(name: str, headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the headers as they may be sent.

    No message shows a value, nor a bad name: whoever swaps the two would
    find a token in a log.

    Args:
        name: What to call them in a message.
        headers: Pairs of name and value.

    Raises:
        TypeError: If one is not a pair of strings.
        ValueError: If a name is not a token (RFC 9110, 5.6.2) or belongs to the
            handshake itself, or a value holds characters that a header can't.
    """
    checked: list[tuple[str, str]] = []
    for index, pair in enumerate(headers):
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"{name}[{index}] must be a pair of name and value")
        field, value = pair
        if not (isinstance(field, str) and isinstance(value, str)):
            raise TypeError(f"{name}[{index}] must be a pair of str")
        if not _TOKEN.fullmatch(field):
            raise ValueError(f"{name}[{index}] has a name that is not a token (RFC 9110, 5.6.2)")
        lowered = field.lower()
        if lowered in _RESERVED or lowered.startswith("sec-websocket-"):
            hint = "; use subprotocols" if lowered == "sec-websocket-protocol" else ""
            raise ValueError(f"{name} must not hold {field}: it belongs to the handshake{hint}")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(
                f"{name} must not hold line breaks or other control characters, "
                f"or any beyond Latin-1: see the value of {field}"
            )
        checked.append((field, value))
    return tuple(checked)


def check_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """Return the subprotocols without repetitions.

    Raises:
        TypeError: If one is not a string, or all are one string.
        ValueError: If one is not a token (RFC 6455, 4.1).
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a sequence of str, not a str")
    offered = tuple(subprotocols)
    for index, subprotocol in enumerate(offered):
        if not isinstance(subprotocol, str):
            raise TypeError(f"subprotocols[{index}] must be a str")
        if not _TOKEN.fullmatch(subprotocol):
            raise ValueError(f"subprotocols[{index}] is not a token (RFC 6455, 4.1)")
    return tuple(dict.fromkeys(offered))


class Redactor:
    """Takes the secrets of one request out of texts that come back.

    Those are the values of its headers and of its query, in the spellings that
    servers echo them in.  What is shorter than four characters stays.
    """

    __slots__ = ("_header_values", "_others")

    def __init__(self, header_values: Iterable[str], others: Iterable[str]) -> None:
        """Spell nothing yet: a link keeps this for months, and a token is long.

        Args:
            header_values: Those of headers, of which parts may be secret alone.
            others: What is secret besides.
        """
        self._header_values = tuple(header_values)
        self._others = tuple(others)

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets())} secrets)"

    def _secrets(self) -> list[bytes]:
        """Return every spelling of every secret, the longest first."""
        secrets = [part for value in self._header_values for part in header_secrets(value)]
        spelled = {
            spelling.encode("utf-8", "surrogateescape")
            for secret in (*secrets, *self._others)
            for spelling in _spellings(secret)
            if len(spelling) >= _SHORTEST_SECRET
        }
        return sorted(spelled, key=len, reverse=True)

    def clean(self, data: bytes, *, cut: bool = False) -> bytes:
        """Return `data` without secrets.

        Args:
            data: What may hold some.
            cut: True if `data` may end in the middle of one.
        """
        secrets = self._secrets()
        for secret in secrets:
            data = data.replace(secret, REDACTED.encode())
        return _without_start(data, secrets) if cut else data

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        return self.clean(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def reason(self, text: str) -> str:
        """Return the reason of a CLOSE without secrets.

        Short plain words stay: reasons say with them what became of a token, and some
        far sides want `token` or `auth` as a subprotocol.
        """
        data, secrets = text.encode(), self._secrets()
        for secret in secrets:
            if len(secret) > _LONGEST_WORD or not (secret.isalpha() and secret.islower()):
                data = data.replace(secret, REDACTED.encode())
        # A CLOSE holds 123 bytes of it, and whoever fills them may cut a secret.
        data = _without_start(data, secrets) if len(data) >= _LONG_REASON else data
        return data.decode("utf-8", "replace")


def _without_start(data: bytes, secrets: list[bytes]) -> bytes:
    """Drop the start of a secret from the end of `data`."""
    longest = 0
    for secret in secrets:
        for length in range(min(len(secret) - 1, len(data)), _SHORTEST_SECRET - 1, -1):
            if data.endswith(secret[:length]):
                longest = max(longest, length)
                break
    return data[:-longest] + REDACTED.encode() if longest else data


def _spellings(secret: str) -> tuple[str, ...]:
    """Return what servers make of a secret: as it is, in a URL, and in JSON."""
    in_json = json.dumps(secret)[1:-1]
    return secret, unquote(secret), quote(secret, safe=""), quote(secret), in_json


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Request:
    """A checked upgrade request.

    Attributes:
        url: In ASCII, without user info or fragment.
        host: Lower case; a literal IPv6 address without brackets.
        port: Always set.
        secure: True for `wss`.
        headers: Beside those of the protocol itself and of the subprotocols.
        subprotocols: As offered.
        redactor: Knows what in this request is secret.
    """

    url: str
    host: str
    port: int
    secure: bool
    headers: tuple[tuple[str, str], ...]
    subprotocols: tuple[str, ...]
    redactor: Redactor

    def __repr__(self) -> str:
        return f"Request({self.origin!r})"

    @property
    def origin(self) -> str:
        """Scheme, host and port, which is all of a URL that is not secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        """True if the host is an address rather than a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @classmethod
    def of(
        cls,
        handshake: Handshake,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        subprotocols: tuple[str, ...] = (),
        proxy: str | None = None,
    ) -> "Request":
        """Return the request for a handshake and a dialer's own settings.

        Args:
            handshake: Its headers replace the dialer's of the same name, and its
                subprotocols come first.
            headers: The dialer's own, checked.
            subprotocols: The dialer's own, checked.
            proxy: The proxy's URL, whose password is secret too.

        Raises:
            TypeError: If a part of the handshake has the wrong type.
            ValueError: If the URL or a header can't be sent.  No message shows a value.
        """
        parts = _split(handshake.url)
        shaped = check_headers("headers", handshake.headers)
        replaced = {name.lower() for name, _ in shaped}
        kept = tuple(pair for pair in headers if pair[0].lower() not in replaced)
        sent = (*shaped, *kept)
        values = (value for name, value in sent if name.lower() not in _PUBLIC)
        offered = check_subprotocols((*handshake.subprotocols, *subprotocols))
        return cls(
            url=parts.geturl(),
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "wss" else 80),
            secure=parts.scheme == "wss",
            headers=sent,
            subprotocols=offered,
            redactor=Redactor(values, _other_secrets(parts, offered, proxy)),
        )


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise TypeError(f"the endpoint must be a str, not {type(url).__name__}")
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("the endpoint holds white space or control characters")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        parts, port, host = None, None, None
    if parts is None:
        raise ValueError("the endpoint is not a URL")
    if parts.scheme not in ("ws", "wss"):
        raise ValueError("the endpoint must begin with ws:// or wss://")
    if not host or port == 0:
        raise ValueError("the endpoint has no host, or port 0")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the endpoint must not hold a user name or password")
    if "#" in url:
        raise ValueError("the endpoint must not hold a fragment (RFC 6455, 3)")
    return _in_ascii(parts, host, port)


def _in_ascii(parts: SplitResult, host: str, port: int | None) -> SplitResult:
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        host = ""
    if not host:
        raise ValueError("the endpoint's host is not a valid name")
    netloc = f"[{host}]" if ":" in host else host
    return SplitResult(
        parts.scheme,
        netloc if port is None else f"{netloc}:{port}",
        quote(parts.path, safe=_DELIMITERS) or "/",
        quote(parts.query, safe=_DELIMITERS),
        "",
    )


def _other_secrets(
    parts: SplitResult, subprotocols: tuple[str, ...], proxy: str | None
) -> Iterator[str]:
    # Tokens travel as subprotocols, in the query, and in the path of web hooks.
    yield from subprotocols
    yield from (value for _, value in parse_qsl(parts.query, keep_blank_values=True))
    yield from (pair.partition("=")[2] or pair for pair in parts.query.split("&"))
    yield from (segment for segment in parts.path.split("/") if len(segment) >= _LONG_SEGMENT)
    if proxy is not None:
        login = urlsplit(proxy)
        yield from (part for part in (login.username, login.password) if part)
