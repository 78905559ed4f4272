"""Where a session may connect to, and how that is shown."""

import ipaddress
import re
import urllib.parse
from typing import Final

from dromos.errors import PermanentError
from dromos.interfaces import Endpoint

__all__ = ["Veiled", "check_made_url", "check_url", "shown"]

_PLAIN: Final = re.compile(r"[^\[\]]*|\[[^\[\]]*\](:[0-9]*)?")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class Veiled:
    """An endpoint, for variables of frames that an error may lead through.

    A URL's query may hold a secret, and a traceback may show variables.
    """

    __slots__ = ("endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __repr__(self) -> str:
        return "Veiled(...)"


def check_url(url: object, *, allow_insecure: bool) -> str:
    """Return an endpoint's URL if a link may be opened to it.

    Raises:
        TypeError: If it is not a str.
        ValueError: If it is not a `ws://` or `wss://` URL, holds a password, or would
            send a token in clear to another machine.
    """
    if not isinstance(url, str):
        raise TypeError(f"endpoint_url must be a str, not {type(url).__name__}")
    problem = _problem(url, allow_insecure=allow_insecure)
    if problem is None:
        return url
    del url
    raise ValueError(f"endpoint_url {problem}")


def _problem(url: str, *, allow_insecure: bool) -> str | None:
    """Say why no link may be opened to a URL; None if one may."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError:  # whose message may quote the URL, and with it a secret
        return "is not a valid URL"
    try:
        _ = parts.port
    except ValueError:
        return "has a port that is no number from 0 to 65535"
    # urlsplit reads the host `::1` out of `[::1].example`, and no encoding has a lone surrogate.
    if not _PLAIN.fullmatch(parts.netloc.rpartition("@")[2]) or _SURROGATE.search(url):
        return "is not a valid URL"
    if parts.scheme not in ("ws", "wss"):
        return f"must begin with ws:// or wss://, not {_scheme(url)}"
    if not host:
        return "has no host"
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        return "holds white space or control characters"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if parts.fragment:
        # RFC 6455, 3: fragment identifiers are meaningless in WebSocket URIs.
        return "must not hold a fragment"
    if parts.scheme == "ws" and not allow_insecure and not _is_loopback(host):
        return (
            "would send the token in clear to another machine: use wss://, "
            "or allow_insecure_transport=True"
        )
    return None


def check_made_url(url: object, *, allow_insecure: bool) -> str:
    """Do the same for a URL that a callable made.

    Raises:
        PermanentError: Where `check_url` raises `TypeError` or `ValueError`.
    """
    try:
        return check_url(url, allow_insecure=allow_insecure)
    except (TypeError, ValueError) as error:
        why = str(error)
    # Out here, so that no traceback holds the URL, which may hold a token.
    raise PermanentError(f"the endpoint callable's result can't be used: {why}")


def is_insecure(url: str) -> bool:
    """Whether a checked URL sends the token in clear to another machine."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "ws" and not _is_loopback(parts.hostname or "")


def shown(endpoint: Endpoint) -> str:
    """Return an endpoint without what may be secret in it: scheme, host, port and path."""
    if not isinstance(endpoint, str):
        return getattr(endpoint, "__qualname__", None) or type(endpoint).__name__
    parts = urllib.parse.urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition("://")
    return f"{scheme[:16]!r}" if colon and scheme.isalpha() else "a URL without a scheme"


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine to the letter; a name that resolves to it is not."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Of IPv6 this one only: of ::ffff:127.0.0.1 Python's versions think differently.
    return str(address) == "::1" if address.version == 6 else address.is_loopback
