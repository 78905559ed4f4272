"""One run of a service: a bridge at work behind its health port, until it is over and drained."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

from dromos.bridge import Bridge
from dromos.config.errors import ConfigError
from dromos.config.settings import ServiceSettings
from dromos.model import in_seconds
from dromos.service.deadline import Deadline
from dromos.service.outcome import CLEAN, FAILED, is_refusal, is_told, leaves, status_of
from dromos.service.pulse import Pulse
from dromos.service.recording import Recording
from dromos.service.signals import stopping
from dromos.service.systemd import Notifier, here
from dromos.service.work import Work
from dromos.telemetry.loop_lag import measure_loop_lag

if TYPE_CHECKING:
    from dromos.service.server import HealthServer
    from dromos.telemetry.prometheus import PrometheusMetrics

__all__ = ["Service", "health_server"]

GRACE: Final = 1.0
"""Seconds for a function to return by itself once its sessions have ended."""

_log: Final = logging.getLogger("dromos")


class Service:
    """Runs what there is to do, and ends it in good order: work, sessions, tokens, port."""

    def __init__(
        self,
        bridge: Bridge,
        work: Work,
        settings: ServiceSettings,
        *,
        tokens: object,
        metrics: "PrometheusMetrics | None",
        recording: Recording | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Open nothing.

        Args:
            bridge: What is run and drained.
            work: What to do with it.
            settings: Port, and time to drain.
            tokens: Closed at the end, if it can be.  None leaves that to others.
            metrics: Told how late the event loop is, and what the bridge is like at each
                scrape.  None: nobody is.
            recording: Takes a sample of the sessions now and then, and is closed at the end.
                None (default): nothing is recorded.
            deadline: Set when the end begins.  None (default): the end takes what it takes.
        """
        self._bridge = bridge
        self._work = work
        self._settings = settings
        self._tokens = tokens
        self._drain_within = in_seconds(settings.drain_timeout)
        self._metrics = metrics
        self._recording = recording
        self._deadline = deadline
        self._told_to_stop = False
        self._has_cancelled = False
        if metrics is not None:
            metrics.watch(bridge)

    async def serve(self) -> int:
        """Return the exit status, once all is over."""
        async with contextlib.AsyncExitStack() as stack:
            # What is entered first ends last: probes are answered while all else is drained.
            notifier = stack.enter_context(contextlib.closing(here()))
            if self._recording is not None:
                stack.enter_context(contextlib.closing(self._recording))
            try:
                await self._open_port(stack)
            except (OSError, ConfigError) as error:
                _log.error("%s", error)
                return FAILED if isinstance(error, OSError) else status_of(error)
            finally:
                close = getattr(self._tokens, "aclose", None)
                if close is not None:
                    stack.push_async_callback(close)
            return await self._live(notifier)

    async def _open_port(self, stack: contextlib.AsyncExitStack) -> None:
        """Open the health port, if there is to be one.

        Raises:
            OSError: If it can't be listened on now.
            ConfigError: If what it needs is not installed, or its host is no address.
        """
        port, host = self._settings.health_port, self._settings.health_host
        if port is None:
            return
        server = health_server()(self._bridge, host=host, port=port)
        try:
            health = await stack.enter_async_context(server)
        except (OSError, UnicodeError) as error:
            raise _unopened(error, host, port) from error
        _log.info("the health port is %d on %s", health.port, host)

    async def _live(self, notifier: Notifier) -> int:
        """Work until that is done or a signal comes, then drain."""
        loop = asyncio.get_running_loop()
        pulse = Pulse(self._bridge, notifier)
        beside = [loop.create_task(pulse.beat_on(), name="dromos-pulse")]
        if self._metrics is not None:
            lag = measure_loop_lag(self._metrics.observe_loop_lag)
            beside.append(loop.create_task(lag, name="dromos-loop-lag"))
        if self._recording is not None:
            samples = self._recording.sample_on(self._bridge.snapshots)
            beside.append(loop.create_task(samples, name="dromos-recording"))
        working = loop.create_task(self._do(), name="dromos-work")
        stopped: asyncio.Future[signal.Signals] = loop.create_future()
        try:
            with stopping(stopped.set_result):
                await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
                self._told_to_stop = stopped.done()
                pulse.stop()
                if self._told_to_stop:
                    name, within = stopped.result().name, self._drain_within
                    _log.info("%s: draining for up to %g s; a second one exits", name, within)
                return await self._end(working)
        finally:
            stopped.cancel()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _do(self) -> BaseException | None:
        """Return what the work raised; `sys.exit` would otherwise end the loop in its midst."""
        try:
            await self._work(self._bridge)
        except asyncio.CancelledError as error:
            if self._has_cancelled:
                raise
            return error  # from inside: of a task of its own that it awaited, for one
        except BaseException as error:
            return error
        return None

    async def _end(self, working: "asyncio.Task[BaseException | None]") -> int:
        """Drain, and return the status."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_within
        if self._deadline is not None:
            self._deadline.set(self._drain_within + GRACE, until_exit=self._told_to_stop)
        is_late = False
        try:
            await self._bridge.drain(self._drain_within)
        except TimeoutError as error:
            is_late = True
            _log.error("%s", error)
        await self._end_work(working, deadline)
        status = self._status(working)
        return FAILED if is_late and status == CLEAN else status

    async def _end_work(self, working: "asyncio.Task[Any]", deadline: float) -> None:
        """Let the work return by itself, or cancel it; leave it behind at the deadline."""
        await asyncio.wait([working], timeout=GRACE)
        if working.done():
            return
        self._has_cancelled = True
        working.cancel()
        left = deadline - asyncio.get_running_loop().time()
        await asyncio.wait([working], timeout=max(GRACE, left))
        if not working.done():
            _log.error("what was run has not ended in time, and is left behind")

    def _status(self, working: "asyncio.Task[BaseException | None]") -> int:
        """Return the status that the work's own end deserves, and say what went wrong."""
        if not working.done():
            return FAILED
        error = None if working.cancelled() else working.result()
        if error is None or (self._told_to_stop and _is_stop(error)):
            _log.info("stopped")
            return CLEAN
        if isinstance(error, SystemExit):
            return _exit_status(error)
        status = status_of(error)
        told = "; ".join(map(_named, leaves(error)))
        # A traceback helps where it may be the program's fault.
        is_puzzling = status == FAILED and not is_told(error)
        _log.error("ended by %s", told, exc_info=error if is_puzzling else None)
        return status


