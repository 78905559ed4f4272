"""`run`: a script as a service, with all that a service manager expects of one."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Unpack

from dromos._options import BridgeOptions
from dromos.bridge import Bridge
from dromos.config import Config, ConfigError, ServiceSettings
from dromos.interfaces import Endpoint, Handler, TokenProvider, TokenSource
from dromos.model import Seconds
from dromos.service.deadline import Deadline
from dromos.service.logs import set_up_logging
from dromos.service.metrics import prometheus, timing_metrics
from dromos.service.outcome import CLEAN, status_of
from dromos.service.recording import Recording
from dromos.service.service import Service
from dromos.service.work import Main, Work, work_of

if TYPE_CHECKING:
    from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["RunOptions", "Target", "loop_factory", "run", "run_configured"]

_log: Final = logging.getLogger("dromos")


Target: TypeAlias = (
    Main | Coroutine[Any, Any, object] | Handler | type[Handler] | Callable[[], Handler]
)
"""What can be run."""


class RunOptions(BridgeOptions, total=False):
    """The options of `run`: those of a service, and those of `Bridge`."""

    health_port: int | None
    health_host: str
    drain_timeout: Seconds
    log_format: Literal["auto", "text", "json", "none"]
    log_level: Literal["debug", "info", "warning", "error"]
    loop: Literal["auto", "asyncio", "uvloop"]
    record: str | None
    time_handlers: bool


_OF_SERVICE: Final = frozenset(each.name for each in fields(ServiceSettings))


def run(
    target: Target | None,
    *,
    tokens: TokenProvider | TokenSource | None = None,
    connection_id: str | None = None,
    endpoint_url: Endpoint | None = None,
    bridge: Bridge | None = None,
    config: Config | None = None,
    **options: Unpack[RunOptions],
) -> None:
    """Run a program as a service, and return when it has ended in good order.

        dromos.run(Agent(), tokens=OAuthClient("http://localhost:8081"),
                   connection_id="your-connection-id", endpoint_url="wss://host/ws")

        async def main(bridge):
            async with bridge.connect("your-connection-id", "wss://host/ws") as connection:
                async for message in connection:
                    ...

        dromos.run(main, tokens=OAuthClient("http://localhost:8081"), health_port=8080)

    It owns the event loop, the signals and, if the program has not set it up, logging.
    SIGTERM and SIGINT drain: nothing more is taken to be sent, what was sent arrives, then
    sessions end, and last the health port.  A second signal ends the process at once.  A
    service manager is told how it goes (sd_notify).  Several connections don't end each
    other: one that has failed for good leaves the rest.

    The process exits with 0 when it was closed or told to stop; 78 for what a configuration or
    a person must mend, so that `RestartPreventExitStatus=78` keeps it down; 1 for all else;
    130 or 143 after a second SIGINT or SIGTERM.

    Args:
        target: An async function that takes a bridge and does everything with it; or a
            handler, for which one session runs per connection; or a class, or a function of
            no arguments, that makes a handler for each.  A coroutine goes with `bridge`.
            None takes the handlers that `config` names.
        tokens: Where tokens come from; it is closed at the end, be there a start or not.
            None (default): what `config` says.
        connection_id: What `tokens` knows the one connection by.  None (default): the
            connections of `config`.
        endpoint_url: Where its far side is, as for `maintain_websocket`.
        bridge: A bridge of yours to run and drain, in place of `tokens` and of options of
            `Bridge`.  None (default) makes one.
        config: What a file or the environment says.  None (default): `Config.from_env()`.
        **options: The options of `Bridge`, and those of a service, which
            `dromos.config.ServiceSettings` describes.  Each goes before `config`, but not
            before what a connection there says of its own session.

    Raises:
        SystemExit: If the status is not 0.
        TypeError: If an argument has the wrong type, or one is missing; the message names it.
        ValueError: If an argument has a value that can't work; the message names it.
        Raised: If what `config` names raises as it is imported or made.
        RuntimeError: If it is called on another thread than the main one, where signals
            can't be had, or where an event loop runs already.
    """
    _check_place()
    of_bridge: dict[str, Any] = {**options}
    of_service = {name: of_bridge.pop(name) for name in list(of_bridge) if name in _OF_SERVICE}
    settings = ServiceSettings()
    try:
        try:
            settings = ServiceSettings(**of_service)
            config = (Config.from_env() if config is None else config).with_service(**of_service)
        except BaseException:
            _discard(target, tokens)
            raise
        settings = config.service
        run_configured(
            target,
            config,
            tokens=tokens,
            connection_id=connection_id,
            endpoint_url=endpoint_url,
            bridge=bridge,
            **of_bridge,
        )
    except ConfigError as error:
        set_up_logging(settings.log_format, settings.log_level)
        _log.error("%s", error)
        raise SystemExit(status_of(error)) from error


def run_configured(
    target: Target | None,
    config: Config,
    *,
    tokens: TokenProvider | TokenSource | None = None,
    connection_id: str | None = None,
    endpoint_url: Endpoint | None = None,
    bridge: Bridge | None = None,
    **of_bridge: Any,
) -> None:
    """Do what `run` does, but leave it to the caller to say what is wrong before it begins.

    Args:
        target: As for `run`, and so is what follows.
        config: What the service, and all that is None here, is like.
        tokens: None (default): what `config` says.
        connection_id: None (default): the connections of `config`.
        endpoint_url: None (default): the connections of `config`.
        bridge: None (default) makes one.
        **of_bridge: The options of `Bridge`.

    Raises:
        ConfigError: If the configuration can't work; nothing has been opened then.
        SystemExit: If the status is not 0.
        TypeError: As `run` does.
        ValueError: As `run` does.
        Raised: As `run` does.
    """
    deadline, settings = Deadline(), config.service
    try:
        make_loop = loop_factory(settings.loop)
        metrics = _metrics(settings, bridge)
        work = work_of(
            target,
            config,
            connection_id=connection_id,
            endpoint_url=endpoint_url,
            timed=metrics.timed if metrics is not None and settings.time_handlers else None,
        )
        if bridge is None and tokens is None:
            tokens = config.source()
        service = _service(config, work, tokens, bridge, of_bridge, metrics, deadline)
    except BaseException:
        _discard(target, tokens)
        raise
    set_up_logging(settings.log_format, settings.log_level)
    try:
        with deadline, asyncio.Runner(loop_factory=make_loop) as runner:
            status = runner.run(service.serve())
    finally:
        _close_unbegun(target)
    if status != CLEAN:
        raise SystemExit(status)


def _metrics(settings: ServiceSettings, bridge: Bridge | None) -> "PrometheusMetrics | None":
    """Return the metrics of a bridge of run's own, where they can be had.

    Raises:
        ConfigError: If handlers are to be timed, and there are none.
    """
    if not settings.time_handlers:
        return prometheus() if bridge is None else None
    if bridge is not None:
        said = "time_handlers is for a bridge that run makes; for yours, PrometheusMetrics.timed"
        raise ConfigError(said, key="service.time_handlers")
    return timing_metrics()


def _service(
    config: Config,
    work: Work,
    tokens: TokenProvider | TokenSource | None,
    bridge: Bridge | None,
    of_bridge: dict[str, Any],
    metrics: "PrometheusMetrics | None",
    deadline: Deadline,
) -> Service:
    """Return what is run.  The recording's file is opened last, when nothing else can fail.

    Raises:
        TypeError: If an option has the wrong type, or belongs to a bridge of run's own.
        ValueError: If an option has a value that can't work.
        ConfigError: If the dialer or the recording can't work.
    """
    recording = None
    if bridge is None:
        bridge = config.bridge(tokens, **{"logger": _log, **of_bridge})
        if metrics is not None:
            bridge.observe(metrics.on_event)
    elif tokens is not None or of_bridge:
        wrong = "tokens" if tokens is not None else next(iter(of_bridge))
        raise TypeError(f"{wrong} belongs to a bridge that run makes; this one is yours")
    if config.service.record is not None:
        recording = Recording(config.service.record)
        bridge.observe(recording.on_event)
    return Service(
        bridge,
        work,
        config.service,
        tokens=tokens,
        metrics=metrics,
        recording=recording,
        deadline=deadline,
    )


def _discard(target: object, tokens: object) -> None:
    """Close what is run's to close, where it does not come to running it."""
    _close_unbegun(target)
    close = getattr(tokens, "aclose", None)
    if close is None:
        return

    async def closed() -> None:
        await close()

    try:
        asyncio.run(closed())
    except Exception:
        # Why it does not come to running matters more.
        _log.exception("the source of tokens could not be closed")


def _close_unbegun(target: object) -> None:
    """Close a coroutine that was never awaited, about which Python would warn."""
    if inspect.iscoroutine(target) and inspect.getcoroutinestate(target) == inspect.CORO_CREATED:
        target.close()


def _check_place() -> None:
    """Refuse to run where signals or an event loop can't be had.

    Raises:
        RuntimeError: If it is so.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run needs the main thread, which is where signals arrive")
    # Asked so because the public question raises where there is none.
    if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage]
        raise RuntimeError(
            "run has an event loop of its own; in one that runs already use Bridge itself, "
            "and dromos.service.HealthServer"
        )


def loop_factory(
    loop: Literal["auto", "asyncio", "uvloop"],
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None for asyncio's own.

    Raises:
        ConfigError: If it is not installed.
    """
    if loop == "asyncio":
        return None
    try:
        import uvloop
    except ModuleNotFoundError:
        if loop == "auto":
            return None
        raise ConfigError('loop "uvloop" needs: pip install "dromos[uvloop]"') from None
    return uvloop.new_event_loop
