"""The Go original's own tests on real sockets (its rows, our behaviour), and its defects.

Rows are named as in the study of the original: 5.1 by test, defects by number.
Defects that other tests show carry the number in those tests' docstrings; the
last test here makes sure that none is left out.
"""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from dromos import (
    Bridge,
    ConnectionClosed,
    HandshakeError,
    NotConnected,
    PermanentError,
    RetryPolicy,
    TokenError,
)
from dromos.events import (
    Disconnected,
    HandedOver,
    LatencyMeasured,
    LinkLost,
    LinkOpened,
    RetryScheduled,
    TokenObtained,
)
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, Gateway
from dromos.testing.memory import FarEnd
from tests.driver.harness import Counts, Notes, Stage, Tokens, until

QUICK = RetryPolicy(min_backoff=0.2, max_backoff=0.4)


class Live:
    """A bridge with a real gateway and a real far side."""

    def __init__(self, **options: Any) -> None:
        self.gateway = Gateway()
        self.far = FarSide(gateway=self.gateway)
        self.options = options
        self.metrics = Counts()
        self.handler = Notes()
        self.events: list[Any] = []
        self.changed = asyncio.Event()

    async def __aenter__(self) -> "Live":
        await self.gateway.__aenter__()
        self.gateway.add("c-1", lifetime=3600)
        await self.far.__aenter__()
        self.oauth = OAuthClient(self.gateway.url)
        self.options.setdefault("retry_policy", QUICK)
        self.bridge = Bridge(self.oauth, metrics=self.metrics, on_event=self.note, **self.options)
        self.task: asyncio.Task[None] | None = None
        return self

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def start(self) -> "asyncio.Task[None]":
        self.task = asyncio.get_running_loop().create_task(
            self.bridge.maintain_websocket("c-1", self.far.url, self.handler)
        )
        return self.task

    async def wait(self, condition: Any, within: float = 10.0) -> None:
        """Wait for something to hold, which can only change with an event."""
        async with asyncio.timeout(within):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def of(self, kind: Any) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def __aexit__(self, *_: object) -> None:
        await self.bridge.close()
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        await self.oauth.aclose()
        await self.far.__aexit__(None, None, None)
        await self.gateway.__aexit__(None, None, None)


# ---------------------------------------------------------------- 5.1


async def test_permanent_token_error() -> None:
    """5.1 TestBridge_PermanentTokenError: the first token fails; status 0."""
    async with Live() as live:
        live.gateway.set_status("c-1", "pending")

        with pytest.raises(PermanentError):
            await live.start()

        assert 0.0 == live.metrics.status
        assert 0 == live.metrics.connections


async def test_permanent_close_code() -> None:
    """5.1 TestBridge_PermanentCloseCode: 1008; one connection, one disconnect."""
    async with Live() as live:
        live.far.accept_then_close(1008, "policy")

        with pytest.raises(PermanentError):
            await live.start()

        assert (1, 1) == (live.metrics.connections, live.metrics.disconnects)


async def test_connection_drop_and_reconnect() -> None:
    """5.1 TestBridge_ConnectionDropAndReconnect: connect, disconnect, connect."""
    async with Live() as live:
        live.far.accept_then_drop()
        live.start()
        await live.wait(lambda: live.metrics.connections == 2)
        await live.far.wait_for_link(2)

        assert (2, 1) == (live.metrics.connections, live.metrics.disconnects)
        assert ["connect", "disconnect"] == live.handler.names[:2]


async def test_context_cancellation() -> None:
    """5.1 TestBridge_ContextCancellation, and its gap: the close frame and on_disconnect."""
    async with Live() as live:
        task = live.start()
        await live.wait(lambda: live.of(LinkOpened))
        link = await live.far.wait_for_link(1)
        began = time.monotonic()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

        assert time.monotonic() - began < 5
        assert 0.0 == live.metrics.status
        assert 1000 == link.close_code
        assert "disconnect" == live.handler.names[-1]


async def test_happy_path() -> None:
    """5.1 TestBridge_HappyPath: on_connect once, one connection, status 1."""
    async with Live() as live:
        live.start()
        await live.far.wait_for_link(1)
        await live.wait(lambda: live.metrics.connections == 1)

        assert 1.0 == live.metrics.status


async def test_message_size_limit() -> None:
    """5.1 TestBridge_MessageSizeLimit, and its gap: which error, and what comes next."""
    async with Live(message_size_limit=1024) as live:
        task = live.start()
        link = await live.far.wait_for_link(1)
        link.send("x" * 2048)
        await live.wait(lambda: live.of(Disconnected))

        error = live.of(Disconnected)[0].error
        assert isinstance(error, ConnectionClosed)
        assert (1009, False) == (error.code, error.by_peer)
        assert not task.done(), "limited: it is tried again"


