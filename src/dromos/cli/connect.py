"""Bridges standard input and output to a far side."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dromos.bridge import Bridge
from dromos.cli.lines import Lines, Printer
from dromos.cli.sources import misuse_if
from dromos.demo.words import describe, escape
from dromos.dialers.picows import PicowsDialer
from dromos.errors import (
    ConnectionClosed,
    MessageTooBig,
    NotConnected,
    PermanentError,
    SendBufferFull,
)
from dromos.events import (
    AttemptFailed,
    BridgeEvent,
    Connected,
    EndDeferred,
    Flapped,
    HandedOver,
    LinkLost,
    ReadingPaused,
    RenewalFailed,
    RetryScheduled,
)
from dromos.interfaces import Send, TokenProvider, TokenSource
from dromos.model import Message

__all__ = ["Settings", "converse"]

USUAL: Final = (
    AttemptFailed,
    Connected,
    EndDeferred,
    Flapped,
    HandedOver,
    LinkLost,
    ReadingPaused,
    RenewalFailed,
    RetryScheduled,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command was asked for."""

    url: str
    connection_id: str
    headers: Sequence[tuple[str, str]] = ()
    subprotocols: Sequence[str] = ()
    stay: bool = False
    base64: bool = False
    insecure: bool = False
    detail: Literal["quiet", "usual", "verbose"] = "usual"


class Terminal:
    """The handler: it prints what arrives, and knows whether a link is open."""

    def __init__(self, settings: Settings, printer: Printer) -> None:
        self._base64 = settings.base64
        self._printer = printer
        self._to_people = os.isatty(1)
        self.send: Send | None = None
        self.open = asyncio.Event()

    def on_connect(self, send: Send) -> None:
        """Let the input go on."""
        self.send = send
        self.open.set()

    async def on_message(self, message: Message) -> None:
        """Print a message on a line of its own."""
        try:
            await self._printer.print(self._line(message))
        except OSError as error:
            # As a filter whose reader has gone, such as `head`: nothing is left to do.
            raise OutputClosed from error

    def on_disconnect(self, error: Exception | None) -> None:
        """Hold the input back."""
        self.open.clear()

    def _line(self, message: Message) -> bytes:
        if isinstance(message, str):
            return (escape(message) if self._to_people else message).encode()
        shown = base64.b64encode(message) if self._base64 else message.hex().encode()
        return b"<binary, %d bytes> %s" % (len(message), shown)


class OutputClosed(PermanentError):
    """Nobody reads our output any more."""


class Status:
    """Tells on standard error what happens."""

    def __init__(self, detail: Literal["quiet", "usual", "verbose"]) -> None:
        self._detail = detail
        self.began = False

    def __call__(self, event: BridgeEvent) -> None:
        """Tell of an event."""
        self.began = True
        if self._detail == "verbose" or (self._detail == "usual" and isinstance(event, USUAL)):
            text = describe(event)
            if text is not None:
                self.say(text)

    def say(self, text: str) -> None:
        """Write a line.  What the far side said can't steer the terminal."""
        with contextlib.suppress(OSError):
            print(f"dromos: {escape(text)}", file=sys.stderr, flush=True)


async def converse(settings: Settings, source: Callable[[], TokenProvider | TokenSource]) -> None:
    """Send lines and print messages until the input ends or a signal comes.

    Args:
        settings: What the command was asked for.
        source: Makes the source of the tokens.

    Raises:
        PermanentError: If the session ended for good.
        Misuse: If an argument was wrong.
    """
    status = Status(settings.detail)
    terminal = Terminal(settings, Printer())
    with misuse_if(True):
        provider = source()
        bridge = Bridge(
            provider,
            dialer=PicowsDialer(headers=settings.headers, subprotocols=settings.subprotocols),
            on_event=status,
            allow_insecure_transport=settings.insecure,
        )
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(provider, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        await stack.enter_async_context(bridge)
        session = asyncio.create_task(
            bridge.maintain_websocket(settings.connection_id, settings.url, terminal),
            name="session",
        )
        pump = asyncio.create_task(_pump(terminal, status, settings), name="input")
        with _signals() as stopped:
            await asyncio.wait((session, pump, stopped), return_when=asyncio.FIRST_COMPLETED)
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        if not session.done():
            await bridge.close()
        with contextlib.suppress(OutputClosed), misuse_if(not status.began):
            await session


@contextlib.contextmanager
def _signals() -> Generator[asyncio.Future[None], None, None]:
    """Yield a future that SIGINT or SIGTERM completes; a second one ends the process."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
        if not stopped.done():
            stopped.set_result(None)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        stopped.cancel()


async def _pump(terminal: Terminal, status: Status, settings: Settings) -> None:
    """Send the input's lines; return when it has ended and a link has been open."""
    number = 0
    async for line in Lines():
        number += 1
        try:
            text = line.decode()
        except UnicodeDecodeError:
            status.say(f"line {number} was not sent: it is not UTF-8")
            continue
        await _send(terminal, status, number, text)
    await terminal.open.wait()
    if settings.stay:
        await asyncio.get_running_loop().create_future()


async def _send(terminal: Terminal, status: Status, number: int, text: str) -> None:
    while True:
        try:
            await terminal.open.wait()
        except asyncio.CancelledError:
            status.say(f"line {number} was not sent: there was no open link")
            raise
        assert terminal.send is not None
        try:
            await terminal.send(text)
        except NotConnected:
            terminal.open.clear()  # `on_disconnect` is on its way; the next link sets it again
            continue
        except (MessageTooBig, SendBufferFull) as error:
            status.say(f"line {number} was not sent: {error}")
        except ConnectionClosed as error:
            status.say(f"line {number} may not have arrived: {error}")
        return
