"""What picows tells in odd ways: through its logger, and in a future that nobody awaits."""

from collections.abc import Callable
from contextlib import suppress

from picows import WSTransport

__all__ = ["EngineLog", "retrieve"]


class EngineLog:
    """The logger that picows gets.  It writes nothing.

    picows logs handshake headers and payloads, and its other lines say nothing
    that an event does not.  But one thing it says nowhere else in time: that its
    parser found an error and has sent a CLOSE.
    """

    __slots__ = ("gave_up",)

    def __init__(self) -> None:
        self.gave_up: Callable[[], None] | None = None

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Return False, which also spares picows the formatting."""
        return False

    def log(self, *args: object, **kwargs: object) -> None:
        """Drop a line."""

    debug = info = warning = log

    def error(self, *args: object, **kwargs: object) -> None:
        """Tell the link that picows is ending it."""
        if self.gave_up is not None:
            self.gave_up()

    exception = error


def retrieve(transport: WSTransport) -> None:
    """Take the exception out of picows' future, or asyncio will log that nobody did.

    It has been set by now, so the coroutine that waits for it needs no task.
    """
    with suppress(StopIteration, Exception):
        transport.wait_disconnected().send(None)