def test_options() -> None:
    """5.1 TestBridge_Options: message size, write timeout, ping interval are taken."""
    bridge = Bridge(Tokens(), message_size_limit=1234, write_timeout=5, ping_interval=45)

    assert (1234, 5, 45) == (
        bridge._options["message_size_limit"],
        bridge._options["write_timeout"],
        bridge._options["ping_interval"],
    )


async def test_token_refresh_without_disconnect() -> None:
    """5.1 TestBridge_TokenRefreshWithoutDisconnect, B10, B13, B22.

    A deliberate difference: the refresh makes a second link, so that the far side
    learns the new token; connections and disconnects still count no gap.
    """
    async with Live(refresh_buffer=0.1) as live:
        live.gateway.add("c-1", lifetime=2)
        live.start()
        await live.wait(lambda: live.of(HandedOver))

        assert "disconnect" not in live.handler.names
        assert (1, 0, 1) == (
            live.metrics.connections,
            live.metrics.disconnects,
            live.metrics.token_refreshes,
        )
        assert 1.0 == live.metrics.status


# ---------------------------------------------------------------- defects: backoff and retry


@pytest.mark.looptime
async def test_the_backoff_is_exponential() -> None:
    """B01: flat in the original."""
    stage = Stage(retry_policy=RetryPolicy(min_backoff=0.2, max_backoff=30, jitter=0))
    stage.dialer.then(*[HandshakeError("busy", status=503) for _ in range(9)])
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()

    delays = [event.delay for event in stage.of(RetryScheduled)]
    assert [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0] == pytest.approx(delays)


@pytest.mark.looptime
@pytest.mark.parametrize("jitter", [0, 0.0, "full", 0.5])
async def test_any_jitter_is_safe(jitter: Any) -> None:
    """B02: zero jitter panics in the original."""
    stage = Stage(retry_policy=RetryPolicy(jitter=jitter))
    stage.dialer.then(HandshakeError("busy", status=503))
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()


@pytest.mark.looptime
async def test_attempts_and_time_can_be_limited_and_retry_after_is_honoured() -> None:
    """B05: no limits and no Retry-After in the original."""
    busy = [HandshakeError("busy", status=503) for _ in range(99)]
    few = Stage(retry_policy=RetryPolicy(max_attempts=4))
    few.dialer.then(*busy)
    with pytest.raises(PermanentError, match="max_attempts is 4"):
        await few.start()
    assert 4 == len(few.dialer.dials)

    short = Stage(retry_policy=RetryPolicy(max_elapsed=20))
    short.dialer.then(*busy)
    began = asyncio.get_running_loop().time()
    with pytest.raises(PermanentError, match="max_elapsed is 20 s"):
        await short.start()
    assert asyncio.get_running_loop().time() - began <= 20

    asked = Stage()
    asked.dialer.then(HandshakeError("slow down", status=429, retry_after=77.0))
    asked.start()
    await until(lambda: asked.handler.sends)
    await asked.cancel()
    assert 77.0 <= asked.of(RetryScheduled)[0].delay <= 85.0


@pytest.mark.parametrize(
    "url", ["https://x.example", "x.example", "ws://", "ws://x.example", "wss://u:pw@x.example"]
)
async def test_configuration_errors_are_raised_at_once(url: str) -> None:
    """B06: retried for ever in the original."""
    tokens = Tokens()

    with pytest.raises(ValueError, match="endpoint_url") as caught:
        await Bridge(tokens).maintain_websocket("c-1", url, Notes())

    assert "pw" not in str(caught.value)
    assert [] == tokens.gets


# ---------------------------------------------------------------- defects: the token


@pytest.mark.looptime
async def test_a_token_failure_on_a_reconnect_is_not_permanent() -> None:
    """B10: one blip of the gateway ends the original."""
    tokens = Tokens(lifetime=50)
    stage = Stage(tokens=tokens, refresh_buffer=1, renewal="keep")
    stage.start()
    await until(lambda: stage.handler.sends)
    tokens.get_errors = [TokenError("busy", status=502) for _ in range(12)]
    tokens.token = None
    await asyncio.sleep(49.5)
    stage.far.drop()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    assert not tokens.get_errors


