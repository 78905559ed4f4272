"""What every client of a token server is set up with, checked once: trust, proxy, header fields."""

import functools
import importlib.util
import platform
import ssl as ssl_module
import uuid
import warnings
from collections.abc import Mapping
from typing import NoReturn

from dromos.oauth._checks import ServerUrl, header_fields, proxy_url
from dromos.oauth._http import HttpxTransport, Transport
from dromos.redaction import header_secrets

__all__ = ["Wire"]


class Wire:
    """How one client speaks HTTP.

    Args:
        headers: Sent with each request.
        ssl: The TLS context; None for the system's trust.
        proxy: URL of a proxy; None for none.
        connect_timeout: Seconds to connect.
        allow_insecure_transport: Whether plain `http://` may go to other machines.
        user_agent: None for ours.
        transport: Sends the requests in place of httpx2.

    Attributes:
        transport: Sends the requests.
        fields: The user's own header fields, with names in lower case.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
        ImportError: If a SOCKS proxy is given without socksio.
    """

    __slots__ = ("_allow_insecure", "_user_agent", "fields", "transport")

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None,
        ssl: ssl_module.SSLContext | None,
        proxy: str | None,
        connect_timeout: float,
        allow_insecure_transport: bool,
        user_agent: str | None,
        transport: Transport | None,
    ) -> None:
        if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):
            raise TypeError(f"ssl must be an ssl.SSLContext or None, not {type(ssl).__name__}")
        if proxy is not None:
            proxy = proxy_url(proxy)
            _need_socks(proxy.partition(":")[0])
        if user_agent is not None and not isinstance(user_agent, str):
            raise TypeError(f"user_agent must be a str or None, not {type(user_agent).__name__}")
        if user_agent is not None and not (user_agent.isascii() and user_agent.isprintable()):
            raise ValueError("user_agent must be printable ASCII")
        self.fields = header_fields(headers)
        self._allow_insecure = allow_insecure_transport
        self._user_agent = user_agent
        self.transport: Transport = transport or HttpxTransport(
            ssl=ssl, proxy=proxy, connect_timeout=connect_timeout
        )

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("what holds headers and a proxy's password can't be copied or pickled")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat of the user's own header fields."""
        return tuple(part for _, value in self.fields for part in header_secrets(value))

    def may_send_secrets(self, name: str, url: ServerUrl, *, stacklevel: int) -> None:
        """Refuse a server that would be sent secrets in the clear, or warn of it.

        Args:
            name: The argument's name, for messages.
            url: The server's.
            stacklevel: Of the caller whose line the warning names.

        Raises:
            ValueError: If it is neither secure nor this machine, and that is not allowed.
        """
        if not self.allows(url):
            raise ValueError(
                f"{name} must be https, or tokens would travel in the clear; "
                f"allow_insecure_transport=True allows it"
            )
        if url.is_secure or url.is_loopback:
            return
        warnings.warn(
            f"tokens from {url.origin} travel in the clear",
            RuntimeWarning,
            stacklevel=stacklevel + 1,
        )

    def allows(self, url: ServerUrl) -> bool:
        """Whether a server may be sent secrets."""
        return url.is_secure or url.is_loopback or self._allow_insecure

    def headers(self) -> dict[str, str]:
        """Return the header fields that each request has."""
        return {
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": self._user_agent or _default_user_agent(),
            "x-request-id": str(uuid.uuid4()),
            **dict(self.fields),
        }


def _need_socks(scheme: str) -> None:
    # Asked for here: httpx2 would say so at the first request, in a frame that holds the password.
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ImportError("a SOCKS proxy needs socksio: pip install socksio")


@functools.cache
def _default_user_agent() -> str:
    from importlib import metadata  # 20 ms that only who asks a server has to pay

    try:
        version = metadata.version("dromos")
    except metadata.PackageNotFoundError:  # run from a checkout
        version = "0"
    return f"dromos/{version} python/{platform.python_version()}"
