"""The faults: each says how it is done, and which error it must be told as, if any.

What the session makes of that error is not said here: `dromos._core.verdict` knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dromos import ConnectionClosed, HandshakeError
from dromos._core.verdict import CLOSE_CODES, UPGRADE_STATUSES
from dromos.testing import FaultProxy

State: TypeAlias = Literal[
    "dialling",
    "handshake",
    "idle",
    "receiving",
    "sending",
    "next link",
    "old link",
    "closing",
]
"""Where a session is when the fault comes.  A hand-over has two: either link may be hit."""

STATES: tuple[State, ...] = (
    "dialling",
    "handshake",
    "idle",
    "receiving",
    "sending",
    "next link",
    "old link",
    "closing",
)

OPENING: tuple[State, ...] = ("dialling", "handshake", "next link")
"""Where the fault is laid for a link that is still to open."""

Told: TypeAlias = Callable[[Exception, State], bool]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault.

    Attributes:
        name: For the table.
        kind: What it befalls: a connection, live or to come (`"link"`); a dial
            (`"dial"`: on an open link, the link is reset and the next dial suffers);
            or the far side's last word (`"close"`).
        do: Orders it.  It is given the keywords that say which connections are meant.
            None: the cell stops the proxy, which takes an await.
        told: Whether an error is the one that this fault must be told as; None: it may
            pass unnoticed.
        heals: Seconds after which the proxy is healed; None never.
        states: Where it differs from another row.
    """

    name: str
    kind: Literal["link", "dial", "close"]
    do: Callable[..., None] | None
    told: Told | None = None
    heals: float | None = None
    states: tuple[State, ...] = STATES

    def fits(self, state: State) -> bool:
        """Whether there is such a thing."""
        if self.kind == "link":
            return state in self.states
        # A dial has one moment only; a CLOSE needs an open link.
        return state != "dialling" and not (self.kind == "dial" and state == "old link")


def ended(error: Exception, state: State) -> bool:
    """Whether this tells of an end without any word."""
    if isinstance(error, ConnectionClosed):
        return error.code == 1006
    return isinstance(error, HandshakeError) and error.status is None


def garbled(error: Exception, state: State) -> bool:
    """Whether this tells of bytes that make no sense; or of the far side, which read them."""
    return isinstance(error, HandshakeError) or (
        isinstance(error, ConnectionClosed) and error.code in (1002, 1006, 1007)
    )


def _with(status: int) -> Told:
    return lambda error, state: isinstance(error, HandshakeError) and error.status == status


def _closed(code: int | None) -> Told:
    told = 1005 if code is None else code
    return lambda error, state: isinstance(error, ConnectionClosed) and error.code == told


def _in_time(state: State) -> dict[str, Any]:
    """At which byte: a dial's first, the middle of the handshake's answer, or now."""
    return {"dialling": {"after_bytes": 0}, "handshake": {"after_bytes": 36}}.get(state, {})


def link(
    name: str,
    order: Callable[..., None],
    *,
    told: Told | None = ended,
    heals: float | None = None,
    states: tuple[State, ...] = STATES,
    **options: Any,
) -> Row:
    """A fault of a connection."""

    def do(proxy: FaultProxy, state: State, **which: Any) -> None:
        order(proxy, **options, **_in_time(state), **which)

    return Row(name=name, kind="link", do=do, told=told, heals=heals, states=states)


def _corrupt(proxy: FaultProxy, *, after_bytes: int | None = None, **which: Any) -> None:
    proxy.corrupt(after_bytes, **which)


def answer(name: str, status: int, **headers: str) -> Row:
    """A handshake's answer that is no upgrade."""
    fields = {key.replace("_", "-"): value for key, value in headers.items()}

    def do(proxy: FaultProxy, state: State, next: int | None = 1) -> None:
        proxy.answer(status, fields, next=next)

    return Row(name=name, kind="dial", do=do, told=_with(status))