@pytest.mark.looptime
async def test_an_expired_token_is_refreshed_before_the_dial() -> None:
    """B11: connects, disconnects, and never refreshes in the original."""
    tokens = Tokens(lifetime=-5)
    tokens.issue()
    tokens.lifetime = 3600
    stage = Stage(tokens=tokens)
    stage.start()
    await until(lambda: stage.handler.sends)
    await stage.cancel()

    assert 1 == len(tokens.refreshes)
    assert 1 == len(stage.dialer.dials)


@pytest.mark.looptime
async def test_a_failed_refresh_never_drops_a_healthy_link() -> None:
    """B13, B21: disconnects five minutes early in the original; a hung refresh blinds it."""
    tokens = Tokens(lifetime=1000)
    stage = Stage(tokens=tokens)
    stage.start()
    await until(lambda: stage.handler.sends)
    tokens.refresh_errors = [TokenError("busy", status=502, step="refresh") for _ in range(8)]
    await until(lambda: stage.of(HandedOver))
    await stage.cancel()

    assert not tokens.refresh_errors
    assert [] == [event for event in stage.of(LinkLost) if not event.released]
    assert 1 == stage.metrics.connections


@pytest.mark.looptime
@pytest.mark.parametrize("lifetime", [2, 10, 60, 300])
async def test_a_buffer_over_the_lifetime_does_not_churn(lifetime: float) -> None:
    """B14: the original connects and disconnects for ever."""
    stage = Stage(tokens=Tokens(lifetime=lifetime), refresh_buffer=300)
    stage.start()
    await asyncio.sleep(600)
    await stage.cancel()

    assert 1 == stage.metrics.connections
    assert len(stage.tokens.refreshes) <= 600 / max(1, lifetime / 4) + 1


@pytest.mark.looptime
async def test_sessions_of_one_connection_share_one_refresh() -> None:
    """B19: every agent refreshes at the same instant in the original."""
    tokens = Tokens(lifetime=1000, takes=0.5)
    stage = Stage(tokens=tokens)
    for _ in range(20):
        stage.start()
    await until(lambda: len(stage.of(HandedOver)) == 20)
    await stage.bridge.close()

    assert 1 == len(tokens.refreshes)


@pytest.mark.looptime
async def test_a_refresh_under_way_when_the_link_drops_is_not_lost() -> None:
    """B20: its result is discarded in the original."""
    tokens = Tokens(lifetime=1000)
    stage = Stage(tokens=tokens)
    stage.start()
    await until(lambda: stage.handler.sends)
    tokens.takes = 5
    await until(lambda: tokens.refreshes)
    stage.far.drop()
    await until(lambda: stage.of(HandedOver))
    await stage.cancel()

    assert 1 == len(tokens.refreshes)
    headers = [dict(handshake.headers)["Authorization"] for handshake in stage.dialer.dials]
    assert ["Bearer t1", "Bearer t1", "Bearer t2"] == headers


@pytest.mark.looptime
async def test_a_provider_that_returns_nothing_is_an_error_not_a_crash() -> None:
    """B23: a nil token crashes the original."""

    class Nothing(Tokens):
        async def get_token(self, connection_id: str, /) -> Any:
            return None

    stage = Stage(tokens=Nothing())

    with pytest.raises(PermanentError) as caught:
        await stage.start()

    assert isinstance(caught.value.__cause__, TokenError)
    assert caught.value.__cause__.malformed


# ---------------------------------------------------------------- defects: the link


@pytest.mark.looptime
@pytest.mark.parametrize("code", [1000, 1011, 1012, 1001, 1013])
async def test_a_server_that_restarts_is_waited_for(code: int) -> None:
    """B32: 1000 and 1011 end the original for good."""

    async def far_side(link: FarEnd) -> None:
        if len(stage.dialer.links) == 1:
            link.close(code)
        await link.wait_closed()

    stage = Stage(far_side=far_side)
    stage.start()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("code", "dials"), [(4401, 2), (4403, 1), (1003, 1), (1010, 1), (1002, 3), (1009, 3)]
)
async def test_codes_that_reconnecting_does_not_cure_end_the_session(code: int, dials: int) -> None:
    """B33: retried for ever in the original."""

    async def far_side(link: FarEnd) -> None:
        link.close(code)
        await link.wait_closed()

    stage = Stage(far_side=far_side)
    task = stage.start()
    await asyncio.wait([task], timeout=7200)

    assert isinstance(task.exception(), PermanentError)
    assert dials == len(stage.dialer.dials)


