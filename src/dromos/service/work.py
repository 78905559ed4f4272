"""What a service does: a function of the user's, or sessions with handlers."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from dromos.bridge import Bridge
from dromos.config import Config, ConfigError, ConnectionSettings
from dromos.config.sources import made
from dromos.errors import PermanentError
from dromos.interfaces import Endpoint

__all__ = [
    "Main",
    "Task",
    "Unrunnable",
    "Work",
    "handler_of",
    "is_handler",
    "takes_a_bridge",
    "work_of",
]

Main: TypeAlias = Callable[[Bridge], Awaitable[object]]
"""A function that does everything itself, with the bridge it is given."""

Work: TypeAlias = Callable[[Bridge], Coroutine[Any, Any, None]]

_HANDLER: Final = ("on_connect", "on_message", "on_disconnect")

_log: Final = logging.getLogger("dromos")


class Unrunnable(TypeError):
    """What a program gave can't be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One session that is to run: the arguments of `maintain_websocket`."""

    connection_id: str
    endpoint_url: Endpoint = field(repr=False)
    handler: Any
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def work_of(
    target: object,
    config: Config,
    *,
    connection_id: str | None,
    endpoint_url: Endpoint | None,
    timed: Callable[[Any], Any] | None = None,
) -> Work:
    """Return what a service does.

    Args:
        target: A function that takes a bridge; a coroutine; or a handler, or a class or a
            function of no arguments that makes one.  None takes the configuration's handlers.
        config: Names connections, if the next two are None.
        connection_id: What the source of tokens knows the one connection by.
        endpoint_url: Where its far side is.
        timed: Returns a handler whose callbacks are timed.  None (default): none are.

    Raises:
        Unrunnable: If the target is none of these, half a connection is said, or one that
            the target has no use for.
        ConfigError: If no connection is said, a handler that the configuration names can't be
            had, or there is none to be timed.
        Raised: If that raises as it is imported or made.
    """
    if (connection_id is None) != (endpoint_url is None):
        raise Unrunnable("connection_id and endpoint_url belong together: give both, or neither")
    if inspect.iscoroutine(target):
        _refuse_for_handlers(connection_id, timed, "a coroutine")
        return _awaiting(target)
    if target is not None and not is_handler(target):
        if not callable(target):
            raise Unrunnable(
                "run wants an async function that takes a bridge, or a handler with "
                f"{', '.join(_HANDLER)}; not {type(target).__name__}"
            )
        if takes_a_bridge(target):
            _refuse_for_handlers(connection_id, timed, "a function that takes a bridge")
            return _calling(target)
    if connection_id is not None and endpoint_url is not None:
        handler = _made(target)
        given = Task(connection_id=connection_id, endpoint_url=endpoint_url, handler=handler)
        return _keeping([_timed(given, timed)])
    if not config.connections:
        raise ConfigError(
            "a handler needs a connection: say connection_id and endpoint_url (--connection-id "
            "and --url), or [[connections]] in a file",
            key="connections",
        )
    tasks = (_task(config, each, target) for each in config.connections)
    return _keeping([_timed(task, timed) for task in tasks])


def _timed(task: Task, timed: Callable[[Any], Any] | None) -> Task:
    return task if timed is None else replace(task, handler=timed(task.handler))


def _refuse_for_handlers(connection_id: str | None, timed: object, what: str) -> None:
    if timed is not None:
        said = f"time_handlers is for a handler; {what} times its own, by PrometheusMetrics.timed"
        raise ConfigError(said, key="service.time_handlers")
    if connection_id is not None:
        raise Unrunnable(
            f"connection_id and endpoint_url are for a handler; {what} connects by itself"
        )


def takes_a_bridge(target: Callable[..., Any]) -> bool:
    """Whether a function wants one argument, which is a bridge then."""
    try:
        inspect.signature(target).bind(None)
    except (TypeError, ValueError):
        return False
    return not isinstance(target, type)


def is_handler(target: object) -> bool:
    """Whether something has a handler's methods, be it a handler or a class of them."""
    return all(callable(getattr(target, name, None)) for name in _HANDLER)


def _makes_one(target: object) -> bool:
    return isinstance(target, type) or (callable(target) and not is_handler(target))


def _made(target: Any) -> Any:
    """Return a handler: the object itself, or what the class or function makes.

    Raises:
        Unrunnable: If that is none.
    """
    if _makes_one(target):
        target = target()
    if not is_handler(target):
        raise Unrunnable(f"a handler has {', '.join(_HANDLER)}; {type(target).__name__} has not")
    return target


def handler_of(config: Config, connection: ConnectionSettings) -> Any:
    """Return the handler that a connection of a configuration names, made.

    Raises:
        ConfigError: If it names none, there is no such object, or it is no handler.
        Raised: If it raises as it is imported or made.
    """
    chosen = config.handler(connection)
    if _makes_one(chosen):
        chosen = made(str(connection.handler), chosen)
    try:
        return _made(chosen)
    except Unrunnable as error:
        said = f"handler {connection.handler}: {error}"
        raise ConfigError(said, key="connections.handler") from error


def _task(config: Config, connection: ConnectionSettings, target: object) -> Task:
    is_named = connection.handler is not None or target is None
    return Task(
        connection_id=connection.id,
        endpoint_url=connection.url,
        handler=handler_of(config, connection) if is_named else _made(target),
        options=dict(connection.options),
    )


def _awaiting(coroutine: Coroutine[Any, Any, object]) -> Work:
    async def work(_: Bridge) -> None:
        await coroutine

    return work


def _calling(main: Callable[..., Any]) -> Work:
    async def work(bridge: Bridge) -> None:
        result = main(bridge)
        if inspect.isawaitable(result):
            await result

    return work


def _keeping(tasks: Sequence[Task]) -> Work:
    async def work(bridge: Bridge) -> None:
        """Run every session until its end; one that fails does not end the others."""
        loop = asyncio.get_running_loop()
        keep = _keep_beside_others if len(tasks) > 1 else _keep
        running = [
            loop.create_task(keep(bridge, task), name=f"dromos-{task.connection_id}")
            for task in tasks
        ]
        try:
            ends = await asyncio.gather(*running, return_exceptions=True)
        except asyncio.CancelledError:
            await asyncio.wait(running)
            raise
        errors = [end for end in ends if end is not None]
        if len(errors) == 1 and isinstance(errors[0], Exception):
            raise errors[0]
        if errors:
            # A session that something else has cancelled has failed as well.
            raise BaseExceptionGroup(f"{len(errors)} of {len(tasks)} sessions have failed", errors)

    return work


async def _keep(bridge: Bridge, task: Task) -> None:
    await bridge.maintain_websocket(
        task.connection_id, task.endpoint_url, task.handler, **task.options
    )


async def _keep_beside_others(bridge: Bridge, task: Task) -> None:
    """Keep a session whose end does not end the service: so it is said at once."""
    try:
        await _keep(bridge, task)
    except PermanentError as error:
        _log.error("connection %s has ended for good: %s", task.connection_id, error)
        raise
