"""Requests on a connection, and which message answers which."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

from dromos.model import Message

__all__ = ["Correlate", "Request", "Requests"]

Correlate: TypeAlias = Callable[[Message], Hashable | None]
"""What tells which request a message belongs to; None for none."""


@dataclass(slots=True, eq=False)
class Request:
    """A request whose answer is still to come; `link` is None until it was written."""

    correlate: Correlate
    key: Hashable
    answer: asyncio.Future[Message]
    link: int | None = None


class Requests:
    """The requests that are pending.

    Attributes:
        pending: By what correlates them, and by key; empty most of the time.
    """

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        self._failed = failed
        self.pending: dict[Correlate, dict[Hashable, Request]] = {}

    def begin(self, message: Message, correlate: Correlate) -> Request:
        """Enter a request.  Call `end` when it is over, whatever came of it.

        Raises:
            ValueError: If `correlate` makes None of it, or a key that is pending.
            TypeError: If the key is not hashable.
        """
        key = correlate(message)
        if key is None:
            raise ValueError("correlate returned None for the request: no answer could match it")
        if key in self.pending.get(correlate, {}):
            raise ValueError("a request with this key is pending already")
        request = Request(correlate, key, asyncio.get_running_loop().create_future())
        self.pending.setdefault(correlate, {})[key] = request
        return request

    def end(self, request: Request) -> None:
        """Forget a request, and leave nothing behind that the loop would complain about."""
        waiting = self.pending[request.correlate]
        del waiting[request.key]
        if not waiting:
            del self.pending[request.correlate]
        if request.answer.done() and not request.answer.cancelled():
            request.answer.exception()
        request.answer.cancel()

    def take(self, message: Message) -> bool:
        """Settle the request that a message answers, if there is one."""
        for correlate, waiting in list(self.pending.items()):
            try:
                key = correlate(message)
                request = None if key is None else waiting.get(key)
            except Exception as error:
                self._failed("correlate", error)
                continue
            if request is not None and request.link is not None and not request.answer.done():
                request.answer.set_result(message)
                return True
        return False

    def awaits(self, link: int) -> bool:
        """Whether a request that was sent on a link is still to be answered."""
        return any(request.link == link for request in self._unanswered())

    def fail(self, error: Exception, *, link: int | None = None) -> None:
        """Settle the requests that were sent on a link, or all of them."""
        for request in self._unanswered():
            if link is None or request.link == link:
                request.answer.set_exception(error)

    def _unanswered(self) -> list[Request]:
        pending = (request for waiting in self.pending.values() for request in waiting.values())
        return [request for request in pending if not request.answer.done()]
