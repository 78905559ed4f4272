"""Between two network namespaces: what a proxy on loopback can't do to a connection."""

import asyncio
import contextlib
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from dromos import Bridge, ConnectionClosed, HandshakeError, NotConnected, RetryPolicy, Send
from dromos.events import AttemptFailed, BridgeEvent, HandedOver, LinkLost, LinkOpened
from dromos.testing import FarSide
from dromos.testing.far_side import FarLink
from tests.chaos.cell import Agent
from tests.chaos.leaks import descriptors
from tests.chaos.network import (
    FAR_TUN,
    MOVED,
    NEAR,
    SEARCHED,
    Cable,
    Carrier,
    why_no_cable,
    why_no_carrier,
)
from tests.driver.harness import Tokens

pytestmark = pytest.mark.slow  # the kernel's timeouts, and ours, are real

PATIENCE = 60.0
QUICK = {"ping_interval": 0.4, "ping_timeout": 0.4}
PATIENT = {"ping_interval": 5.0, "ping_timeout": 15.0}


@pytest.fixture
def namespaces() -> None:
    """Skip where there can't be any."""
    if (why := why_no_cable()) is not None:
        pytest.skip(why)


@pytest.fixture
def air() -> None:
    """Skip where there can't be a TUN device."""
    if (why := why_no_carrier()) is not None:
        pytest.skip(why)


@pytest.fixture
def cable(namespaces: None) -> Iterator[Cable]:
    before = descriptors()
    with warnings.catch_warnings():
        # Tokens go in clear to the other namespace, which is no loopback address.
        warnings.simplefilter("ignore", UserWarning)
        with Cable() as cable:
            yield cable
    assert descriptors() <= before


