"""`Bridge`: picks the parts, and wires them to sessions."""

import asyncio
import functools
import logging
import random  # noqa: TID251 - from here chance is handed to whoever needs it
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack

from dromos import auth
from dromos._calls import is_async
from dromos._core.policy import Policy
from dromos._core.verdict import Stage, judge
from dromos._driver import (
    Callbacks,
    Options,
    Parts,
    Session,
    Turnstile,
    Unwatched,
    Watchdog,
    done_future,
    end,
    the_watchdog,
)
from dromos._driver.endpoint import Veiled, check_made_url, check_url, is_insecure, shown
from dromos._options import (
    SessionOptions,
    Verdicts,
    check_task_factory,
    check_verdicts,
    look_up,
    per_second,
    resolve,
    whole,
)
from dromos.connection import (
    ConnectCallback,
    Connection,
    DisconnectCallback,
    RefreshCallback,
)
from dromos.errors import BridgeError, Closed
from dromos.events import BridgeEvent
from dromos.group import Group
from dromos.interfaces import (
    Dialer,
    Endpoint,
    Handler,
    Logger,
    Metrics,
    Observer,
    TokenProvider,
    TokenSource,
    WireBytes,
)
from dromos.model import Message, Outbox, RetryPolicy, Seconds, Verdict, seconds
from dromos.oauth.cache import TokenCache, cache_for
from dromos.snapshot import Census, Snapshot, Vitals
from dromos.telemetry.figures import count_events
from dromos.telemetry.logs import adapt, log_events, log_failures

__all__ = ["Bridge"]

_log: Final = logging.getLogger("dromos")

CLOSING_SHARE: Final = 0.25
LONGEST_CLOSING: Final = 6.0
"""How much of the time for a drain is kept for closing: a share, and seconds at most."""

_chance: Final = random.SystemRandom()
"""The system's: no `seed` and no fork makes agents move in step, and it holds no state."""

_now: Final = time.time  # noqa: TID251 - from here it is handed to whoever asks the time


