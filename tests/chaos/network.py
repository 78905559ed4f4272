"""Two machines with a cable between them, on one: network namespaces without names.

A namespace belongs to a thread and to what it starts, and goes with the last of them:
nothing is left on the machine, however the test ends.
"""

import asyncio
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from dromos.testing import FarSide

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

NEAR, FAR, MOVED = "198.18.0.1", "198.18.0.2", "198.18.0.3"  # RFC 2544: for tests
NEAR_TUN, FAR_TUN = "198.19.0.1", "198.19.0.2"

PROMOTE = "/proc/sys/net/ipv4/conf/all/promote_secondaries"

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


class Namespace:
    """A network of its own, and the thread that lives in it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "namespace")
        try:
            self.tid = self._thread.submit(_leave_the_network).result()
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def call(self, work: Callable[[], T]) -> T:
        """Run something in it, and return its result."""
        if threading.get_native_id() == self.tid:
            return work()
        return self._thread.submit(work).result()

    def run(self, *command: str, stdin: str = "") -> None:
        """Run a command in it.

        Raises:
            OSError: If it failed; with what it said.
        """

        def work() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                env={"PATH": SEARCHED},
            )

        done = self.call(work)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

    def close(self) -> None:
        """End its thread, and with it the network."""
        self._thread.shutdown()


def _leave_the_network() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    return threading.get_native_id()


class Cable:
    """A near and a far namespace, and what can happen to the cable between them."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.near = Namespace()
            stack.callback(self.near.close)
            self.far = Namespace()
            stack.callback(self.far.close)
            # Or an address would take the ones that were added later with it.
            self.near.call(lambda: Path(PROMOTE).write_text("1"))
            add = ("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable")
            self.near.run(*add, "netns", str(self.far.tid))
            for end, address in ((self.near, NEAR), (self.far, FAR)):
                end.run("ip", "addr", "add", f"{address}/24", "dev", "cable")
                end.run("ip", "link", "set", "cable", "up")
            self._stack = stack.pop_all()

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self, *hooks: str, verdict: str = "drop") -> None:
        """Drop every packet at the far end: `"input"` on its way there, `"output"` back."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; "
            f"{'i' if hook == 'input' else 'o'}ifname cable {verdict}; }}\n"
            for hook in hooks
        )
        self.far.run("nft", "-f", "-", stdin=f"table inet cut {{\n{chains}}}\n")

    def mend(self) -> None:
        """Let packets through again."""
        self.far.run("nft", "delete", "table", "inet", "cut")

    def move(self) -> None:
        """Give the near end another address."""
        self.near.run("ip", "addr", "add", f"{MOVED}/24", "dev", "cable")
        self.near.run("ip", "addr", "del", f"{NEAR}/24", "dev", "cable")

    def set_link(self, state: str) -> None:
        """Take the near end's interface `"down"` or `"up"`."""
        self.near.run("ip", "link", "set", "cable", state)

    def play(
        self, scene: Callable[[FarSide], Awaitable[None]], *, host: str = FAR, **options: Any
    ) -> None:
        """Run a scene at the near end, with a far side at the other one."""
        far_side = FarSide(host=host, close_timeout=0.5, **options)
        server = far_side.threaded()
        # The server's thread inherits the namespace of the one that starts it.
        self.far.call(server.__enter__)
        try:

            async def main() -> None:
                await scene(far_side)

            self.near.call(lambda: asyncio.run(main()))
        finally:
            server.__exit__(None, None, None)


class Carrier:
    """A second way between the two ends, whose packets a thread of ours carries.

    Attributes:
        loss: The share of packets that are lost.
        delay: Seconds that each takes, at least.
        jitter: Seconds that it may take on top: packets overtake each other.
        largest: Bytes of a packet; bigger ones vanish without a word.
        carried: How many arrived.
        lost: How many did not.
    """

    def __init__(self, cable: Cable, *, seed: int = 1) -> None:
        self.loss = 0.0
        self.delay = 0.0
        self.jitter = 0.0
        self.largest = 2**16
        self.carried = 0
        self.lost = 0
        self._chance = random.Random(seed)
        self._ends = (
            _open_tun(cable.near, f"{NEAR_TUN}/24"),
            _open_tun(cable.far, f"{FAR_TUN}/24"),
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="carrier", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Carrier":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._stopped.is_set():
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                _, _, end, packet = heapq.heappop(under_way)
                os.write(end, packet)
                self.carried += 1
            wait = min(0.02, under_way[0][0] - now) if under_way else 0.02
            readable, _, _ = select.select(self._ends, [], [], wait)
            for end in readable:
                packet = os.read(end, 2**16)
                if len(packet) > self.largest or self._chance.random() < self.loss:
                    self.lost += 1
                    continue
                count += 1
                at = time.monotonic() + self.delay + self._chance.random() * self.jitter
                other = self._ends[1 - self._ends.index(end)]
                heapq.heappush(under_way, (at, count, other, packet))


def _open_tun(namespace: Namespace, address: str) -> int:
    def work() -> int:
        end = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"air", IFF_TUN | IFF_NO_PI))
            return end
        except BaseException:
            os.close(end)
            raise

    end = namespace.call(work)
    try:
        namespace.run("ip", "addr", "add", address, "dev", "air")
        namespace.run("ip", "link", "set", "air", "up")
    except BaseException:
        os.close(end)
        raise
    return end


@cache
def why_no_cable() -> str | None:
    """Why this machine allows no namespaces of ours; None if it does."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool, path=SEARCHED) is None:
            return f"there is no `{tool}` (Debian: apt-get install {package})"
    try:
        with Cable() as cable:
            cable.cut("input")
            cable.mend()
    except OSError as error:
        return f"this machine does not let us: {error}"
    return None


@cache
def why_no_carrier() -> str | None:
    """Why this machine allows no TUN device; None if it does."""
    if (why := why_no_cable()) is not None:
        return why
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    try:
        with Cable() as cable, Carrier(cable):
            pass
    except OSError as error:
        return f"this machine does not let us: {error}"
    return None
