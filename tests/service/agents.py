"""Agents that tests run as processes of their own; each tells on standard output what it did."""

import asyncio
import contextlib
import sys
import threading
import time

import dromos

MESSAGE = "x" * 1024


def tell(*words):
    print(*words, flush=True)


class Agent:
    """Says hello, and what it hears."""

    async def on_connect(self, send):
        await send("hello")
        tell("connected")

    async def on_message(self, message):
        tell("received", message)

    async def on_disconnect(self, error):
        tell("disconnected", error)


class Flood(Agent):
    """Sends until nothing is taken any more, and tells how many were."""

    async def on_connect(self, send):
        self.task = asyncio.create_task(self.flood(send))

    async def flood(self, send):
        accepted = 0
        try:
            while True:
                await asyncio.sleep(0.001)
                with contextlib.suppress(dromos.SendBufferFull):
                    written = send(MESSAGE)
                    accepted += 1
                    await written
        except dromos.NotConnected:
            tell("accepted", accepted)


class Blocking(Agent):
    """Blocks the event loop with each message, as a handler should not."""

    def on_message(self, message):
        tell("blocked")
        while True:
            time.sleep(0.05)  # Python hears of a signal between two of these


class Final(Agent):
    """Ends its session for good."""

    def on_message(self, message):
        raise dromos.PermanentError(f"I will have no {message}")


class Wrong(Agent):
    """Raises what it should not."""

    def on_message(self, message):
        raise LookupError(message)


class Cancelled(Agent):
    """Ends its session as nobody should: from outside, without being told to stop."""

    async def on_connect(self, send):
        for task in asyncio.all_tasks():
            if task.get_name() == "dromos-c-1":
                task.cancel()


class Stuck(Agent):
    """Will not be cancelled."""

    async def on_message(self, message):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


class Slow(Agent):
    """Takes its time over a message."""

    async def on_message(self, message):
        await asyncio.sleep(4)
        tell("received", message)


class InThread(Agent):
    """Does its work in a thread, which nothing can cancel."""

    async def on_message(self, message):
        await asyncio.to_thread(time.sleep, 60)


class WithThread(Agent):
    """Has begun a thread that nobody ends, and for which Python waits at its exit."""

    async def on_message(self, message):
        threading.Thread(target=time.sleep, args=(60,), name="forgotten").start()


class Nothing:
    """Has none of a handler's methods."""


def make():
    return Agent()


async def echo(bridge):
    """Do without a handler."""
    async with bridge.connect("c-1", sys.argv[-1]) as connection:
        async for message in connection:
            await connection.send(message)


async def produce(bridge):
    """Send until that is refused, and fall over it, as programs do."""
    accepted = 0
    try:
        async with asyncio.TaskGroup() as group:
            flood = Flood()
            group.create_task(bridge.maintain_websocket("c-1", sys.argv[-1], flood))
            connection = bridge.connect("c-2", sys.argv[-1])
            async with connection:
                while True:
                    await asyncio.sleep(0.001)
                    await connection.send(MESSAGE, timeout=60)
                    accepted += 1
    finally:
        tell("accepted", accepted)


async def wait_for_ever(bridge):
    """Keep a session beside what never ends by itself."""
    session = asyncio.create_task(bridge.maintain_websocket("c-1", sys.argv[-1], Agent()))
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await session
        tell("cancelled")


async def begin_another(bridge):
    """Begin another session as soon as one has ended, and fall over that."""
    await bridge.maintain_websocket("c-1", sys.argv[-1], Agent())
    await bridge.maintain_websocket("c-2", sys.argv[-1], Agent())


async def supervise_another(bridge):
    async with bridge.supervise() as group:
        await bridge.maintain_websocket("c-1", sys.argv[-1], Agent())
        group.start("c-2", sys.argv[-1], Agent())


async def cancel_a_task(bridge):
    """Cancel a task of its own once the session has ended, and await it as it is."""
    task = asyncio.create_task(asyncio.sleep(99))
    await bridge.maintain_websocket("c-1", sys.argv[-1], Agent())
    task.cancel()
    await task


async def return_at_once(bridge):
    tell(repr(bridge))


async def fail(bridge):
    raise LookupError("nothing found")


async def cancel(bridge):
    task = asyncio.create_task(asyncio.sleep(9))
    task.cancel()
    await task


async def leave(bridge):
    sys.exit(3)


async def give_up(bridge):
    async with asyncio.TaskGroup() as group:
        group.create_task(bridge.maintain_websocket("c-1", sys.argv[-1], Final()))


if __name__ == "__main__":
    from dromos.oauth import OAuthClient

    name, gateway, far = sys.argv[1:4]
    target = globals()[name]
    if isinstance(target, type):
        dromos.run(target(), tokens=OAuthClient(gateway), connection_id="c-1", endpoint_url=far)
    else:
        dromos.run(target, tokens=OAuthClient(gateway))
    tell("run returned")
