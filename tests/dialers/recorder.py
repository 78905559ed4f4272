"""A link listener that remembers, and can be waited for without sleeping."""

import asyncio
from collections.abc import Callable
from typing import Any

from dromos.errors import ConnectionClosed
from dromos.model import Message


class Recorder:
    """Every call on it, in order, as (name, argument)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._changed = asyncio.Event()
        self._then: dict[str, Callable[[], object]] = {}

    def then(self, name: str, action: Callable[[], object]) -> None:
        """Have a call followed by an action, before it returns."""
        self._then[name] = action

    def on_message(self, message: Message, /) -> None:
        self._note("message", message)

    def on_result(self, result: object, /) -> None:
        self._note("result", result)

    def on_deliver_failed(self, error: BaseException, /) -> None:
        self._note("deliver_failed", error)

    def on_pong(self, payload: bytes, /) -> None:
        self._note("pong", payload)

    def on_pause_writing(self) -> None:
        self._note("pause_writing", None)

    def on_resume_writing(self) -> None:
        self._note("resume_writing", None)

    def on_going_away(self, error: ConnectionClosed, /) -> None:
        self._note("going_away", error)

    def on_closed(self, error: ConnectionClosed, /) -> None:
        self._note("closed", error)

    def _note(self, name: str, argument: Any) -> None:
        self.calls.append((name, argument))
        self._changed.set()
        if name in self._then:
            self._then[name]()

    def all(self, name: str) -> list[Any]:
        return [argument for called, argument in self.calls if called == name]

    @property
    def messages(self) -> list[Message]:
        return self.all("message")

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def first(self, name: str) -> Any:
        await self.until(lambda: self.all(name))
        return self.all(name)[0]

    async def going_away(self) -> tuple[int, str, bool]:
        return facts(await self.first("going_away"))

    async def closed(self) -> tuple[int, str, bool]:
        return facts(await self.first("closed"))


def facts(error: ConnectionClosed) -> tuple[int, str, bool]:
    return error.code, error.reason, error.by_peer
