"""The options of a bridge: their names, defaults and checks."""

import inspect
import logging
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast

from dromos._core.policy import Policy
from dromos._driver import Options
from dromos.errors import BridgeError, ConnectionClosed, HandshakeError, TokenError
from dromos.interfaces import Dialer, Limits, Logger, Metrics, Observer
from dromos.model import Message, Outbox, RetryPolicy, Seconds, Verdict, seconds

__all__ = [
    "BridgeOptions",
    "SessionOptions",
    "Verdicts",
    "check_task_factory",
    "check_verdicts",
    "look_up",
    "per_second",
    "port_number",
    "resolve",
    "whole",
]

Verdicts: TypeAlias = (
    Mapping[int | type[Exception], Verdict] | Callable[[BridgeError], Verdict | None]
)
"""A user's own verdicts: by close code, HTTP status or exception class, or a callable."""

T = TypeVar("T", bound=str)


class SessionOptions(TypedDict, total=False):
    """The options that one session may have in place of its bridge's."""

    retry_policy: RetryPolicy
    refresh_buffer: Seconds
    renewal: Literal["handover", "keep"]
    initial_token: Literal["fail", "retry"]
    max_link_age: Seconds | None
    ping_interval: Seconds | None
    ping_timeout: Seconds
    write_timeout: Seconds
    close_timeout: Seconds
    connect_timeout: Seconds
    message_size_limit: int
    fragment_limit: int
    send_size_limit: int | None
    send_buffer_limit: int
    handler_errors: Literal["log", "raise"]
    allow_insecure_transport: bool
    dedupe: Callable[[Message], Hashable] | None
    outbox: Outbox | None


class BridgeOptions(SessionOptions, total=False):
    """The options of a bridge; `dromos.Bridge` describes them."""

    logger: Logger | logging.Logger | logging.LoggerAdapter[Any] | None
    metrics: Metrics | None
    on_event: Observer | None
    dialer: Dialer | None
    verdicts: Verdicts | None
    max_concurrent_dials: int


def resolve(given: SessionOptions, *, in_band: bool = False) -> tuple[Policy, Options]:
    """Return the options as the core and the driver take them, each one checked.

    Args:
        given: All of them.
        in_band: Whether the handler renews tokens on the live link.

    Raises:
        TypeError: If one has the wrong type; the message names it.
        ValueError: If one has a value that can't work; the message names it.
    """
    # A TypedDict can't say "all of its optional keys", and this is where they are checked.
    options = cast("dict[str, Any]", given)
    unknown = set(options) - SessionOptions.__optional_keys__
    if unknown:
        raise TypeError(f"unknown session options: {', '.join(sorted(unknown))}")
    retry = options["retry_policy"]
    if not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry_policy must be a RetryPolicy, not {type(retry).__name__}")
    connect_timeout = seconds("connect_timeout", options["connect_timeout"], above=0)
    initial = _one_of("initial_token", options["initial_token"], ("fail", "retry"))
    policy = Policy(
        retry=retry,
        refresh_buffer=seconds("refresh_buffer", options["refresh_buffer"]),
        renewal=_one_of("renewal", options["renewal"], ("handover", "keep")),
        in_band=in_band,
        patient=initial == "retry",
        max_link_age=_optional_seconds("max_link_age", options["max_link_age"]),
        connect_timeout=connect_timeout,
    )
    size = options["send_size_limit"]
    limits = Options(
        ping_interval=_optional_seconds("ping_interval", options["ping_interval"]),
        ping_timeout=seconds("ping_timeout", options["ping_timeout"], above=0),
        write_timeout=seconds("write_timeout", options["write_timeout"], above=0),
        close_timeout=seconds("close_timeout", options["close_timeout"], above=0),
        connect_timeout=connect_timeout,
        patient=policy.patient,
        limits=Limits(
            message_size=whole("message_size_limit", options["message_size_limit"], least=1),
            fragments=whole("fragment_limit", options["fragment_limit"], least=1),
        ),
        send_size_limit=None if size is None else whole("send_size_limit", size, least=1),
        send_buffer_limit=whole("send_buffer_limit", options["send_buffer_limit"], least=1),
        handler_errors=_one_of("handler_errors", options["handler_errors"], ("log", "raise")),
        allow_insecure_transport=_flag(
            "allow_insecure_transport", options["allow_insecure_transport"]
        ),
        dedupe=_callable("dedupe", options["dedupe"]),
        outbox=_outbox(options["outbox"]),
    )
    return policy, limits


