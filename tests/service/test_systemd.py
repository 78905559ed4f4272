"""What a service manager hears: on real datagram sockets, from real processes."""

import asyncio
import contextlib
import signal
import socket
import uuid

import pytest

from dromos import Bridge
from dromos.service.pulse import Pulse
from dromos.service.systemd import Notifier
from tests.driver.harness import Stage, until
from tests.service.processes import agent, world


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address):
        self.address = address
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    async def listen(self, condition):
        """Take datagrams until what was heard fulfils a condition."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while not condition(self.heard):
                datagram = await loop.sock_recv(self._socket, 4096)
                self.heard += datagram.decode().split("\n")

    def take(self):
        """Return what was heard since the last time."""
        heard, self.heard = self.heard, []
        while True:
            try:
                heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return heard


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@dromos-{uuid.uuid4()}"
    with Manager(address) as it:
        yield it


# --- From a process -------------------------------------------------------------------------------


async def test_a_service_tells_that_it_is_ready_alive_and_stopping(manager):
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    async with world() as (gateway, far), agent("Agent", gateway, far, **env) as it:
        await manager.listen(lambda heard: "READY=1" in heard)
        await manager.listen(lambda heard: "STATUS=1 of 1 sessions open" in heard)
        await manager.listen(lambda heard: heard.count("WATCHDOG=1") >= 3)
        it.signal(signal.SIGTERM)
        await manager.listen(lambda heard: "STOPPING=1" in heard)
        status = await it.end()

    assert 0 == status, it.told
    assert 1 == manager.heard.count("READY=1")
    stopping = manager.heard.index("STOPPING=1")
    assert manager.heard[stopping + 1].startswith("EXTEND_TIMEOUT_USEC=")


@pytest.mark.slow  # a watchdog is a matter of time
async def test_a_loop_that_is_blocked_does_not_feed_the_watchdog(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager:
        env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
        async with world() as (gateway, far), agent("Blocking", gateway, far, **env) as it:
            await manager.listen(lambda heard: "WATCHDOG=1" in heard)
            (await far.wait_for_link()).send("block")
            await it.until_it_says("blocked")
            manager.take()
            await asyncio.sleep(1)
            heard = manager.take()

    assert [] == heard


async def test_without_a_manager_nothing_is_told_and_nothing_fails():
    env = {"NOTIFY_SOCKET": "/nowhere/at/all"}
    async with world() as (gateway, far), agent("Agent", gateway, far, **env) as it:
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        status = await it.end()

    assert 0 == status, it.told


# --- One beat at a time ---------------------------------------------------------------------------


@contextlib.contextmanager
def pulse_to(address, bridge):
    """A pulse that tells this manager of a bridge."""
    with contextlib.closing(Notifier(address)) as notifier:
        yield Pulse(bridge, notifier)


@pytest.fixture
def ear(tmp_path):
    with Manager(str(tmp_path / "notify")) as it:
        yield it


@pytest.mark.looptime
async def test_the_start_is_put_off_until_every_session_has_a_token(ear):
    it = Stage()
    it.tokens.takes = 30
    session = it.start(initial_token="retry")
    with pulse_to(ear.address, it.bridge) as pulse:
        await asyncio.sleep(1)
        pulse.beat()
        before = ear.take()
        await until(lambda: it.handler.sends)
        pulse.beat()
        pulse.beat()
        after = ear.take()
    await it.bridge.close()
    await session

    assert ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=10000000", "STATUS=0 of 1 sessions open"] == before
    assert ["WATCHDOG=1", "READY=1", "STATUS=1 of 1 sessions open", "WATCHDOG=1"] == after


@pytest.mark.looptime
async def test_a_session_that_has_stalled_does_not_feed_the_watchdog(ear):
    it = Stage()
    session = it.start()
    await until(lambda: it.handler.sends)
    running = next(iter(it.bridge._sessions.values()))
    running._timer.cancel()
    running._timer = None
    with pulse_to(ear.address, it.bridge) as pulse:
        pulse.beat()
    heard = ear.take()
    await it.bridge.close()
    await session

    assert "WATCHDOG=1" not in heard
    assert "STATUS=1 of 1 sessions open, 1 stalled" in heard


@pytest.mark.looptime
async def test_a_drain_that_takes_long_puts_the_end_off(ear):
    async def deaf(link):
        link.stop_reading()
        await link.wait_closed()

    it = Stage(far_side=deaf)
    session = it.start()
    await until(lambda: it.handler.sends)
    it.handler.sends[0]("never read")
    draining = asyncio.create_task(it.bridge.drain(10))
    await asyncio.sleep(1)
    with pulse_to(ear.address, it.bridge) as pulse:
        pulse.beat()
    heard = ear.take()
    await asyncio.wait([draining, session])

    assert isinstance(draining.exception(), TimeoutError)
    assert [
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=10000000",
        "STATUS=draining: 1 sessions left",
    ] == heard


@pytest.mark.looptime
async def test_what_could_not_be_told_is_told_with_the_next_beat(tmp_path):
    it = Stage()
    session = it.start()
    await until(lambda: it.handler.sends)
    address = str(tmp_path / "notify")
    with pulse_to(address, it.bridge) as pulse:
        pulse.beat()  # the manager is not there yet
        with Manager(address) as manager:
            pulse.beat()
            heard = manager.take()
    await it.bridge.close()
    await session

    assert ["WATCHDOG=1", "READY=1", "STATUS=1 of 1 sessions open"] == heard


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_heard_of_in_the_environment(environ, watchdog):
    assert watchdog == Notifier.of(environ, pid=7).watchdog


def test_an_address_of_another_kind_is_left_alone():
    notifier = Notifier.of({"NOTIFY_SOCKET": "vsock:2:1234"}, pid=7)

    assert not notifier.is_heard
    assert notifier.tell("READY=1")


@pytest.mark.looptime
async def test_where_nobody_listens_the_pulse_is_over_at_once():
    async with asyncio.timeout(0.1):
        await Pulse(Bridge(Stage().tokens), Notifier(None)).beat_on()
