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


@dataclass(frozen=True, slots=True)
class _Step:
    """A step, and those without which it has no sense."""

    name: str
    act: Callable[[], Awaitable[Finding]]
    needs: tuple[str, ...] = ()


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
    deadline = asyncio.get_running_loop().time() + within
    try:
        for step in _plan(subject, found, listener):
            root = next((lacking[need] for need in step.needs if need in lacking), None)
            if root is None:
                finding = await _taken(step, deadline, within)
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
        _Step("DNS", lambda: look_up(subject, found)),
        _Step("TCP", lambda: connect(subject, found), ("DNS",)),
        _Step("proxy", lambda: pass_proxy(subject, found), ("TCP",)),
        _Step("TLS", lambda: secure(subject, found), ("TCP", "proxy")),
        _Step("token", lambda: obtain(subject, found)),
        _Step(
            "handshake",
            lambda: upgrade(subject, found, listener),
            ("DNS", "TCP", "proxy", "TLS", "token"),
        ),
        _Step("ping", lambda: ping(subject, found, listener), ("handshake",)),
        _Step("close", lambda: close(subject, found, listener), ("handshake", "ping")),
    )


async def _taken(step: _Step, deadline: float, within: float) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout_at(deadline):
            finding = await step.act()
    except TimeoutError:
        finding = failed(
            step.name,
            f"no end of it within the {within:g} s for everything",
            "try a longer --timeout",
        )
    if finding.outcome == "skip":
        return finding
    return replace(finding, took=time.perf_counter() - began)
