"""Ends sessions together: politely, and those that take too long at once."""

import asyncio
from collections.abc import Collection, Sequence

from dromos._driver.session import Session

__all__ = ["end"]


async def end(
    sessions: Sequence[Session], within: float, *, at_last: float | None = None
) -> list[Session]:
    """End sessions, and return when all are over but those that call this.

    Args:
        sessions: Which.
        within: Seconds after which the callbacks that are left are cancelled, and links
            are closed within what `at_last` says.  For a session that is being drained they
            count from the end of that.
        at_last: Seconds for those links, and no drain is waited for.  None (default) is their
            `close_timeout`, after a drain.

    Returns:
        Those that took too long, and were cut short.
    """
    here = asyncio.current_task()
    for session in sessions:
        if at_last is not None:
            session.limit_close(at_last)
        session.stop()
    # A handler that ends its own session can't wait for that.
    others = [session for session in sessions if not session.owns(here)]
    # Somebody drains these, with a limit of their own: to end them sooner would cost messages.
    draining = {session for session in others if session.is_flushing and at_last is None}
    try:
        late = await _ended([session for session in others if session not in draining], within)
        for session in draining:
            await session.flushed()
        return late + await _ended(draining, within)
    except asyncio.CancelledError:
        # Whoever is in a hurry gets a quick end, not sessions that go on by themselves.
        for session in sessions:
            if not session.is_flushing:
                session.stop_now()
        raise


async def _ended(sessions: Collection[Session], within: float) -> list[Session]:
    """Wait until these are over, and return those that had to be hurried up after that time."""
    if not sessions:
        return []
    await asyncio.wait([session.ended() for session in sessions], timeout=within)
    late = [session for session in sessions if not session.is_over]
    for session in late:
        session.stop_now()
    if late:
        await asyncio.wait([session.ended() for session in late])
    return late
