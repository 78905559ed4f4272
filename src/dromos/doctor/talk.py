"""The last two steps, on the open link: a ping and its answer, and a close that is answered."""

import asyncio
import time
from typing import Final

from dromos._outlook import verdict_on_end
from dromos.doctor.finding import NAME_A_SOURCE, Finding, failed, passed, skipped, warned
from dromos.doctor.listener import Listener
from dromos.doctor.subject import Found, Subject
from dromos.errors import ConnectionClosed
from dromos.model import Verdict

__all__ = ["answered", "close", "ping"]

SLOW: Final = 1.0
ENDS: Final = {
    Verdict.AUTHENTICATION: "it upgraded first, and then did not take the token: is it for this "
    "far side?",
    Verdict.PERMANENT: "a bridge takes this for permanent, and ends: ask who runs the far side",
}
"""What to do about a far side that hangs up, by what a session would make of it."""

FORBIDDEN: Final = (1008, 3003, 4003, 4403)
"""Close codes that a far side may have for whoever shows no token."""


async def ping(subject: Subject, found: Found, listener: Listener) -> Finding:
    """Send a ping, and wait for its answer."""
    if found.link is None:
        return skipped("ping", "needs a token")
    began = time.perf_counter()
    found.link.ping(b"dromos doctor")
    waiting = (listener.pong, listener.closed)
    await asyncio.wait(waiting, timeout=subject.ping_timeout, return_when=asyncio.FIRST_COMPLETED)
    took = time.perf_counter() - began
    if listener.pong.done():
        return answered(took, listener.messages)
    if listener.closed.done():
        found.link.close()  # where the far side only announced it, it waits for our answer
        return _hung_up(listener.closed.result(), subject, found)
    return failed(
        "ping",
        f"no answer to a ping within {subject.ping_timeout:g} s",
        "RFC 6455, 5.5.2 wants one: a bridge would take this link for dead and replace it again "
        "and again; ping_interval=None turns that off",
    )


def answered(took: float, messages: int) -> Finding:
    """Return what an answer after so many seconds means."""
    came = f"; {messages} messages came meanwhile" if messages else ""
    said = f"answered after {took * 1000:.1f} ms{came}"
    facts = {"seconds": round(took, 6), "messages": messages}
    if took >= SLOW:
        advice = "the far side or the way to it is slow: is ping_timeout (20 s) enough on bad days?"
        return warned("ping", said, advice, **facts)
    return passed("ping", said, **facts)


def _hung_up(error: ConnectionClosed, subject: Subject, found: Found) -> Finding:
    verdict = verdict_on_end(error)
    wants_token = verdict is Verdict.AUTHENTICATION or error.code in FORBIDDEN
    if wants_token and found.token is None and not subject.has_secret:
        found.link = None
        return warned("ping", f"{error}: it wants a token", NAME_A_SOURCE, code=error.code)
    return failed(
        "ping",
        str(error),
        ENDS.get(verdict, "the far side ends links right after they open: its log says why"),
        hopeless=verdict is Verdict.PERMANENT,
        code=error.code,
    )


async def close(subject: Subject, found: Found, listener: Listener) -> Finding:
    """Close with 1000, and wait for the far side to answer."""
    if found.link is None:
        return skipped("close", "needs a token")
    found.link.close(1000)
    await asyncio.wait((listener.closed,), timeout=subject.close_timeout)
    if not listener.closed.done():
        return warned(
            "close",
            f"our CLOSE was not answered within {subject.close_timeout:g} s",
            "a bridge waits close_timeout for it, then aborts: shutting down takes so much longer",
        )
    error = listener.closed.result()
    if error.code == 1000:
        return passed("close", "closed with 1000, and the far side answered", code=1000)
    return warned(
        "close",
        f"our CLOSE was answered with the end of the connection ({error.code})",
        "RFC 6455, 5.5.1 wants a CLOSE in answer; nothing else comes of it",
        code=error.code,
    )
