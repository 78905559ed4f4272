"""`Bridge` for threads: the same sessions, on the one loop thread of the process."""

import functools
import weakref
from types import TracebackType
from typing import Any, Self, Unpack

from dromos._calls import is_async
from dromos._driver.endpoint import Veiled
from dromos._options import BridgeOptions, SessionOptions
from dromos.bridge import Bridge as AsyncBridge
from dromos.interfaces import Endpoint
from dromos.model import Seconds, seconds
from dromos.sync._handler import (
    Callback,
    ConnectCallback,
    DisconnectCallback,
    Handler,
    RefreshCallback,
    adapt,
    relay,
)
from dromos.sync._loop import Job, loop_thread
from dromos.sync._mailbox import Lane, Mailbox, is_serving, serving
from dromos.sync._tokens import Tokens, close_provider, unblocking
from dromos.sync.connection import Connection

__all__ = ["Bridge", "BridgeOptions", "connect", "run"]


class Bridge:
    """Keeps authenticated WebSocket connections alive, for threads.

        with Bridge(OAuthClient("http://localhost:8081")) as bridge:
            with bridge.connect("connection-id", "wss://host/ws") as connection:
                for message in connection:
                    connection.send(message)

    Its methods may be called from any thread.  All bridges of a process share one event
    loop on a daemon thread, which starts at the first use.  What `logger`, `metrics`,
    `on_event`, `verdicts` and `dedupe` call runs on that thread and must not block.

    At the interpreter's exit everything that is open is closed within its `close_timeout`;
    a daemon thread that waits then is ended by SystemExit.  In a forked child every
    method raises RuntimeError but `close`, which does nothing: make a new bridge there.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        close_tokens: bool = False,
        **options: Unpack[BridgeOptions],
    ) -> None:
        """Check every option, and open nothing.

        Args:
            tokens: Where tokens come from: a provider as for `dromos.Bridge`, used on the
                loop thread only; or one with plain methods, which are called on a daemon
                thread, one at a time over all bridges that share the provider.
            close_tokens: Whether `close` calls the provider's `aclose` or `close`, too.
                Default False: who made it closes it, and an `OAuthClient` keeps nothing
                open.
            **options: Those of `dromos.Bridge`, with the same defaults.

        Raises:
            TypeError: If an argument has the wrong type; the message names it.
            ValueError: If an argument has a value that can't work; the message names it.
        """
        if not isinstance(close_tokens, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"close_tokens must be a bool, not {type(close_tokens).__name__}")
        self._inner = AsyncBridge(unblocking(tokens), **options)
        self._tokens = tokens
        self._close_tokens = close_tokens
        self._loop = loop_thread()

    def maintain_websocket(
        self,
        connection_id: str,
        endpoint_url: Endpoint,
        handler: Handler,
        **options: Unpack[SessionOptions],
    ) -> None:
        """Keep one connection alive until it is closed or permanently failed.

        This blocks, and calls the handler's plain methods in this very thread, one at a
        time and in the order of events; a method may take its time, but for
        `connect_timeout` and `close_timeout`.  A method that is `async def` runs on the
        loop thread.

        Ctrl-C, or anything else that is no `Exception`, closes the link, calls
        `on_disconnect`, and is raised.

        Args:
            connection_id: What the token provider knows the connection by.
            endpoint_url: `ws://` or `wss://`, or a callable that makes one of the token;
                a plain one is called on a thread of its own.
            handler: What to do with it.  See `dromos.sync.Handler`.
            **options: Options for this session in place of the bridge's.

        Raises:
            PermanentError: If the connection can't be kept alive; its `__cause__` is why.
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has a value that can't work.
            RuntimeError: If the bridge is closed, on the loop thread, and in a forked child.
        """
        mailbox = Mailbox()
        endpoint, lane = self._unblocking_endpoint(endpoint_url)
        veiled = Veiled(endpoint)
        del endpoint_url, endpoint
        relayed = relay(self._loop, mailbox.call, handler)

        async def work() -> None:
            self._loop.look_after(self._inner, self._tokens)
            await self._inner.maintain_websocket(connection_id, veiled.endpoint, relayed, **options)

        try:
            with serving(weakref.ref(self)):
                _serve(Job(self._loop, work, on_end=mailbox.close), mailbox)
        finally:
            if lane is not None:
                lane.close()

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
        """Keep one connection alive as an object, to be iterated.

            with bridge.connect("connection-id", "wss://host/ws") as connection:
                connection.send("hello")
                for message in connection:
                    print(message)

        Plain callbacks run one after the other on a thread of the connection's own, so
        they may block, within `connect_timeout` and `close_timeout`; they get a `send`
        that blocks.  Those that are `async def` run on the loop thread.

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
            RuntimeError: If the bridge is closed, on the loop thread, and in a forked child.
        """
        veiled = Veiled(endpoint_url)
        del endpoint_url
        self._loop.check()
        connection = Connection(self._loop, receive=receive)
        lane = Lane("dromos-callbacks", connection, self)
        veiled.endpoint, endpoint_lane = self._unblocking_endpoint(veiled.endpoint)
        callbacks: dict[str, Callback | None] = {
            "on_connect": on_connect,
            "on_handover": on_handover,
            "on_disconnect": on_disconnect,
            "on_token_refresh": on_token_refresh,
        }
        adapted: dict[str, Any] = {
            name: adapt(self._loop, lane.call, name, callback) if callable(callback) else callback
            for name, callback in callbacks.items()
        }
        inner = self._inner.connect(
            connection_id, veiled.endpoint, **adapted, receive=receive, **options
        )
        is_needed = any(callable(each) and not is_async(each) for each in callbacks.values())
        connection.prepare(
            inner,
            bridge=self._inner,
            keep=self._tokens,
            callbacks=lane if is_needed else None,
            endpoint=endpoint_lane,
        )
        return connection

    def close(self, timeout: Seconds = 5.0) -> None:
        """End every session: close its link, deliver what it has, call `on_disconnect`.

        Any thread may close, and more than one at once: each waits for the end, but for
        a thread that runs this bridge's `maintain_websocket` or its callbacks.  In a
        forked child, and after the interpreter's exit has closed it, nothing is done.

        Args:
            timeout: Seconds after which the callbacks that are left are cancelled, and
                links are closed within their `close_timeout`.  Default 5.

        Raises:
            TypeError: If `timeout` is no duration.
            ValueError: If `timeout` is negative or not finite.
            RuntimeError: On the loop thread.
        """
        within = seconds("timeout", timeout)
        if self._loop.is_gone:
            return
        work = functools.partial(self._close, within)
        if is_serving(self):
            self._loop.submit(work)  # The end waits for this very thread.
        else:
            self._loop.run(work)

    async def _close(self, within: float) -> None:
        await self._inner.close(within)
        if self._close_tokens:
            self._close_tokens = False
            await close_provider(self._tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._inner)

    def _unblocking_endpoint(self, endpoint: Endpoint) -> tuple[Endpoint, Lane | None]:
        if not callable(endpoint) or is_async(endpoint):
            return endpoint, None
        lane = Lane("dromos-endpoint", self)
        return lane.wrap(endpoint), lane


def run(
    tokens: Tokens,
    connection_id: str,
    endpoint_url: Endpoint,
    handler: Handler,
    *,
    close_tokens: bool = False,
    **options: Unpack[BridgeOptions],
) -> None:
    """Make a bridge, keep one connection alive with it in this thread, and close it.

    Ctrl-C closes the link, calls `on_disconnect`, and is raised.

        run(OAuthClient("http://localhost:8081"), "connection-id", "wss://host/ws", Agent())

    Args:
        tokens: As for `Bridge`.
        connection_id: What the token provider knows the connection by.
        endpoint_url: As for `Bridge.maintain_websocket`.
        handler: What to do with it.  See `Handler`.
        close_tokens: As for `Bridge`.  Default False.
        **options: Those of `dromos.Bridge`, with the same defaults.

    Raises:
        PermanentError: If the connection can't be kept alive; its `__cause__` is why.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that can't work.
        RuntimeError: On the loop thread.
    """
    veiled = Veiled(endpoint_url)
    del endpoint_url
    with Bridge(tokens, close_tokens=close_tokens, **options) as bridge:
        bridge.maintain_websocket(connection_id, veiled.endpoint, handler)


def connect(
    tokens: Tokens,
    connection_id: str,
    endpoint_url: Endpoint,
    *,
    on_connect: ConnectCallback | None = None,
    on_handover: ConnectCallback | None = None,
    on_disconnect: DisconnectCallback | None = None,
    on_token_refresh: RefreshCallback | None = None,
    receive: bool = True,
    close_tokens: bool = False,
    **options: Unpack[BridgeOptions],
) -> Connection:
    """Make a bridge for one connection, which is closed with the connection.

        with connect(OAuthClient(url), "connection-id", "wss://host/ws") as connection:
            for message in connection:
                print(message)

    Args:
        tokens: As for `Bridge`.
        connection_id: What the token provider knows the connection by.
        endpoint_url: As for `Bridge.maintain_websocket`.
        on_connect: As for `Bridge.connect`, like those that follow.
        on_handover: Default None: `on_connect` is called.
        on_disconnect: Default None.
        on_token_refresh: Default None: hand over.
        receive: Whether messages are kept to be iterated.  Default True.
        close_tokens: As for `Bridge`.  Default False.
        **options: Those of `dromos.Bridge`, with the same defaults.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that can't work.
        RuntimeError: On the loop thread.
    """
    veiled = Veiled(endpoint_url)
    del endpoint_url
    bridge = Bridge(tokens, close_tokens=close_tokens, **options)
    connection = bridge.connect(
        connection_id,
        veiled.endpoint,
        on_connect=on_connect,
        on_handover=on_handover,
        on_disconnect=on_disconnect,
        on_token_refresh=on_token_refresh,
        receive=receive,
    )
    connection.own(bridge)
    return connection


def _serve(job: Job[None], mailbox: Mailbox) -> None:
    """Call what a session wants called, until it has ended; and end it if that is interrupted."""
    try:
        job.start()
        mailbox.serve(guarded=False)
    except BaseException:
        job.cancel()
        mailbox.serve(guarded=False)
        raise
    job.result()
