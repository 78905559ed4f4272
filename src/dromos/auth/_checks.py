"""What no strategy may do to a handshake, whoever wrote it.

A strategy is named by the gateway and may be a user's function; both present a
token, and neither chooses where it goes or how the protocol works.
"""

import re
from typing import Final, cast

from dromos.auth._target import target
from dromos.auth._values import CONTROL, TOKEN, header_problem, is_header_name
from dromos.model import Handshake

__all__ = ["problem"]

_NOT_IN_A_URL: Final = re.compile(rf"{CONTROL.pattern}|[ #]")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def problem(before: Handshake, made: object) -> str | None:
    """Say what a strategy did wrong, as the end of a sentence that it begins; None if nothing.

    No value is shown, and no name that is none: whoever swaps name and value
    would find a token in a log.

    Args:
        before: What the strategy got.
        made: What it returned.
    """
    if not isinstance(made, Handshake):
        return f"returned {type(made).__name__} instead of a Handshake"
    return (
        _with_url(before.url, made.url)
        or _with_headers(made.headers)
        or _with_subprotocols(made.subprotocols)
        or _with_first_message(made.first_message)
    )


def _with_url(before: str, made: object) -> str | None:
    if made == before:
        return None
    if not isinstance(made, str) or _NOT_IN_A_URL.search(made):
        return "made a URL that is not a str, or holds characters that no URL may hold"
    try:
        is_same = target(made)[:2] == target(before)[:2]
    except ValueError:
        is_same = False
    # Credentials go only to the endpoint that the user configured.
    return None if is_same else "changed the scheme, host or port of the URL"


def _with_headers(headers: object) -> str | None:
    if not isinstance(headers, tuple):
        return "left headers that are not a tuple"
    for number, pair in enumerate(cast("tuple[object, ...]", headers), 1):
        match pair:
            case (str(name), str(value)) if isinstance(pair, tuple):
                why = header_problem(name, value)
            case _:
                return f"left header number {number} that is not a pair of str"
        if why:
            which = repr(name[:64]) if is_header_name(name) else f"number {number}"
            return f"set header {which}, which {why}"
    return None


def _with_subprotocols(subprotocols: object) -> str | None:
    if not isinstance(subprotocols, tuple):
        return "left subprotocols that are not a tuple"
    for number, offered in enumerate(cast("tuple[object, ...]", subprotocols), 1):
        if not isinstance(offered, str) or not TOKEN.fullmatch(offered):
            return f"offered subprotocol number {number}, which is not a token (RFC 6455, 4.1)"
    return None


def _with_first_message(message: object) -> str | None:
    if message is None or (isinstance(message, str) and not _LONE_SURROGATE.search(message)):
        return None
    return "left a first message that is not text"
