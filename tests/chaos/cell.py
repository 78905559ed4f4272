"""One cell of the matrix: a whole bridge on real sockets, in one state, met by one fault."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dromos import (
    Bridge,
    BridgeError,
    ConnectionClosed,
    HandshakeError,
    NotConnected,
    PermanentError,
    RetryPolicy,
    Send,
    Verdict,
)
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos.dialers.picows import PicowsDialer
from dromos.dialers.websockets import WebsocketsDialer
from dromos.events import (
    AttemptFailed,
    AttemptStarted,
    BridgeEvent,
    DepartureAnnounced,
    EndDeferred,
    HandedOver,
    LinkLost,
    RenewalFailed,
    RetryScheduled,
    SessionEnded,
)
from dromos.interfaces import Dialer
from dromos.model import Message
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, FaultProxy, Gateway
from dromos.testing.far_side import FarLink
from tests.chaos.leaks import CELL, nothing_left
from tests.chaos.rows import OPENING, REFUSED, Row, State

DIALERS: dict[str, type[Dialer]] = {"picows": PicowsDialer, "websockets": WebsocketsDialer}

PATIENCE = 60.0
"""Seconds for a cell.  The longest waits on purpose: 11 s after a 429 without `Retry-After`."""

CLOSING = 30.0
"""Seconds that closing may take: its timeouts come to one, and a busy machine adds to it."""

LONG_WAIT = 3.0
"""Seconds of a wait that a quick cell takes as promised, and does not sit out."""

FLOW = 1.0
"""Seconds that messages flow on after the fault: any inbound data is life."""

SHORT = {
    "ping_interval": 0.3,
    "ping_timeout": 1.0,
    "write_timeout": 1.0,
    "close_timeout": 0.5,
    "connect_timeout": 3.0,
    "refresh_buffer": 1.0,
    "retry_policy": RetryPolicy(min_backoff=0, max_backoff=0.2, stable_after=0.2),
}

PATIENT_PINGS = {"ping_interval": 4.0, "ping_timeout": 4.0}
"""Where another link is hit than the one that serves: that one is not to be lost meanwhile."""

SHORT_LIFETIME = 4.0
NEXT_LIFETIME = 16.0
"""Seconds of the tokens in a hand-over.  The second one is short as well, since the floor
between two refreshes is a quarter of it; and long enough for one hand-over to be all."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a cell: `mark` is `+` recovered, `=` ended as the verdict says,
    `~` waits as it was told, `-` closed by us, or `!` for a broken promise; `first` is
    why it did not hold at the first try, if this is the second."""

    mark: str
    seconds: float
    why: str = ""
    first: str = ""


class Agent:
    """A handler that notes what it is called with, and answers nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.send: Send | None = None

    async def on_connect(self, send: Send) -> None:
        self.calls.append(("connect", send.link))
        self.send = send

    async def on_handover(self, send: Send) -> None:
        self.calls.append(("handover", send.link))

    async def on_message(self, message: Message) -> None:
        self.calls.append(("message", message))

    async def on_disconnect(self, error: Exception | None) -> None:
        self.calls.append(("disconnect", error))

    @property
    def messages(self) -> list[Message]:
        return [value for name, value in self.calls if name == "message"]

    def check(self) -> None:
        """`on_connect` and `on_disconnect` alternate strictly, and messages come between them."""
        is_open = False
        for number, (name, value) in enumerate(self.calls):
            if name == "connect":
                assert not is_open, f"on_connect twice: call {number} of {self.names}"
                is_open = True
            elif name == "disconnect":
                assert is_open, f"on_disconnect without a link: call {number} of {self.names}"
                is_open = False
            else:
                assert is_open, f"{name} {value!r} without a link: call {number} of {self.names}"
        assert not is_open, f"no last on_disconnect: {self.names}"

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls if name != "message"]