@pytest.mark.looptime
async def test_a_verdict_of_ones_own_goes_first() -> None:
    """B33: the set of permanent codes is not configurable in the original."""
    from dromos import Verdict

    async def far_side(link: FarEnd) -> None:
        link.close(4777)
        await link.wait_closed()

    stage = Stage(far_side=far_side, verdicts={4777: Verdict.PERMANENT})

    with pytest.raises(PermanentError):
        await stage.start()

    assert 1 == len(stage.dialer.dials)


# ---------------------------------------------------------------- defects: sending and the handler


@pytest.mark.looptime
async def test_a_send_that_returned_was_written_and_one_that_did_not_says_so() -> None:
    """B43, B51: lost although `send` returned nil in the original."""
    stage = Stage(far_side=None)
    stage.start()
    await until(lambda: stage.handler.sends)
    send = stage.handler.sends[0]
    handed_over = 0
    for number in range(50):
        try:
            await send(str(number))
            handed_over += 1
        except NotConnected:
            break
        if number == 20:
            stage.far.close(1001)
        await asyncio.sleep(0)
    await stage.cancel()

    received = stage.dialer.links[0].far.received
    assert [str(number) for number in range(len(received))] == received
    assert handed_over >= 21


@pytest.mark.looptime
async def test_binary_and_text_go_and_come_as_what_they_are() -> None:
    """B54, B55: always text in the original."""
    stage = Stage()
    stage.start()
    await until(lambda: stage.handler.sends)
    for message in (b"\xff\xfe", "text", bytearray(b"ab"), memoryview(b"cd")):
        await stage.handler.sends[0](message)
    await until(lambda: len(stage.handler.messages) == 4)
    await stage.cancel()

    assert [b"\xff\xfe", "text", b"ab", b"cd"] == stage.handler.messages


@pytest.mark.looptime
async def test_no_message_comes_after_on_disconnect_or_into_the_next_on_connect() -> None:
    """B56, B57: eleven calls while disconnected in the original."""

    class Slow(Notes):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(0.05)
            await super().on_message(message)

        async def on_connect(self, send: Any) -> None:
            await asyncio.sleep(0.2)
            await super().on_connect(send)

    async def far_side(link: FarEnd) -> None:
        for number in range(20):
            link.send(f"{len(stage.dialer.links)}.{number}")
        await asyncio.sleep(1)
        if len(stage.dialer.links) < 3:
            link.drop()
        await link.wait_closed()

    stage = Stage(far_side=far_side, handler=Slow())
    stage.start()
    await until(lambda: len(stage.handler.messages) == 60)
    await stage.cancel()

    number, connected = 0, False
    for name, value in stage.handler.calls:
        if name == "connect":
            assert not connected
            number, connected = number + 1, True
        elif name == "disconnect":
            connected = False
        else:
            assert connected
            assert str(value).startswith(f"{number}.")


@pytest.mark.looptime
async def test_the_latency_of_a_link_is_measured() -> None:
    """B45: no measurement in the original."""
    stage = Stage(latency=0.03)
    stage.start()
    await until(lambda: stage.of(LatencyMeasured))
    await stage.cancel()

    assert 0.06 == pytest.approx(stage.of(LatencyMeasured)[0].seconds)


@pytest.mark.looptime
async def test_a_reading_of_the_same_token_changes_nothing() -> None:
    """B25: only the wall clock in the original; here a date that moves can't keep a token alive."""
    stage = Stage(tokens=Tokens(lifetime=1000))
    stage.start()
    await until(lambda: stage.handler.sends)
    stage.far.drop()
    await until(lambda: len(stage.handler.sends) == 2)
    await stage.cancel()

    assert [1, 1] == [event.generation for event in stage.of(TokenObtained)]


# ---------------------------------------------------------------- completeness

ROWS = [
    *(f"B{n:02}" for n in (1, 2, 3, 5, 6)),
    *(f"B{n}" for n in (10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 24, 25)),
    *(f"B{n}" for n in range(30, 37)),
    *(f"B{n}" for n in range(40, 46)),
    *(f"B{n}" for n in range(50, 60)),
]
"""The defects B01–B59 that concern the WebSocket path.  B04, B17, B18 are about gRPC, and
B26 about the original's documents, which our README's own test answers."""


def test_every_defect_of_the_websocket_path_has_a_test() -> None:
    """5.1 and the defect list: the row's number stands in a test's docstring."""
    here = Path(__file__).parent.parent
    told = set[str]()
    for path in here.rglob("test_*.py"):
        for text in re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL):
            told.update(re.findall(r"\bB\d\d\b", text))

    assert [] == [row for row in ROWS if row not in told]