class Bridge:
    """Keeps authenticated WebSocket connections alive.

    One bridge serves any number of sessions at once.  As a context manager it
    closes them at the end.

        async with OAuthClient("http://localhost:8081") as oauth:
            bridge = Bridge(oauth)
            await bridge.maintain_websocket("connection-id", "wss://host/ws", Agent())
    """

    def __init__(
        self,
        tokens: TokenProvider | TokenSource,
        *,
        logger: Logger | logging.Logger | logging.LoggerAdapter[Any] | None = None,
        metrics: Metrics | None = None,
        on_event: Observer | None = None,
        dialer: Dialer | None = None,
        retry_policy: RetryPolicy | None = None,
        verdicts: Verdicts | None = None,
        refresh_buffer: Seconds = 300.0,
        renewal: Literal["handover", "keep"] = "handover",
        initial_token: Literal["fail", "retry"] = "fail",
        max_link_age: Seconds | None = None,
        dedupe: Callable[[Message], Hashable] | None = None,
        outbox: Outbox | None = None,
        ping_interval: Seconds | None = 20.0,
        ping_timeout: Seconds = 20.0,
        write_timeout: Seconds = 10.0,
        close_timeout: Seconds = 5.0,
        connect_timeout: Seconds = 30.0,
        message_size_limit: int = 2**20,
        fragment_limit: int = 4096,
        send_size_limit: int | None = None,
        send_buffer_limit: int = 4 * 2**20,
        max_concurrent_dials: int = 64,
        handler_errors: Literal["log", "raise"] = "log",
        allow_insecure_transport: bool = False,
    ) -> None:
        """Check every option, and open nothing.

        Durations are seconds as a number, or a `timedelta`.  From `refresh_buffer`
        on, and `retry_policy` as well, an option may be overridden for one session;
        `max_concurrent_dials` may not.

        Args:
            tokens: Where tokens come from, such as `dromos.oauth.OAuthClient`, or any
                object with `async get_token(connection_id)`.
            logger: A structured logger, or one of stdlib or structlog as it is.
                None (default) logs nothing but what your own code raises: that goes to the
                logger `dromos` of stdlib.
            metrics: The four figures of the specification.  None (default) counts nothing.
            on_event: Called with each `dromos.events.BridgeEvent`.
            dialer: What opens links.  None (default) is a `dromos.dialers.PicowsDialer`.
            retry_policy: Backoff, and when to give up.  None (default) is `RetryPolicy()`.
            verdicts: Your own verdicts, which go before the tables: a mapping from close
                code, HTTP status or exception class, or a callable that returns None
                where it has no opinion.
            refresh_buffer: How long before its expiry a token is renewed.  Default 300,
                and never more than half the token's lifetime.
            renewal: `"handover"` (default) opens a link with the new token before the
                old one is released; `"keep"` renews the token in memory only.
            initial_token: `"fail"` (default) ends the session if its first attempt gets
                no token, as the specification says; `"retry"` keeps trying.
            max_link_age: After which a link is handed over.  None (default) never;
                under 1 s counts as 1 s.
            dedupe: Makes a hashable key of a message, for far sides that send the same
                message on both links of a hand-over: the second one is dropped.  A key
                of None is never a copy.  None (default) delivers both.
            outbox: Keeps what could not be sent, and says what became of the rest; see
                `Outbox`.  None (default) keeps nothing.
            ping_interval: Without inbound data before a ping.  Default 20; None never pings.
            ping_timeout: For the answer.  Default 20.
            write_timeout: Without write progress before a link is aborted.  Default 10.
            close_timeout: For the answer to our CLOSE.  Default 5.
            connect_timeout: For an endpoint callable and the dial, and again for
                `on_connect`.  Default 30.
            message_size_limit: Bytes of a received message.  Default 1 MiB.
            fragment_limit: Frames of a received message.  Default 4096.
            send_size_limit: Bytes of a sent message.  None (default) has no limit but the next.
            send_buffer_limit: Bytes that may wait to be written.  Default 4 MiB.
            max_concurrent_dials: Dials under way at once.  Default 64.
            handler_errors: `"log"` (default) goes on when a callback raises; `"raise"`
                ends the session.
            allow_insecure_transport: Allow `ws://` to other machines, with one warning.
                Default False.

        Raises:
            TypeError: If an argument has the wrong type; the message names it.
            ValueError: If an argument has a value that can't work; the message names it.
        """
        _check_part("tokens", tokens, "get_token")
        if dialer is not None:
            _check_part("dialer", dialer, "dial")
        if on_event is not None:
            _check_observer("on_event", on_event)
        check_verdicts(verdicts)
        self._options = SessionOptions(
            retry_policy=RetryPolicy() if retry_policy is None else retry_policy,
            refresh_buffer=refresh_buffer,
            renewal=renewal,
            initial_token=initial_token,
            max_link_age=max_link_age,
            dedupe=dedupe,
            outbox=outbox,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            write_timeout=write_timeout,
            close_timeout=close_timeout,
            connect_timeout=connect_timeout,
            message_size_limit=message_size_limit,
            fragment_limit=fragment_limit,
            send_size_limit=send_size_limit,
            send_buffer_limit=send_buffer_limit,
            handler_errors=handler_errors,
            allow_insecure_transport=allow_insecure_transport,
        )
        # Those of all sessions that have none of their own, by whether they renew in band.
        self._defaults = {False: resolve(self._options)}
        self._tokens = tokens
        self._dialer = dialer
        self._verdicts = verdicts
        self._max_concurrent_dials = whole("max_concurrent_dials", max_concurrent_dials, least=1)
        self._observers = _observers(logger, metrics, on_event)
        self._sessions: dict[int, Session] = {}
        self._numbers = 0
        self._groups: weakref.WeakSet[Group] = weakref.WeakSet()
        self._closed = False
        self._shared: _Shared | None = None
        self._wall: Callable[[], float] = _now
        self._tick: Callable[[], float] = time.perf_counter
        self._random: random.Random = _chance
        self._warned = False
        self._watchdog: Watchdog | Unwatched = the_watchdog

    @classmethod
    def standard(
        cls,
        tokens: TokenProvider | TokenSource,
        *,
        labels: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Return a bridge that is ready to be operated: JSON logs and Prometheus metrics.

        Logs go to standard output, metrics to `prometheus_client.REGISTRY`.  Any number of
        them may be made in a process; those with the same labels add up.

            bridge = Bridge.standard(tokens, labels={"agent_id": "a-7"})

        Args:
            tokens: As for the constructor.
            labels: What every line and every metric is labelled with.  None (default): nothing.
            **options: Those of the constructor.  A `logger` takes the place of the JSON one;
                an `on_event` is called besides.

        Raises:
            ImportError: If `prometheus-client` is not installed (`dromos[prometheus]`).
            TypeError: If an argument has the wrong type; the message names it.
            ValueError: If an argument has a value that can't work; the message names it.
        """
        # Imported here: whoever does not want them does not pay for them.
        from dromos.telemetry.formatters import json_logger
        from dromos.telemetry.prometheus import PrometheusMetrics

        metrics = PrometheusMetrics(labels=labels)
        if options.get("logger") is None:
            options["logger"] = json_logger(labels)
        bridge = cls(tokens, **options)
        bridge.observe(metrics.on_event)
        metrics.watch(bridge)
        return bridge

    def observe(self, observer: Observer) -> None:
        """Have another observer called with each event from now on, besides `on_event`.

        Args:
            observer: As for `on_event`.

        Raises:
            TypeError: If it can't be called, or is `async def`.
        """
        _check_observer("observer", observer)
        self._observers.append(observer)

    async def maintain_websocket(
        self,
        connection_id: str,
        endpoint_url: Endpoint,
        handler: Handler,
        **options: Unpack[SessionOptions],
    ) -> None:
        """Keep one connection alive until it is closed, cancelled or permanently failed.

        To end it from outside, cancel the task that awaits this: it closes the
        link, calls `on_disconnect` and lets the cancellation through.

        Args:
            connection_id: What the token provider knows the connection by.
            endpoint_url: `ws://` or `wss://`, or a callable, sync or async, that makes
                one of the token; it is called on every attempt.
            handler: What to do with it.  See `dromos.interfaces.Handler`.
            **options: Options for this session in place of the bridge's.

        Raises:
            PermanentError: If the connection can't be kept alive; its `__cause__` is why.
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has a value that can't work.
            RuntimeError: If the bridge is closed.
        """
        endpoint = Veiled(endpoint_url)
        del endpoint_url
        # No plan stays behind: this waits for months.
        session = self._begin_with(None, connection_id, endpoint, handler, options)
        del connection_id, endpoint, options, handler
        await session.run()

    def connect(
        self,
        connection_id: str,
        endpoint_url: Endpoint,
        *,
        on_connect: ConnectCallback | None = None,
        on_handover: ConnectCallback | None = None,
        on_disconnect: DisconnectCallback | None = None,
        on_token_refresh: RefreshCallback | None = None,
        receive: bool = True,
        **options: Unpack[SessionOptions],
    ) -> Connection:
        """Keep one connection alive as an object: the same engine, to be iterated.

            async with bridge.connect("connection-id", "wss://host/ws") as connection:
                await connection.send("hello")
                async for message in connection:
                    print(message)

        The callbacks follow the handler's rules, and are the place to subscribe: a link
        counts as open once `on_connect` has returned.

        Args:
            connection_id: What the token provider knows the connection by.
            endpoint_url: As for `maintain_websocket`.
            on_connect: Called with a `send` for each new link.  None (default) does nothing.
            on_handover: Called in its place when a link takes over from an open one.
                None (default) calls `on_connect`.
            on_disconnect: Called with an error or None when the last open link is gone.
                None (default) does nothing.
            on_token_refresh: Called with a token and a `send`, to renew the token on the
                live link.  None (default) hands over.
            receive: Whether messages are kept to be iterated.  False discards and counts them.
            **options: Options for this session in place of the bridge's.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has a value that can't work.
            RuntimeError: If the bridge is closed.
        """
        endpoint = Veiled(endpoint_url)
        del endpoint_url
        if not isinstance(receive, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"receive must be a bool, not {type(receive).__name__}")
        connection = Connection(
            on_connect=on_connect,
            on_handover=on_handover,
            on_disconnect=on_disconnect,
            on_token_refresh=on_token_refresh,
            receive=receive,
        )
        plan = self._plan(connection_id, endpoint, connection.callbacks, options)
        connection.prepare(begin=lambda: self._begin(plan))
        return connection

    def supervise(self, *, attempt_rate: float = 100.0) -> Group:
        """Keep many connections alive as a group: start, stop and list them, and hear of failures.

            async with bridge.supervise() as group:
                for connection_id, url in wanted:
                    group.start(connection_id, url, Agent())
                async for failure in group.failures(until_idle=True):
                    print(failure.connection_id, failure.error)

        A session that fails leaves the others alone.  Leaving the block closes them all.

        The sessions take turns with their attempts, at the start and after a loss alike:
        a far side that restarts is not dialled by all of them at once.  Those whose turn
        it is are bounded by `max_concurrent_dials` as well.  A hand-over needs no turn.

        Args:
            attempt_rate: Attempts that its sessions begin in a second, all together.
                Default 100: five thousand are back within a minute, which is as long as
                one session alone may wait by default.

        Raises:
            TypeError: If `attempt_rate` is no number.
            ValueError: If `attempt_rate` is not finite, or not above zero.
            RuntimeError: If the bridge is closed.
        """
        turnstile = Turnstile(per_second("attempt_rate", attempt_rate))
        if self._closed:
            raise Closed("the bridge is closed")
        group = Group(begin=functools.partial(self._begin_with, turnstile))
        self._groups.add(group)
        return group

    def snapshots(self, *, offset: int = 0, limit: int | None = None) -> tuple[Snapshot, ...]:
        """Return what each running session looks like now, the oldest first.

        Args:
            offset: How many of the oldest are left out.  Default 0.
            limit: How many are returned at most.  None (default) returns all of them.

        Raises:
            TypeError: If one of them is no int.
            ValueError: If one of them is negative.
        """
        first = whole("offset", offset, least=0)
        end = None if limit is None else first + whole("limit", limit, least=0)
        chosen = tuple(self._sessions.values())[first:end]
        return tuple(session.snapshot() for session in chosen)

    def census(self) -> Census:
        """Return all running sessions added up: cheap enough to ask every few seconds.

        Another thread may ask, such as one that serves metrics: each figure is right, though
        not all are of the same instant.
        """
        # Copied at once: the loop's thread begins and ends sessions meanwhile.
        sessions = tuple(self._sessions.values())
        traffic = [session.traffic() for session in sessions]
        wire = _added_up(told for session in sessions for told in session.wire_bytes())
        expiries = [session.token_expires_at for session in sessions]
        return Census(
            at=self._wall(),
            states=Counter(session.phase for session in sessions),
            received=sum(received for received, _ in traffic),
            sent=sum(sent for _, sent in traffic),
            bytes_received=None if wire is None else wire.received,
            bytes_sent=None if wire is None else wire.sent,
            token_expires_at=min((at for at in expiries if at is not None), default=None),
        )

    def vitals(self) -> Vitals:
        """Return what a health check asks, in a time that 10,000 sessions don't make long."""
        sessions = tuple(self._sessions.values())
        # Of none there is no loop to ask either.
        now = asyncio.get_running_loop().time() if sessions else 0.0
        return Vitals(
            sessions=len(sessions),
            open=sum([session.is_open for session in sessions]),
            with_token=sum([session.has_token for session in sessions]),
            stalled=sum([session.is_stalled_at(now) for session in sessions]),
            draining=self._closed,
        )

    async def drain(self, timeout: Seconds = 25.0) -> None:
        """Wait until every far side has everything that was sent to it, then end every session.

        Nothing more is taken to be sent meanwhile, except what a new link is greeted with;
        messages go on to arrive.  A session ends as soon as its own messages have arrived.
        If a link is lost meanwhile, what it took with it has been reported, and is not
        waited for; what an outbox keeps is sent on the next link.

        Args:
            timeout: Seconds for all of it.  The last of them, a quarter or 6 s, are kept for
                ending the sessions; what was not needed before goes to callbacks that are still
                at work.  Default 25: Kubernetes kills after 30.

        Raises:
            TimeoutError: If something that was sent had not been confirmed by then, or a
                session had to be cut short.  The sessions have ended all the same.
            TypeError: If `timeout` is no duration.
            ValueError: If `timeout` is not finite, or not above 0.
        """
        within = seconds("timeout", timeout, above=0)
        to_close = min(CLOSING_SHARE * within, LONGEST_CLOSING)
        now = asyncio.get_running_loop().time
        until = now() + within
        self._closed = True
        late = False
        politely = at_last = to_close / 2
        try:
            async with asyncio.timeout(within - to_close):
                await asyncio.gather(*(session.drain() for session in self._sessions.values()))
            politely = until - now() - at_last
        except TimeoutError:
            late = True
        finally:
            cut_short = await self._end(politely, at_last=at_last)
        if late:
            raise TimeoutError(f"not everything that was sent was confirmed within {within:g} s")
        if cut_short:
            raise TimeoutError(f"{_listed(cut_short)} had not ended within {within:g} s")

    async def close(self, timeout: Seconds = 5.0) -> None:
        """End every session: close its link, deliver what it has, call `on_disconnect`.

        Args:
            timeout: Seconds after which the callbacks that are left are cancelled, and
                links are closed within their `close_timeout`.  Default 5.

        Raises:
            TypeError: If `timeout` is no duration.
            ValueError: If `timeout` is negative or not finite.
        """
        await self._end(seconds("timeout", timeout))

    async def _end(self, within: float, *, at_last: float | None = None) -> list[Session]:
        """End every session within this time, and what is left within another.

        Args:
            within: Seconds for links and handlers to end as they should.
            at_last: Seconds for those that did not.  None (default) is their `close_timeout`.
        """
        self._closed = True
        try:
            return await end(list(self._sessions.values()), within, at_last=at_last)
        finally:
            for group in list(self._groups):
                group.finish()
            if self._shared is not None:
                await self._shared.tokens.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        # A traceback may show one that is half made.
        return f"<Bridge with {len(getattr(self, '_sessions', ()))} running sessions>"

    # ------------------------------------------------------------ wiring

    def _plan(
        self,
        connection_id: str,
        endpoint: Veiled,
        callbacks: Callbacks,
        options: SessionOptions,
        *,
        depth: int = 5,
    ) -> "_Plan":
        """Check everything that a session is made of."""
        if not isinstance(connection_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"connection_id must be a str, not {type(connection_id).__name__}")
        if not connection_id.strip():
            raise ValueError("connection_id must not be empty")
        policy, limits = self._resolved(options, callbacks.on_token_refresh is not None)
        self._check_endpoint(endpoint, limits.allow_insecure_transport, depth=depth)
        if self._closed:
            raise Closed("the bridge is closed")
        return _Plan(
            connection_id=connection_id,
            endpoint=endpoint,
            callbacks=callbacks,
            policy=policy,
            limits=limits,
        )

    def _resolved(self, options: SessionOptions, in_band: bool) -> tuple[Policy, Options]:
        """Return what a session is to do by; sessions without options of their own share it."""
        if options:
            return resolve({**self._options, **options}, in_band=in_band)
        if in_band not in self._defaults:
            self._defaults[in_band] = resolve(self._options, in_band=in_band)
        return self._defaults[in_band]

    def _begin_with(
        self,
        turnstile: Turnstile | None,
        connection_id: str,
        endpoint: Veiled,
        handler: Handler,
        options: SessionOptions,
    ) -> Session:
        plan = self._plan(connection_id, endpoint, Callbacks(handler), options, depth=6)
        return self._begin(plan, turnstile)

    def _begin(self, plan: "_Plan", turnstile: Turnstile | None = None) -> Session:
        if self._closed:
            raise Closed("the bridge is closed")
        self._numbers += 1
        session = Session(
            number=self._numbers,
            connection_id=plan.connection_id,
            endpoint=plan.endpoint.endpoint,
            callbacks=plan.callbacks,
            policy=plan.policy,
            options=plan.limits,
            parts=self._parts(plan.limits, self._shared_here()),
            turnstile=turnstile,
        )
        self._sessions[session.number] = session
        return session

    def _forget(self, session: int) -> None:
        self._sessions.pop(session, None)

    def _parts(self, limits: Options, shared: "_Shared") -> Parts:
        insecure = limits.allow_insecure_transport
        if insecure not in shared.parts:
            shared.parts[insecure] = self._make_parts(insecure, shared)
        return shared.parts[insecure]

    def _make_parts(self, allow_insecure: bool, shared: "_Shared") -> Parts:
        return Parts(
            tokens=shared.tokens,
            dialer=self._pick_dialer(),
            authenticate=auth.apply,
            asks_again=auth.asks_again,
            claims_in=auth.claims_in,
            gate=shared.gate,
            emit=self._emit,
            forget=self._forget,
            override=self._override,
            check_url=functools.partial(self._check_made, allow_insecure),
            wall=self._wall,
            tick=self._tick,
            roll=self._random.random,
            watchdog=self._watchdog,
            written=done_future(shared.loop),
        )

    def _check_endpoint(self, veiled: Veiled, allow_insecure: bool, *, depth: int) -> None:
        if callable(veiled.endpoint):
            return
        if not isinstance(veiled.endpoint, str):
            raise TypeError(
                f"endpoint_url must be a str or a callable, not {type(veiled.endpoint).__name__}"
            )
        self._warn_if_insecure(
            check_url(veiled.endpoint, allow_insecure=allow_insecure), depth=depth
        )

    def _check_made(self, allow_insecure: bool, url: object) -> str:
        made = check_made_url(url, allow_insecure=allow_insecure)
        self._warn_if_insecure(made, depth=2)
        return made

    def _warn_if_insecure(self, url: str, *, depth: int) -> None:
        if is_insecure(url) and not self._warned:
            self._warned = True
            url = shown(url)  # the warning may be an error, which this frame would be part of
            warnings.warn(f"tokens go in clear to {url}", UserWarning, stacklevel=depth)

    def _pick_dialer(self) -> Dialer:
        if self._dialer is None:
            # Imported here: whoever brings a dialer does not pay for this engine.
            from dromos.dialers.picows import PicowsDialer

            self._dialer = PicowsDialer()
        return self._dialer

    def _shared_here(self) -> "_Shared":
        """What the sessions of a loop share: a semaphore and a cache belong to one."""
        loop = asyncio.get_running_loop()
        if self._shared is None or self._shared.loop is not loop:
            check_task_factory(loop.get_task_factory())
            self._shared = _Shared(
                loop=loop,
                gate=asyncio.Semaphore(self._max_concurrent_dials),
                tokens=cache_for(self._tokens, judge=_judge_token, wall=self._wall),
            )
        return self._shared

    def _emit(self, event: BridgeEvent) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except (Exception, asyncio.CancelledError):
                # They are called, not awaited: a cancellation in here is never ours.
                _log.exception("an observer raised on %s", type(event).__name__)

    def _override(self, error: Exception) -> Verdict | None:
        verdicts = self._verdicts
        if verdicts is None:
            return None
        if not callable(verdicts):
            return look_up(verdicts, error)
        if not isinstance(error, BridgeError):
            return None
        try:
            verdict: object = verdicts(error)
        except (Exception, asyncio.CancelledError):
            _log.exception("verdicts raised on %s", type(error).__name__)
            return None
        if verdict is None or isinstance(verdict, Verdict):
            return verdict
        _log.error("verdicts returned %s, not a Verdict or None", type(verdict).__name__)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a session is made of, each part of it checked."""

    connection_id: str
    endpoint: Veiled
    callbacks: Callbacks
    policy: Policy
    limits: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the sessions of one event loop have in common."""

    loop: asyncio.AbstractEventLoop
    gate: asyncio.Semaphore
    tokens: TokenCache
    parts: dict[bool, Parts] = field(default_factory=dict[bool, Parts])
    """For sessions that may and may not go in clear."""


def _added_up(told: Iterable[WireBytes]) -> WireBytes | None:
    """Add up what links have carried, one by one: a list of it would set off the collector."""
    known, received, sent = False, 0, 0
    for each in told:
        known = True
        received += each.received
        sent += each.sent
    return WireBytes(received, sent) if known else None


def _listed(sessions: list[Session]) -> str:
    first, others = sessions[0], len(sessions) - 1
    more = f" and {others} more sessions" if others else ""
    return f"the callbacks or the link of {first.connection_id!r}{more}"


def _check_part(name: str, part: object, *methods: str) -> None:
    lacking = [method for method in methods if not callable(getattr(part, method, None))]
    if isinstance(part, type) or lacking:
        what = f"the class {part.__name__}" if isinstance(part, type) else type(part).__name__
        raise TypeError(f"{name} must be an object with {' and '.join(methods)}, not {what}")


def _check_observer(name: str, observer: object) -> None:
    if not callable(observer):
        raise TypeError(f"{name} must be callable, not {type(observer).__name__}")
    if is_async(observer):
        raise TypeError(f"{name} must be a plain function, not async def: nobody awaits it")


def _observers(
    logger: object, metrics: Metrics | None, on_event: Observer | None
) -> list[Callable[[BridgeEvent], None]]:
    observers: list[Callable[[BridgeEvent], None]] = []
    observers.append(log_failures() if logger is None else log_events(adapt(logger)))
    if metrics is not None:
        _check_part(
            "metrics",
            metrics,
            "inc_connections",
            "inc_disconnects",
            "inc_token_refreshes",
            "set_connection_status",
        )
        observers.append(count_events(metrics))
    if on_event is not None:
        observers.append(on_event)
    return observers


def _judge_token(error: Exception, worked: bool) -> Verdict:
    return judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)
