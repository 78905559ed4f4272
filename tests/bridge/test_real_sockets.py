"""The bridge on real sockets: what virtual time can't show."""

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from typing import Any

import pytest

from dromos import Bridge, ConnectionClosed, HandshakeError, PermanentError, RetryPolicy
from dromos.events import AttemptFailed, Disconnected, LatencyMeasured, LinkLost, LinkOpened
from dromos.oauth import OAuthClient
from dromos.testing import FarSide, Gateway
from tests.driver.harness import Notes, Tokens
from tests.parity.test_go_bridge import Live


def test_a_resolver_that_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked up on daemon threads: `asyncio.run` returns within the close timeout."""
    asked, release = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(*args, **kwargs)  # asks nobody, so it can't hang
        asked.set()
        release.wait(60)
        raise OSError("never mind")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def main() -> float:
        bridge = Bridge(Tokens(), close_timeout=5)
        task = asyncio.get_running_loop().create_task(
            bridge.maintain_websocket("c-1", "wss://far.example/ws", Notes())
        )
        await asyncio.to_thread(asked.wait, 10)
        began = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        return began

    began = asyncio.run(main())
    took = time.monotonic() - began
    release.set()

    assert took < 5


@pytest.mark.slow  # two real seconds: the kernel's clock can't be virtual
@pytest.mark.parametrize("blocked", [False, True])
async def test_a_silent_peer_is_aborted_in_time_for_real(blocked: bool) -> None:
    """B40, B42: interval + timeout + 1 s with 1 + 1 s, with a sender blocked on it or not."""
    async with Live(ping_interval=1, ping_timeout=1, write_timeout=60) as live:
        live.start()
        await live.far.wait_for_link(1)
        await live.wait(lambda: live.handler.sends)
        live.far.go_silent()
        began = time.monotonic()
        flood = None
        if blocked:
            flood = asyncio.get_running_loop().create_task(_flood(live.handler.sends[0]))
        await live.wait(lambda: live.of(LinkLost))
        took = time.monotonic() - began
        if flood is not None:
            await asyncio.wait([flood])
            assert isinstance(flood.exception(), ConnectionClosed)

    assert took <= 3.0


async def _flood(send: Any) -> None:
    while True:
        await send(b"x" * 60_000)


@pytest.mark.parametrize(
    "state", ["waiting", "token", "dialling", "open", "handing over", "closing"]
)
async def test_cancelling_leaves_no_task_and_no_socket(state: str) -> None:
    """In each state: quickly, politely, and without a trace."""
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600 if state != "handing over" else 3)
        handler = Notes()
        reached = asyncio.Event()

        def note(event: Any) -> None:
            if isinstance(event, LinkOpened) and state in ("open", "closing"):
                reached.set()
            if isinstance(event, LinkOpened) and state == "handing over":
                # From here on every further dial hangs: the successor is on its way.
                far.hang(next=None)
            if type(event).__name__ == "AttemptStarted" and state == "dialling":
                reached.set()
            if type(event).__name__ == "AttemptStarted" and event.handover:
                reached.set()
            if type(event).__name__ == "RetryScheduled" and state == "waiting":
                reached.set()
            if type(event).__name__ == "SessionStarted" and state == "token":
                reached.set()

        if state == "waiting":
            far.refuse(next=None, status=503)
        if state == "dialling":
            far.hang(next=None)
        if state == "token":
            gateway.fail("token", hang=True)
        if state == "closing":
            far.answer_closes = False
        before = _sockets()
        tasks_before = asyncio.all_tasks()
        async with OAuthClient(gateway.url) as oauth:
            bridge = Bridge(oauth, on_event=note, refresh_buffer=1, close_timeout=2)
            task = asyncio.get_running_loop().create_task(
                bridge.maintain_websocket("c-1", far.url, handler)
            )
            async with asyncio.timeout(10):
                await reached.wait()
            await asyncio.sleep(0)
            if state == "closing":
                await far.wait_for_link(1)
                closing = asyncio.get_running_loop().create_task(bridge.close())
                await asyncio.sleep(0)
                closing.cancel()
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took = time.monotonic() - began

            mine = [
                t
                for t in asyncio.all_tasks() - tasks_before
                if t.get_name().startswith("dromos-") and "far" not in t.get_name()
            ]
            assert [] == [t for t in mine if not t.done() and "token" not in t.get_name()]
        far.heal()
        far.drop_all()
        await far.stop()
        await asyncio.sleep(0)

        assert took < 2.5
        if state in ("open", "handing over", "closing"):
            connects = handler.names.count("connect")
            assert handler.names.count("disconnect") == min(1, connects)
        if state == "open":
            assert 1000 == far.links[0].close_code
    gc.collect()
    assert _sockets() <= before


def _sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
        except OSError:
            continue
    return count


async def test_a_far_side_that_answers_garbage_is_a_handshake_error() -> None:
    async with Live() as live:
        live.far.garbage(b"\x00\x01SSH-2.0-nonsense\r\n\r\n")
        live.start()
        await live.wait(lambda: live.metrics.connections == 1)

        failed = live.of(AttemptFailed)
        assert isinstance(failed[0].error, HandshakeError)
        assert "TRANSIENT" == failed[0].verdict


async def test_a_refusal_keeps_status_headers_and_the_bodys_beginning() -> None:
    async with Live() as live:
        live.far.refuse(next=None, status=410, headers={"X-Why": "gone fishing"}, body=b"b" * 5000)

        with pytest.raises(PermanentError) as caught:
            await live.start()

        error = caught.value.__cause__
        assert isinstance(error, HandshakeError)
        assert 410 == error.status
        headers = {name.lower(): value for name, value in error.headers.items()}
        assert "gone fishing" == headers["x-why"]
        assert b"b" * 1024 == error.body


async def test_a_redirect_is_not_followed_and_names_the_origin_only() -> None:
    async with Live() as live, FarSide() as other:
        target = other.url.replace("ws", "http") + "/secret?token=abc"
        live.far.refuse(next=None, status=307, headers={"Location": target})

        with pytest.raises(PermanentError) as caught:
            await live.start()

        assert "secret" not in str(caught.value)
        assert [] == other.attempts


async def test_no_secret_is_shown_at_debug_on_any_path(caplog: pytest.LogCaptureFixture) -> None:
    """Number 1 of the negative tests, for the bridge's own paths."""
    caplog.set_level(1)
    logging.getLogger("dromos").setLevel(1)
    events: list[Any] = []
    async with Gateway() as gateway, FarSide(gateway=gateway, close_on_expiry=True) as far:
        gateway.add("c-1", lifetime=2)
        tokens: set[str] = set()
        async with OAuthClient(gateway.url) as oauth:
            changed = asyncio.Event()

            def note(event: Any) -> None:
                tokens.add(gateway.access_token("c-1"))
                events.append(event)
                changed.set()

            bridge = Bridge(
                oauth,
                on_event=note,
                logger=logging.getLogger("agent"),
                refresh_buffer=0.5,
                retry_policy=RetryPolicy(min_backoff=0.2, max_backoff=0.2),
            )
            task = asyncio.get_running_loop().create_task(
                bridge.maintain_websocket("c-1", far.url, Notes())
            )
            await far.wait_for_link(1)
            far.refuse(next=1, status=401, body=gateway.access_token("c-1").encode())
            far.drop_all()
            async with asyncio.timeout(10):
                while not any(isinstance(e, Disconnected) for e in events) or len(far.links) < 3:
                    changed.clear()
                    await changed.wait()
            task.cancel()
            await asyncio.wait([task])
    told = caplog.text + repr(events) + "".join(map(repr, caplog.records)) + repr(oauth)
    told += "".join(str(vars(record)) for record in caplog.records)

    assert tokens
    assert [] == [token for token in tokens if token in told]


def test_a_latency_below_a_millisecond_is_told_on_every_loop() -> None:
    """uvloop's own clock tells whole milliseconds, and dromos.run takes uvloop by itself."""
    uvloop = pytest.importorskip("uvloop", reason="needs the extra uvloop")

    async def measure() -> list[float]:
        found: list[float] = []
        async with FarSide() as far, Bridge(Tokens(), ping_interval=0.02) as bridge:
            async with bridge.connect("c-1", far.url) as connection:
                async for event in connection.events():
                    if isinstance(event, LatencyMeasured):
                        found.append(event.seconds)
                    if len(found) == 5:
                        break
        return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert all(0 < latency for latency in runner.run(measure()))
