"""A conversation with a server as a generator: it says what to do next, and is told what came.

No flow touches the network, a clock's sleep or a user's function itself, so each can
be played by hand in a test.
"""

import asyncio
import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from dromos.oauth._http import Request, Transport

__all__ = ["Ask", "Flow", "Pause", "Step", "run"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait.

    Attributes:
        seconds: For so long.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Call a function of the user's, sync or async, and send back what it returned.

    Attributes:
        function: Without arguments.
    """

    function: Callable[[], Any] = field(repr=False)


Step: TypeAlias = Request | Pause | Ask

Flow: TypeAlias = Generator[Step, Any, T]
"""Yields steps, and returns what came of them.  A `Request` is answered by an `Outcome`."""


async def run(flow: Flow[T], transport: Transport) -> T:
    """Do what a flow says, and return what it returns.

    Raises:
        Exception: Whatever a function of the user's raised; the flow ends with that.
    """
    try:
        step = next(flow)
        while True:
            # What came may be a secret: it is in no variable when the flow raises.
            step = flow.send(await _done(step, transport))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()


async def _done(step: Step, transport: Transport) -> object:
    match step:
        case Request():
            return await transport.send(step)
        case Pause():
            await asyncio.sleep(step.seconds)
            return None
        case Ask():
            said = step.function()
            return await said if inspect.isawaitable(said) else said