def whole(name: str, value: object, *, least: int) -> int:
    """Return a whole number, checked.

    Raises:
        TypeError: If it is not an int.
        ValueError: If it is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def port_number(name: str, value: object) -> int:
    """Return the number of a port to listen on, checked; 0 is any that is free.

    Raises:
        TypeError: If it is not an int.
        ValueError: If there is no such port.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= 65535:
        raise ValueError(f"{name} must be 0 to 65535, not {value}")
    return value


def per_second(name: str, value: object) -> float:
    """Return a rate, checked.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not finite, or not above zero.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number a second, not {type(value).__name__}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be finite and above 0 a second, not {value:g}")
    return float(value)


def check_verdicts(verdicts: object) -> None:
    """Check a user's own verdicts.

    Raises:
        TypeError: If they are neither a mapping as described nor a callable.
    """
    if verdicts is None or (callable(verdicts) and not isinstance(verdicts, Mapping)):
        return
    if not isinstance(verdicts, Mapping):
        raise TypeError(f"verdicts must be a mapping or a callable, not {type(verdicts).__name__}")
    for key, verdict in cast("Mapping[Any, object]", verdicts).items():
        what = type(key).__name__
        is_kind = isinstance(key, type) and issubclass(key, Exception)
        is_code = isinstance(key, int) and not isinstance(key, bool)
        if not is_kind and not is_code:
            raise TypeError(f"verdicts must have codes or exception classes as keys, not {what}")
        if not isinstance(verdict, Verdict):
            got = type(verdict).__name__
            raise TypeError(f"verdicts must have Verdict values, not {got} as that of a {what} key")


def look_up(verdicts: Mapping[int | type[Exception], Verdict], error: Exception) -> Verdict | None:
    """Return a mapping's verdict: by close code or status, else by the nearest class."""
    number: int | None
    match error:
        case ConnectionClosed(code=int(code)):
            number = code
        case HandshakeError(status=int(status)) | TokenError(status=int(status)):
            number = status
        case _:
            number = None
    if number is not None and number in verdicts:
        return verdicts[number]
    kinds = (kind for kind in type(error).__mro__ if kind in verdicts)
    nearest = next(kinds, None)
    return None if nearest is None else verdicts[nearest]


def check_task_factory(factory: Callable[..., object] | None) -> None:
    """Refuse a task factory that can't run a task in a context that it is given.

    A session's callbacks share one.  asyncio's documentation asks factories for it since
    Python 3.11 ("loop.set_task_factory").

    Raises:
        TypeError: If it takes no `context`.
    """
    if factory is None:
        return
    try:
        takes = inspect.signature(factory)
    except ValueError:  # of some builtins nothing is known
        return
    try:
        takes.bind(None, None, context=None)
    except TypeError:
        raise TypeError(
            "the event loop's task factory must take `context`, as asyncio asks of it since "
            "Python 3.11: def factory(loop, coro, **options)"
        ) from None


def _optional_seconds(name: str, value: object) -> float | None:
    return None if value is None else seconds(name, value, above=0)


def _one_of(name: str, value: T, allowed: tuple[T, ...]) -> T:
    if value not in allowed:
        wanted = " or ".join(f'"{choice}"' for choice in allowed)
        got = f'"{value}"' if isinstance(value, str) else type(value).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{name} must be {wanted}, not {got}")
    return value


def _callable(name: str, value: object) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
    return value


def _outbox(value: object) -> Outbox | None:
    if value is not None and not isinstance(value, Outbox):
        hint = "; pass Outbox()" if value is True or value is Outbox else ""
        raise TypeError(f"outbox must be an Outbox or None, not {type(value).__name__}{hint}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value