def delay(name: str, seconds: float, told: Told | None) -> Row:
    """An answer that comes late."""

    def do(proxy: FaultProxy, state: State, next: int | None = 1) -> None:
        proxy.delay_handshake(seconds, next=next)

    return Row(name=name, kind="dial", do=do, told=told)


def close(
    code: int | None,
    reason: str = "",
    name: str | None = None,
    direction: Literal["up", "down"] = "down",
) -> Row:
    """A CLOSE: the far side's, or one that it takes for ours, which it answers with the same."""

    def do(proxy: FaultProxy, state: State, **which: Any) -> None:
        proxy.close_with(code, reason, direction=direction, **which)

    return Row(name=name or f"close {code}", kind="close", do=do, told=_closed(code))


REFUSED = Row(name="refused", kind="dial", do=None, told=ended)

LINKS: tuple[Row, ...] = (
    link("silent", FaultProxy.go_silent),
    link("silent up", FaultProxy.go_silent, direction="up"),
    link("silent down", FaultProxy.go_silent, direction="down"),
    link("reset", FaultProxy.reset),
    # A reset tells both ends at once: the direction says only whose bytes it waits for, and in a
    # handshake the request's come first.
    link("reset down", FaultProxy.reset, direction="down", states=("handshake",)),
    link("half-close", FaultProxy.half_close, direction="down"),
    link("half-close up", FaultProxy.half_close, direction="up"),
    link("stall 0.3 s", FaultProxy.stall, told=None, seconds=0.3),
    link("stall 4 s", FaultProxy.stall, seconds=4.0),
    link("stall 4 s up", FaultProxy.stall, seconds=4.0, direction="up"),
    link("stall 4 s down", FaultProxy.stall, seconds=4.0, direction="down"),
    link("throttle", FaultProxy.throttle, told=None, heals=1.0, bytes_per_second=1500.0),
    *(
        link(
            f"throttle {way}",
            FaultProxy.throttle,
            told=None,
            heals=1.0,
            bytes_per_second=1500.0,
            direction=way,
        )
        for way in ("up", "down")
    ),
    link("truncate", FaultProxy.truncate),
    link("truncate up", FaultProxy.truncate, direction="up"),
    link("corrupt", _corrupt, told=garbled),
    link("corrupt up", _corrupt, told=None, direction="up"),
)

DIALS: tuple[Row, ...] = (
    REFUSED,
    delay("late 0.3 s", 0.3, None),
    delay("late 4 s", 4.0, ended),
    answer("401", 401),
    answer("403", 403),
    answer("407", 407),
    answer("429", 429),
    answer("429 after 1", 429, Retry_After="1"),
    answer("503", 503),
    answer("503 after 1", 503, Retry_After="1"),
    answer("redirect", 307, Location="http://127.0.0.1:1/elsewhere"),
)

CLOSES: tuple[Row, ...] = (
    close(1000),
    close(1001),
    close(1008),
    close(1008, "token expired", name="1008 token"),
    close(1011),
    close(1012),
    close(1013),
    close(4401),
    close(4403),
    close(None),
    close(1000, name="close up", direction="up"),
)

ROWS: tuple[Row, ...] = LINKS + DIALS + CLOSES

_SENDABLE = [code for code in CLOSE_CODES if code not in (1004, 1005, 1006, 1015)]

EVERY_CLOSE: tuple[Row, ...] = tuple(
    close(code)
    for code in [*_SENDABLE, 3999, 4999]
    if f"close {code}" not in {r.name for r in ROWS}
)
"""The codes that are left: alike in kind, so the short selection goes without them."""

EVERY_STATUS: tuple[Row, ...] = tuple(
    answer(str(status), status)
    for status in [*UPGRADE_STATUSES, 204, 418, 500, 502, 520]
    if status != 101 and str(status) not in {row.name for row in ROWS}
)