def health_server() -> "type[HealthServer]":
    """Return the class of the health port.

    Raises:
        ConfigError: If what it needs is not installed.
    """
    try:
        from dromos.service.server import HealthServer
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise ConfigError('health_port needs: pip install "dromos[service]"') from error
    return HealthServer


def _is_stop(error: BaseException) -> bool:
    """Whether a program that was told to stop may end by this: by a task it cancels, for one."""
    return isinstance(error, asyncio.CancelledError) or is_refusal(error)


def _named(error: BaseException) -> str:
    """Return an error's type, and what it says if it says something."""
    kind, said = type(error).__name__, str(error)
    return f"{kind}: {said}" if said else kind


def _unopened(error: OSError | UnicodeError, host: str, port: int) -> Exception:
    """Return the error that names the options of a health port that can't be opened."""
    is_name = isinstance(error, UnicodeError | socket.gaierror)
    if is_name and error.args[0] != socket.EAI_AGAIN:
        return ConfigError(f"health_host must be an address to listen on, not {host!r}")
    # asyncio's own words repeat the address, and say "attempting to bind".
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number is not None and number > 0 else error
    return OSError(
        f"the health port {port} on {host} can't be opened: {why}; see health_port and health_host"
    )


def _exit_status(error: SystemExit) -> int:
    """Return the status that `sys.exit` was asked for, as Python itself reads it."""
    match error.code:
        case None:
            return CLEAN
        case int(status):
            return status
        case text:
            _log.error("%s", text)
            return FAILED
