"""Makes the dialer that a configuration means."""

import os
import ssl
from typing import Any

from dromos.config.settings import DialerSettings
from dromos.config.values import looked_up
from dromos.interfaces import Dialer

__all__ = ["make_dialer"]


def make_dialer(said: DialerSettings) -> Dialer:
    """Return the dialer that settings mean.

    Raises:
        ValueError: If a value can't work, or refers to nothing.
        ImportError: If its engine is not installed.
    """
    options: dict[str, Any] = {
        "headers": {name: _resolved(name, value) for name, value in said.headers.items()},
        "subprotocols": said.subprotocols,
        "origin": said.origin,
        "open_timeout": said.open_timeout,
        "happy_eyeballs_delay": said.happy_eyeballs_delay,
    }
    if said.user_agent is not None:
        options["user_agent"] = said.user_agent
    if said.ca_file is not None:
        options["ssl"] = _context(said.ca_file)
    if said.proxy is not None:
        options["proxy"] = _resolved("proxy", said.proxy)
    if said.engine == "websockets":
        from dromos.dialers.websockets import WebsocketsDialer

        return WebsocketsDialer(**options)
    from dromos.dialers.picows import PicowsDialer

    return PicowsDialer(**options)


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it holds no certificate"
        raise ValueError(f"ca_file {ca_file} can't be used: {reason}") from error
    return context


def _resolved(name: str, value: object) -> str:
    try:
        return looked_up(value, os.environ)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
