"""Ends sessions together: politely, and those that take too long at once."""

import asyncio
from collections.abc import Sequence

from dromos._driver.session import Session

__all__ = ["end"]


async def end(sessions: Sequence[Session], within: float, *, at_last: float | None = None) -> None:
    """End sessions, and return when all are over but those that call this.

    Args:
        sessions: Which.
        within: Seconds after which the callbacks that are left are cancelled, and links
            are closed within what `at_last` says.
        at_last: Seconds for those links.  None (default) is their `close_timeout`.
    """
    here = asyncio.current_task()
    # Somebody drains these, with a limit of their own: to end them sooner would cost messages.
    draining = [session.ended for session in sessions if session.is_flushing]
    for session in sessions:
        if at_last is not None:
            session.limit_close(at_last)
        session.stop()
    # A handler that ends its own session can't wait for that.
    others = [session for session in sessions if not session.owns(here)]
    if draining and not any(session.owns(here) for session in sessions):
        await asyncio.wait(draining)
    if others:
        await asyncio.wait([session.ended for session in others], timeout=within)
    late = [session for session in others if not session.ended.done()]
    for session in late:
        session.stop_now()
    if late:
        await asyncio.wait([session.ended for session in late])
