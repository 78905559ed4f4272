"""The examination: all steps in order, within one limit of time, each after what it needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from dromos._driver.endpoint import shown
from dromos.doctor.finding import Finding, Report, failed, skipped
from dromos.doctor.listener import Listener
from dromos.doctor.name import look_up
from dromos.doctor.proxy import pass_proxy
from dromos.doctor.reach import connect
from dromos.doctor.subject import Found, Subject
from dromos.doctor.talk import close, ping
from dromos.doctor.tls import secure
from dromos.doctor.token import obtain
from dromos.doctor.upgrade import upgrade

__all__ = ["STEPS", "examine"]

STEPS: Final = ("DNS", "TCP", "proxy", "TLS", "token", "handshake", "ping", "close")

SILENCE: Final = {
    "DNS": "the name server did not answer: look at /etc/resolv.conf, and at the network",
    "TCP": "a firewall drops what is sent there, or the machine is down",
    "proxy": "the proxy did not answer: is this the proxy's port, and is it a proxy for HTTP?",
    "TLS": "does this port speak TLS? If it does and is slow, try a longer --timeout",
    "token": "is the source of tokens up, and reachable? If it is slow, try a longer --timeout",
    "handshake": "it takes connections and does not answer: is it overloaded, or no WebSocket? If "
    "it is slow, try a longer --timeout",
    "ping": "try a longer --timeout",
    "close": "try a longer --timeout",
}
"""What to do about a step that came to no end in its time."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A step, those without which it has no sense, and what share of all time it may take.

    On the way to the far side it is half of it: the token, which comes after, is fetched
    from somewhere else, and says as much.
    """

    name: str
    act: Callable[[], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    share: float = 1.0


async def examine(
    subject: Subject,
    *,
    within: float = 30.0,
    tell: Callable[[Finding], None] = lambda finding: None,
) -> Report:
    """Take all steps, and return what they found.

    Args:
        subject: What is to be examined.
        within: Seconds for all steps together.  Default 30.
        tell: Is called with each finding as soon as there is one.
    """
    found, listener = Found(), Listener()
    findings: list[Finding] = []
    lacking: dict[str, str] = {}
    began = asyncio.get_running_loop().time()
    try:
        for step in _plan(subject, found, listener):
            root = next((lacking[need] for need in step.needs if need in lacking), None)
            if root is None:
                finding = await _taken(step, began, within)
            else:
                finding = skipped(step.name, f"needs {root}, which failed")
            if root is not None or finding.outcome == "fail":
                lacking[step.name] = root or step.name
            findings.append(finding)
            tell(finding)
    finally:
        found.discard()
    return Report(target=shown(subject.url), findings=tuple(findings))


def _plan(subject: Subject, found: Found, listener: Listener) -> tuple[_Step, ...]:
    return (
        _Step("DNS", lambda: look_up(subject, found), share=0.5),
        _Step("TCP", lambda: connect(subject, found), ("DNS",), share=0.5),
        _Step("proxy", lambda: pass_proxy(subject, found), ("TCP",), share=0.5),
        _Step("TLS", lambda: secure(subject, found), ("TCP", "proxy"), share=0.5),
        _Step("token", lambda: obtain(subject, found)),
        _Step(
            "handshake",
            lambda: upgrade(subject, found, listener),
            ("DNS", "TCP", "proxy", "TLS", "token"),
        ),
        _Step("ping", lambda: ping(subject, found, listener), ("handshake",)),
        _Step("close", lambda: close(subject, found, listener), ("handshake", "ping")),
    )


async def _taken(step: _Step, start: float, within: float) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout_at(start + within * step.share):
            finding = await step.act()
    except TimeoutError:
        limit = (
            f"{within * step.share:g} s" if step.share < 1 else f"the {within:g} s for everything"
        )
        finding = failed(step.name, f"no end of it within {limit}", SILENCE[step.name])
    if finding.outcome == "skip":
        return finding
    return replace(finding, took=time.perf_counter() - began)