class Scene:
    """A session from one namespace to the other."""

    def __init__(self, far: FarSide) -> None:
        self.far = far
        self.agent = Agent()
        self.events: list[BridgeEvent] = []
        self.count = 0

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to hold, be it in the other thread."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"it never came to pass: {self.events}"
            await asyncio.sleep(0.02)

    async def exchange(self) -> None:
        """Get a message there and one back, in as many tries as it takes."""
        await self.until(lambda: self.agent.send)
        assert self.agent.send is not None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.count += 1
            probe = f"probe {self.count}"
            with contextlib.suppress(NotConnected, ConnectionClosed, TimeoutError):
                async with asyncio.timeout(1):
                    await self.agent.send(probe)
                    await self.until(lambda probe=probe: probe in self.agent.messages)  # type: ignore[misc]
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"no message came through: {self.events}")

    def of(self, kind: type[BridgeEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def session(far: FarSide, **options: Any) -> AsyncIterator[Scene]:
    """A bridge to the far side that has exchanged a message; closed in the end, without a trace."""
    scene = Scene(far)
    retry = RetryPolicy(min_backoff=0, max_backoff=0.3, stable_after=0.2)
    async with Bridge(
        Tokens(),
        on_event=scene.events.append,
        allow_insecure_transport=True,
        retry_policy=retry,
        connect_timeout=1,
        close_timeout=0.5,
        write_timeout=options.pop("write_timeout", 2),
        **options,
    ) as bridge:
        running = asyncio.get_running_loop().create_task(
            bridge.maintain_websocket("c-1", far.url, scene.agent)
        )
        try:
            await scene.exchange()
            yield scene
        finally:
            await bridge.close(1)
            await running
    scene.agent.check()
    assert [] == [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def peer(link: FarLink) -> str:
    """The address that a link came from."""
    address: str = link._http.writer.get_extra_info("peername")[0]
    return address


# --- A cable ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hooks",
    [("input", "output"), ("input",), ("output",)],
    ids=["both ways", "there", "back"],
)
def test_a_cut_cable_is_noticed_and_a_mended_one_used(cable: Cable, hooks: tuple[str]) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **QUICK) as on:
            cable.cut(*hooks)
            await on.until(lambda: on.of(LinkLost))
            await on.until(lambda: on.of(AttemptFailed))
            (lost,), failed = on.of(LinkLost), on.of(AttemptFailed)[0]
            assert 1006 == lost.error.code
            assert isinstance(failed.error, HandshakeError)
            assert "TRANSIENT" == failed.verdict
            cable.mend()

            await on.exchange()

    cable.play(scene, echo=True)


def test_a_cable_that_is_cut_for_a_moment_costs_no_link(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **PATIENT) as on:
            assert on.agent.send is not None
            cable.cut("input", "output")
            await on.agent.send("said into the cut cable")
            await asyncio.sleep(0.3)
            cable.mend()

            await on.until(lambda: "said into the cut cable" in on.agent.messages)
            assert 1 == len(on.of(LinkOpened))

    cable.play(scene, echo=True)


def test_a_firewall_that_resets_is_not_hammered(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **QUICK) as on:
            cable.cut("input", verdict="meta l4proto tcp reject with tcp reset")
            await on.until(lambda: on.of(AttemptFailed))
            before, began = len(on.of(AttemptFailed)), time.monotonic()
            await asyncio.sleep(2)
            tries = len(on.of(AttemptFailed)) - before
            # No wait is shorter than 0.2 s.
            assert 1 <= tries <= (time.monotonic() - began) / 0.2 + 1
            cable.mend()

            await on.exchange()

    cable.play(scene, echo=True)


def test_another_address_is_another_link(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **QUICK) as on:
            assert NEAR == peer(far.links[0])
            cable.move()

            await on.until(lambda: on.of(LinkLost))
            await on.exchange()
            assert MOVED == peer(far.links[-1])

    cable.play(scene, echo=True)


def test_an_address_change_with_a_renewal_in_time_makes_no_gap(cable: Cable) -> None:
    """An agent that knows of the change can ask for the next link while the old one stands."""

    async def scene(far: FarSide) -> None:
        on = Scene(far)
        async with Bridge(
            Tokens(), on_event=on.events.append, allow_insecure_transport=True
        ) as bridge:
            gaps: list[object] = []
            async with bridge.connect("c-1", far.url, on_disconnect=gaps.append) as connection:
                await connection.wait_open()
                await asyncio.sleep(1.1)  # a link lives a second before it is handed over
                cable.near.run("ip", "addr", "add", f"{MOVED}/24", "dev", "cable")
                cable.near.run(*f"ip route change 198.18.0.0/24 dev cable src {MOVED}".split())
                await connection.renew()
                await on.until(lambda: on.of(HandedOver))
                cable.near.run("ip", "addr", "del", f"{NEAR}/24", "dev", "cable")
                await connection.send("from the new address")
                assert "from the new address" == await connection.recv(timeout=PATIENCE)
                assert [NEAR, MOVED] == [peer(link) for link in far.links]
                assert [] == gaps

    cable.play(scene, echo=True)


def test_a_link_that_goes_down_and_up(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **QUICK) as on:
            cable.set_link("down")
            await on.until(lambda: on.of(LinkLost))
            await on.until(lambda: on.of(AttemptFailed))
            cable.set_link("up")

            await on.exchange()

    cable.play(scene, echo=True)


def test_a_link_that_goes_down_and_up_at_once_costs_nothing(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        async with session(far, **PATIENT) as on:
            cable.set_link("down")
            cable.set_link("up")

            await on.exchange()
            assert 1 == len(on.of(LinkOpened))

    cable.play(scene, echo=True)


def test_a_blocked_sender_is_freed_when_the_cable_is_cut(cable: Cable) -> None:
    """Written bytes that nobody acknowledges: `write_timeout`, not the kernel's 15 minutes."""

    async def scene(far: FarSide) -> None:
        async with session(far, **PATIENT, write_timeout=1) as on:
            assert on.agent.send is not None
            cable.cut("input", "output")
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ConnectionClosed):
                    await _flood(on.agent.send)
            assert time.monotonic() - began < 15
            cable.mend()

            await on.exchange()

    cable.play(scene, on_message=lambda link, text: len(text) < 99 and link.send(text))


async def _flood(send: Send) -> None:
    while True:
        await send(b"x" * 100_000)


# --- A bad radio link ------------------------------------------------------------------------


@pytest.mark.usefixtures("air")
def test_loss_delay_and_disorder_are_tcps_business(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        with Carrier(cable) as carrier:
            carrier.delay, carrier.jitter = 0.02, 0.03

            async with session(far, **PATIENT) as on:
                assert on.agent.send is not None
                carrier.loss = 0.05
                sent = [f"number {number}" for number in range(60)]
                for text in sent:
                    await on.agent.send(text)
                    await asyncio.sleep(0.01)
                await on.until(lambda: sent[-1] in on.agent.messages)
                assert carrier.lost, "nothing was lost"
                assert sent == [text for text in on.agent.messages if "number" in str(text)]
                assert 1 == len(on.of(LinkOpened))
                carrier.loss = 0.0

    _through_the_air(cable, scene)


@pytest.mark.usefixtures("air")
def test_a_hole_in_the_radio_is_noticed_and_left(cable: Cable) -> None:
    async def scene(far: FarSide) -> None:
        with Carrier(cable) as carrier:
            carrier.delay = 0.01
            async with session(far, **QUICK) as on:
                carrier.loss = 1.0
                await on.until(lambda: on.of(LinkLost))
                await on.until(lambda: on.of(AttemptFailed))
                carrier.loss = 0.0

                await on.exchange()

    _through_the_air(cable, scene)


@pytest.mark.usefixtures("air")
def test_where_big_packets_vanish_the_link_is_replaced_and_small_messages_go_on(
    cable: Cable,
) -> None:
    """A path MTU black hole: what is written behind a big message, pings too, never arrives."""

    async def scene(far: FarSide) -> None:
        with Carrier(cable) as carrier:
            async with session(far, **QUICK) as on:
                assert on.agent.send is not None
                carrier.largest = 700
                await on.agent.send("x" * 20_000)
                await on.until(lambda: on.of(LinkLost))

                await on.exchange()
                assert "x" * 20_000 not in on.agent.messages

    _through_the_air(cable, scene)


def _through_the_air(cable: Cable, scene: Callable[[FarSide], Any]) -> None:
    async def play(far: FarSide) -> None:
        # It listens everywhere, since the way through the air opens with the scene.
        far._host = FAR_TUN
        await scene(far)

    cable.play(play, host="0.0.0.0", echo=True)


# --- The stage itself ------------------------------------------------------------------------


@pytest.mark.usefixtures("namespaces")
def test_nothing_is_left_on_the_machine_even_if_a_scene_fails() -> None:
    before = _devices()

    async def scene(far: FarSide) -> None:
        raise ZeroDivisionError

    with Cable() as cable:
        cable.cut("input")
        with pytest.raises(ZeroDivisionError):
            cable.play(scene)

    assert before == _devices()


def _devices() -> list[str]:
    listed = subprocess.run(
        ["ip", "-br", "link"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": SEARCHED},
    )
    return sorted(line.split()[0] for line in listed.stdout.splitlines())
