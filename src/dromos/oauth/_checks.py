"""What the gateway client refuses before it opens a socket.

No message here shows a value that may be secret: a URL with a password in it
is a common mistake.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

__all__ = [
    "ServerUrl",
    "base_url",
    "bearer_problem",
    "header_fields",
    "is_loopback",
    "is_unicode",
    "path_segment",
    "proxy_url",
    "server_url",
]

_PORTS: Final = {"http": 80, "https": 443}
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)
_FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,16384}", re.ASCII)
_BEARER: Final = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
# What urlsplit reads as `[::1]` may have more behind the bracket, and another reader goes by that.
_HOST_AND_PORT: Final = re.compile(r"([^\[\]]+|\[[0-9A-Fa-f:.]+(%[\w.~-]+)?\](:[0-9]*)?)", re.ASCII)
_LONGEST_URL: Final = 8192
_LONGEST_ID: Final = 512
_SEPARATORS: Final = frozenset("/\\?#")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrl:
    """Where a server is asked.

    Attributes:
        url: As it is requested.
        origin: Scheme, host and port.
        is_loopback: True if the host is literally this machine.
        is_secure: True for https.
    """

    url: str
    origin: str
    is_loopback: bool
    is_secure: bool


def base_url(value: object) -> ServerUrl:
    """Check a gateway's URL, and return it without a trailing slash.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is not an http or https URL of a plain kind.
    """
    checked = server_url("base_url", value)
    if "?" in checked.url:
        raise ValueError("base_url must not have a query or a fragment")
    path = checked.url.partition("://")[2].partition("/")[2].rstrip("/")
    return replace(checked, url=f"{checked.origin}/{path}".rstrip("/"))


def server_url(name: str, value: object) -> ServerUrl:
    """Check a URL that secrets are sent to.

    Args:
        name: The argument's name, for messages.
        value: `https://`, or `http://` for a server that is only named here.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is not an http or https URL, or has a fragment or a password.
    """
    parts = _split(name, value, schemes=("http", "https"))
    if "@" in parts.netloc:
        raise ValueError(f"{name} must not hold a user name or password")
    if "#" in str(value):
        raise ValueError(f"{name} must not have a query or a fragment")
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return ServerUrl(
        url=str(value),
        origin=f"{parts.scheme}://{shown}:{parts.port or _PORTS[parts.scheme]}",
        is_loopback=is_loopback(host),
        is_secure=parts.scheme == "https",
    )


def proxy_url(value: object) -> str:
    """Check a proxy's URL, which may hold a user name and a password.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is not an http, https or socks5 URL.
    """
    _split("proxy", value, schemes=("http", "https", "socks5", "socks5h"))
    return str(value)


def _split(name: str, value: object, *, schemes: tuple[str, ...]) -> SplitResult:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    # urlsplit drops some of these without a word, and then reads another URL than we were given.
    if any(ord(char) <= 0x20 or char == "\\" or ord(char) == 0x7F for char in value):
        raise ValueError(f"{name} must not hold spaces, control characters or backslashes")
    parts, problem = _read(value)
    if problem:
        raise ValueError(f"{name} {problem}")
    if parts.scheme not in schemes:
        raise ValueError(f"{name} must start with {' or '.join(f'{s}://' for s in schemes)}")
    if not parts.hostname:
        raise ValueError(f"{name} must name a host")
    return parts


def _read(value: str) -> tuple[SplitResult, str | None]:
    """Return a URL's parts, and what is wrong with it; no message may show any of it."""
    nothing = SplitResult("", "", "", "", "")
    if len(value) > _LONGEST_URL or not is_unicode(value):
        return nothing, "is over 8 KiB, or no Unicode text"
    try:
        parts = urlsplit(value)
        (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError is one; its message shows the value
        return nothing, "is not a URL"
    try:
        if parts.port == 0:
            return nothing, "has port 0"
    except ValueError:
        return nothing, "has a port that is no number from 1 to 65535"
    host_and_port = parts.netloc.rpartition("@")[2]
    is_plain = not host_and_port or _HOST_AND_PORT.fullmatch(host_and_port)
    return parts, None if is_plain else "is not a URL"


def is_unicode(text: str) -> bool:
    """Whether it can be encoded; the exception that says otherwise holds the whole text."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def is_loopback(host: str) -> bool:
    """Whether a host is literally this machine; a name that resolves to it is not."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return str(address) == "::1"  # neither ::ffff:127.0.0.1 nor ::1%eth0


def header_fields(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Check header fields, and return them with their names in lower case.

    Raises:
        TypeError: If they are not a mapping from `str` to `str`.
        ValueError: If a name or value is illegal, or the name is not the caller's to set.
    """
    if headers is None:
        return ()
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping or None, not {type(headers).__name__}")
    fields: dict[str, str] = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must map str to str")
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError("headers holds a name that is not an HTTP field name")
        if name.lower() in _OURS:
            raise ValueError(f"headers must not set {name}: HTTP itself needs it")
        if name.lower() in fields:
            raise ValueError(f"headers sets {name} twice")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"headers holds a value for {name} with illegal characters")
        fields[name.lower()] = value
    return tuple(fields.items())


def bearer_problem(value: object) -> str | None:
    """Say what is wrong with a bearer token, without showing it; None if nothing is."""
    if not isinstance(value, str):
        return f"is not a str but {type(value).__name__}"
    if not value:
        return "is empty"
    if _BEARER.fullmatch(value):
        return None
    # RFC 6750, 2.1 allows fewer characters still, but servers issue these.
    return "is over 16 KiB or holds a space, a line break or other characters no token may have"


def path_segment(connection_id: object) -> str:
    """Check a connection id, and return it percent-encoded for a URL's path.

    Raises:
        TypeError: If it is not a `str`.
        ValueError: If it is empty, too long, or could lead to another path.
    """
    if not isinstance(connection_id, str):
        raise TypeError(f"connection_id must be a str, not {type(connection_id).__name__}")
    if not connection_id.strip():
        raise ValueError("connection_id must not be empty or blank")
    if len(connection_id) > _LONGEST_ID:
        raise ValueError(
            f"connection_id must have at most {_LONGEST_ID} characters, not {len(connection_id)}"
        )
    plain = connection_id
    while True:  # each round shortens it, so this ends
        if plain.strip() in (".", "..") or _SEPARATORS.intersection(plain):
            raise ValueError("connection_id must not be '.' or '..', or hold / \\ ? or #")
        if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in plain):
            raise ValueError("connection_id must not hold control characters")
        decoded = unquote(plain)
        if decoded == plain:
            return quote(connection_id, safe="")
        plain = decoded
