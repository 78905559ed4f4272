"""The gateway and the far side of a soak, in a process of their own, with faults at random.

Reads nothing but the end of its standard input, at which it ends.
"""

import asyncio
import json
import random
import sys
import threading

from dromos.testing import FarSide, Gateway

LIFETIME = 60.0
"""Seconds that a token lives: two renewals a minute for each session."""

FAULTS = ("drop", "close", "silent", "gateway", "refuse", "hang", "restart", "corrupt")

RATE = 1.0
"""Messages a second to each link."""


async def strike(gateway: Gateway, far: FarSide, rng: random.Random) -> str:
    """Let something go wrong, and name it."""
    links = far.open_links
    some = rng.sample(links, min(len(links), rng.choice((1, 10, 50)))) if links else []
    match rng.choice(FAULTS):
        case "drop":
            for link in some:
                link.drop(rst=rng.random() < 0.5)
            return f"{len(some)} links dropped"
        case "close":
            # Not 4401: a session may rightly end when a fresh token is refused as well.
            code = rng.choice((1000, 1001, 1011, 1012, 1013, 4000))
            for link in some:
                link.close(code)
            return f"{len(some)} links closed with {code}"
        case "silent":
            for link in some:
                link.go_silent()
            return f"{len(some)} links silent"
        case "gateway":
            gateway.fail("refresh", next=20, status=rng.choice((500, 502, 503, 429)))
            return "20 refreshes refused"
        case "refuse":
            far.refuse(next=20, status=rng.choice((429, 500, 503)))
            return "20 upgrades refused"
        case "hang":
            far.hang(next=5)
            return "5 upgrades without an answer"
        case "corrupt":
            for link in some[:5]:
                link.send_raw(bytes(rng.randrange(256) for _ in range(20)))
            return "garbage on 5 links"
        case _:
            await far.stop()
            await asyncio.sleep(2)
            await far.start()
            return "the far side restarted"


async def main(sessions: int, every: float, quiet_after: float, seed: int) -> None:
    """Serve until standard input ends, with faults until it is time to be quiet."""
    rng = random.Random(seed)
    async with (
        Gateway() as gateway,
        FarSide(gateway=gateway, close_on_expiry=True, rate=RATE) as far,
    ):
        for number in range(sessions):
            gateway.add(f"c-{number}", lifetime=LIFETIME)
        say({"gateway": gateway.url, "far": far.url})
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        began = loop.time()

        def wait() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=wait, daemon=True).start()
        while not over.is_set():
            try:
                async with asyncio.timeout(every):
                    await over.wait()
            except TimeoutError:
                if loop.time() - began < quiet_after:
                    say({"fault": await strike(gateway, far, rng)})
                else:
                    gateway.heal()
                    far.heal()
            forget(gateway, far)


def forget(gateway: Gateway, far: FarSide) -> None:
    """Drop what the stand-ins remember for tests: a soak asks for none of it."""
    far.links[:] = [link for link in far.links if link.is_open]
    far.attempts.clear()
    gateway.requests.clear()
    for link in far.links:
        link.received.clear()
        link.pings.clear()


def say(what: dict[str, str]) -> None:
    """Tell the soak's own process."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    count, pause, limit, chance = sys.argv[1:]
    asyncio.run(main(int(count), float(pause), float(limit), int(chance)))
