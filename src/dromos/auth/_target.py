"""Where a URL leads, in the spelling in which it is dialled."""

from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

__all__ = ["target"]

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
# RFC 3987's gen-delims and sub-delims, and what is escaped already: as the dialers do it.
_DELIMITERS: Final = ":/?#[]@!$&'()*+,;=%"


def target(url: str) -> SplitResult:
    """Return a URL's parts as they are sent.

    The host is in ASCII and lower case, and has no port if it is the default
    one; so `netloc` is what every engine sends as `Host`.  The path is in ASCII
    and not empty.  The query is as it was.

    Raises:
        ValueError: If it is not a URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    # picows sends `Host` as the URL has it, websockets without a default port (RFC 6455, 4.1).
    if parts.port not in (None, _DEFAULT_PORTS.get(parts.scheme)):
        host = f"{host}:{parts.port}"
    login, at, _ = parts.netloc.rpartition("@")
    path = quote(parts.path, safe=_DELIMITERS) or "/"
    return parts._replace(netloc=f"{login}{at}{host}", path=path)