class Cell:
    """A gateway, a far side, a proxy between, and a session through it."""

    def __init__(self, row: Row, state: State, dialer: str = "picows", *, quick: bool) -> None:
        self.row = row
        self.state: State = state
        self.quick = quick
        self.agent = Agent()
        self.events: list[BridgeEvent] = []
        self.changed = asyncio.Event()
        self.gateway = Gateway()
        self.far = FarSide(gateway=self.gateway, on_message=self._answer, close_timeout=0.5)
        self.patience = PATIENCE
        self._dialer = dialer
        self._tag = object()  # not the cell itself: it would hold its own tasks
        self._hit_at = 0  # how many events there were
        self._hit_link: int | None = None  # the old one, where that is meant
        self._on_event: Callable[[BridgeEvent], None] | None = None
        self._sent = 0

    def __repr__(self) -> str:
        return f"{self.row.name} × {self.state}"

    # ------------------------------------------------------------ the frame

    async def run(self) -> Outcome:
        """Play it, and see that nothing is left."""
        CELL.set(self._tag)
        began = time.monotonic()
        ports: set[int] = set()
        try:
            async with asyncio.timeout(self.patience):
                mark, seconds = await self._play(ports)
            self.agent.check()
            self._check_messages()
            await nothing_left(self._tag, ports)
        except Exception as error:  # a session's own end, where none was due, included
            why = str(error).split("\n")[0] or type(error).__name__
            return Outcome(mark="!", seconds=time.monotonic() - began, why=self._tell(why))
        return Outcome(mark=mark, seconds=seconds)

    def _tell(self, why: str) -> str:
        told = [
            " ".join([type(event).__name__, *filter(None, [_error_in(event)])])
            for event in self.events
            if type(event).__name__ not in ("LatencyMeasured", "SessionStarted")
        ]
        return f"{why}\n      {', '.join(told)}\n      {self.agent.names}"

    async def _play(self, ports: set[int]) -> tuple[str, float]:
        async with (
            self.gateway,
            self.far,
            FaultProxy(self.far.url) as self.proxy,
            OAuthClient(self.gateway.url) as oauth,
        ):
            ports |= {self.gateway.port, self.far.port, self.proxy.port}
            hands_over = self.state in ("next link", "old link")
            record = self.gateway.add("c-1", lifetime=SHORT_LIFETIME if hands_over else 3600)
            options = SHORT | (PATIENT_PINGS if hands_over else {})
            self.bridge = Bridge(
                oauth, dialer=DIALERS[self._dialer](), on_event=self._note, **options
            )
            self.session = asyncio.get_running_loop().create_task(
                self.bridge.maintain_websocket("c-1", self._url, self.agent), name="session"
            )
            record.lifetime = NEXT_LIFETIME if hands_over else 3600
            flows: list[asyncio.Task[None]] = []
            try:
                began = time.monotonic()
                if self.state == "closing":
                    mark = await self._meet_while_closing()
                else:
                    flows = await self._reach()
                    began = time.monotonic()
                    await self._hit()
                    mark = await self._end_of_it(flows)
                seconds = time.monotonic() - began
            finally:
                for flow in flows:
                    flow.cancel()
                await self.bridge.close(1)
                await asyncio.wait([self.session])
                await asyncio.gather(self.session, *flows, return_exceptions=True)
            return mark, seconds

    def _url(self, token: Any) -> str:
        return self.proxy.url

    def _note(self, event: BridgeEvent) -> None:
        self.events.append(event)
        self.changed.set()
        if self._on_event is not None:
            self._on_event(event)

    async def _until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):  # the far side's and the proxy's news
                    await self.changed.wait()

    # ------------------------------------------------------------ before the fault

    async def _reach(self) -> list["asyncio.Task[None]"]:
        """Bring the session where it is to be hit, and return what flows then."""
        if self.state in ("dialling", "handshake"):
            # The task has not run yet: the fault comes before the dial does.
            return []
        await self._exchange()
        if self.state not in ("next link", "old link"):
            await asyncio.sleep(0.3)  # the link is stable now
        start = asyncio.get_running_loop().create_task
        if self.state == "receiving":
            return [start(self._publish(), name="publish")]
        if self.state == "sending":
            return [start(self._flood(), name="flood")]
        return []

    async def _hit(self) -> None:
        """Have the fault come."""
        self._hit_at = len(self.events)
        assert not self._of(AttemptStarted, handover=True)(), "the hand-over came too soon"
        if self.state == "old link":
            self._on_event = self._hit_old_link
            await self._until(self._has_happened)
        elif self.row.kind == "dial":
            await self._spoil_dials(next=self._until_told())
            if self.state in ("idle", "receiving", "sending"):
                self.proxy.reset()
        elif self.state in OPENING:
            self.row.do(self.proxy, self.state, live=False, next=self._until_told())
        else:
            self.row.do(self.proxy, self.state, live=True)

    def _until_told(self) -> int | None:
        """For how many dials the fault is laid: until the session has been told of it once.

        On a busy machine the first dial may have been given up before.
        """
        if self.row.told is None:
            return 1
        self._on_event = self._heal_when_told
        return None

    def _heal_when_told(self, event: BridgeEvent) -> None:
        if self._errors():
            self._on_event = None
            self.proxy.heal()

    def _hit_old_link(self, event: BridgeEvent) -> None:
        if isinstance(event, AttemptStarted) and event.handover:
            # The successor has not been dialled yet: the only connection is the old one.
            self._on_event = None
            self._hit_at = len(self.events)
            self._hit_link = event.link - 1
            self.row.do(self.proxy, self.state, live=True)

    async def _spoil_dials(self, *, next: int | None) -> None:
        if self.row is REFUSED:
            if self.state == "next link":
                # Stopping it would end the old link as well.
                self.proxy.reset(direction="up", after_bytes=0, live=False, next=next)
            else:
                await self.proxy.stop()
                self._on_event = self._let_dials_in
        else:
            self.row.do(self.proxy, self.state, next=next)

    def _let_dials_in(self, event: BridgeEvent) -> None:
        if isinstance(event, AttemptFailed | SessionEnded):
            self._on_event = None
            self._start = asyncio.get_running_loop().create_task(self.proxy.start())

    async def _publish(self) -> None:
        end = time.monotonic() + FLOW
        number = 0
        while time.monotonic() < end:
            number += 1
            self.far.publish(f"number {number} " + "x" * 4000)
            await asyncio.sleep(0.02)

    async def _flood(self) -> None:
        end = time.monotonic() + FLOW
        while time.monotonic() < end:
            await self._try_to_send(f"number {self._sent} " + "x" * 4000)
            self._sent += 1
            await asyncio.sleep(0.02)

    async def _try_to_send(self, message: str) -> None:
        assert self.agent.send is not None
        with contextlib.suppress(NotConnected, ConnectionClosed):
            await self.agent.send(message)

    # ------------------------------------------------------------ after the fault

    async def _end_of_it(self, flows: list["asyncio.Task[None]"]) -> str:
        """Wait for what the fault leads to, and compare it with what the tables say."""
        await self._until(lambda: self._has_happened() or self.session.done())
        if self.row.heals is not None:
            asyncio.get_running_loop().call_later(self.row.heals, self.proxy.heal)
        error = await self._told()
        if error is not None and self.state != "old link":
            if _ends(error):
                await self._must_end(error)
                return "="
            wait = asked_to_wait(error)
            if wait is not None and await self._waits(error, wait):
                return "~"
        if flows:
            await asyncio.wait(flows)
        await self._exchange()
        assert not self.session.done(), f"it ended: {self.session!r}"
        if self.state == "old link":
            self._check_that_it_goes_on(error)
        if self.state == "next link":
            await self._until(self._of(HandedOver))
            await self._exchange()
            assert "disconnect" not in self.agent.names, "a failed successor made a gap"
        return "+"

    def _has_happened(self) -> bool:
        return bool(self.proxy.happened) or self.row is REFUSED

    async def _told(self) -> Exception | None:
        """The error that the session was told of, once it was; None if it need not be."""
        if self.row.told is None:
            return None
        await self._until(lambda: self._errors() or self.session.done())
        errors = self._errors()
        assert errors, f"nobody was told: {self.session!r}"
        return errors[0]

    def _errors(self) -> list[Exception]:
        assert self.row.told is not None
        told = AttemptFailed | LinkLost | DepartureAnnounced | RenewalFailed
        since = [event for event in self.events[self._hit_at :] if isinstance(event, told)]
        if self._hit_link is not None:
            since = [event for event in since if getattr(event, "link", None) == self._hit_link]
        errors = [event.error for event in since]
        return [error for error in errors if self.row.told(error, self.state)]

    async def _must_end(self, error: Exception) -> None:
        if self.state == "next link":
            await self._until(self._of(EndDeferred))
            assert not self.session.done(), "it ended while a link was open"
            await self._exchange()
            self.proxy.heal()
            self.proxy.reset()
        await asyncio.wait([self.session])
        end = self.session.exception()
        assert isinstance(end, PermanentError), f"it did not end in a PermanentError: {end!r}"
        cause = end.__cause__
        assert self.row.told is not None
        assert isinstance(cause, BridgeError), f"it ended for another reason: {cause!r}"
        assert self.row.told(cause, self.state), f"it ended for another reason: {cause!r}"

    async def _waits(self, error: Exception, wait: float) -> bool:
        """Whether it waits too long for us, as it must; if not, that it waits at all."""
        planned = RenewalFailed if self.state == "next link" else RetryScheduled

        def plans() -> list[Any]:
            since = self.events[self._hit_at :]
            return [each for each in since if isinstance(each, planned) and each.error is error]

        await self._until(lambda: plans() or self.session.done())
        (plan,) = plans()
        delay = plan.retry_in if isinstance(plan, RenewalFailed) else plan.delay
        assert delay >= wait, f"it waits {delay} s and was asked for {wait} s"
        return self.quick and delay > LONG_WAIT

    def _check_that_it_goes_on(self, error: Exception | None) -> None:
        """The next link is on its way: what the old one has told is announced, and no more."""
        since = self.events[self._hit_at :]
        deferred = [event.error for event in since if isinstance(event, EndDeferred)]
        ends = error is not None and _ends(error)
        assert ends == bool(deferred), f"announced as what ends the session: {deferred!r}"
        waits = [each for each in since if isinstance(each, RetryScheduled)]
        because = [each for each in waits if error is not None and each.error is error]
        assert not because, f"it waited because of a link that is being replaced: {because!r}"

    async def _meet_while_closing(self) -> str:
        """Close with the fault under way: it ends without an error, and soon."""
        await self._exchange()
        if self.row.kind == "dial":
            # The dial under way is the one that suffers.
            closing: list[asyncio.Task[None]] = []

            def close_on_dial(event: BridgeEvent) -> None:
                if isinstance(event, AttemptStarted) and not closing:
                    start = asyncio.get_running_loop().create_task
                    closing.append(start(self.bridge.close(), name="close"))

            if self.row is REFUSED:
                self._on_event = close_on_dial
                await self.proxy.stop()
            else:
                self.row.do(self.proxy, self.state, next=None)
                self._on_event = close_on_dial
                self.proxy.reset()
            await self._until(lambda: closing)
            began = time.monotonic()
            await asyncio.wait(closing)
        else:
            self.row.do(self.proxy, self.state, live=True)
            if self.row.heals is not None:
                asyncio.get_running_loop().call_later(self.row.heals, self.proxy.heal)
            began = time.monotonic()
            await self.bridge.close()
        await asyncio.wait([self.session])
        assert self.session.exception() is None, f"it ended in {self.session.exception()!r}"
        took = time.monotonic() - began
        assert took < CLOSING, f"closing took {took:.1f} s"
        return "-"

    async def _exchange(self) -> None:
        """Get a message there and another one back, both written from now on."""
        number = len(self.events)
        await self._until(lambda: self.agent.send or self.session.done())
        while not self.session.done():
            number += 1
            probe = f"probe {number} {time.monotonic()}"
            if self.agent.send is not None:
                await self._try_to_send(probe)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await self._until(
                        lambda probe=probe: f"answer to {probe}" in self.agent.messages
                    )  # type: ignore[misc]
                    return
        self.session.result()
        raise AssertionError("the session was closed")

    def _answer(self, link: FarLink, message: Message) -> None:
        if isinstance(message, str) and message.startswith("probe"):
            link.send(f"answer to {message}")

    def _check_messages(self) -> None:
        """What came is in order, without repetition, at both ends."""
        for messages in ([*self.agent.messages], *(link.received for link in self.far.links)):
            numbers = [int(str(each).split()[1]) for each in messages if "number" in str(each)]
            for earlier, later in pairwise(numbers):
                assert earlier < later, f"{later} came after {earlier}"

    def _of(self, kind: type[BridgeEvent], **facts: Any) -> Callable[[], bool]:
        """A condition: such an event has come."""
        return lambda: any(
            isinstance(event, kind)
            and all(getattr(event, name) == value for name, value in facts.items())
            for event in self.events
        )


def _ends(error: Exception) -> bool:
    """Whether its verdict ends a session."""
    verdict = judge(error, stage=_stage(error), worked=True, rejected=False)
    return verdict in (Verdict.PERMANENT, Verdict.INTERACTION)


def _stage(error: Exception) -> Stage:
    return Stage.DIAL if isinstance(error, HandshakeError) else Stage.LINK


def _error_in(event: BridgeEvent) -> str:
    error = getattr(event, "error", None)
    return "" if error is None else f"({error})"
