"""Hears what a link tells while it is examined."""

import asyncio

from dromos.errors import ConnectionClosed
from dromos.model import Message

__all__ = ["Listener"]


class Listener:
    """What a link tells: answered pings, how many messages, and its end.

    Attributes:
        messages: How many messages came.
        pong: Is done when a ping is answered.
        closed: Is done when the link has ended, or its end was announced, with why.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.messages = 0
        self.pong: asyncio.Future[bytes] = loop.create_future()
        self.closed: asyncio.Future[ConnectionClosed] = loop.create_future()

    def on_message(self, message: Message, /) -> None:
        """Count it."""
        self.messages += 1

    def on_result(self, result: object, /) -> None:
        """Nothing takes messages here."""

    def on_deliver_failed(self, error: BaseException, /) -> None:
        """Nothing takes messages here."""

    def on_pong(self, payload: bytes, /) -> None:
        """Let who waits for it know."""
        if not self.pong.done():
            self.pong.set_result(payload)

    def on_pause_writing(self) -> None:
        """A ping does not fill a buffer."""

    def on_resume_writing(self) -> None:
        """A ping does not fill a buffer."""

    def on_going_away(self, error: ConnectionClosed, /) -> None:
        """Take it for the end; whoever waits for that answers it."""
        self.on_closed(error)

    def on_closed(self, error: ConnectionClosed, /) -> None:
        """Let who waits for it know."""
        if not self.closed.done():
            self.closed.set_result(error)
