"""A loopback server that can be killed and started again, which both fakes are."""

import asyncio
import contextlib
import functools
import os
import socket
import ssl as tls
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast

import h11

from dromos._http_server import Headers, HttpConnection, Reply, Request, stop_listening

__all__ = ["Headers", "HttpConnection", "Loopback", "Reply", "Request", "on_its_loop", "reset"]

Clock = Callable[[], float]
P = ParamSpec("P")
T = TypeVar("T")


def reset(transport: asyncio.BaseTransport) -> None:
    """End a TCP connection with RST in place of FIN, whatever waits to be written."""
    sock = transport.get_extra_info("socket")
    if sock is not None:  # TLS forgets it as soon as its connection is lost
        # Another loop's socket object may refuse options; the descriptor never does.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # uvloop's transports are no subclass of asyncio's.
    cast("asyncio.WriteTransport", transport).abort()


class _OnLoop(Protocol):
    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...
    @property
    def thread(self) -> int | None: ...


S = TypeVar("S", bound=_OnLoop)


def on_its_loop(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make a method that touches sockets callable from any thread."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = self.loop
        if loop is None or self.thread == threading.get_ident():
            return method(self, *args, **kwargs)

        async def run() -> T:
            return method(self, *args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    return call


def awaited_on_its_loop(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a coroutine that waits for sockets awaitable from any event loop."""

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = self.loop
        if loop is None or loop.is_closed() or self.thread == threading.get_ident():
            return await method(self, *args, **kwargs)
        there = asyncio.run_coroutine_threadsafe(method(self, *args, **kwargs), loop)
        return await asyncio.wrap_future(there)

    return call


class Loopback(ABC):
    """A TCP server on loopback that can be killed and started again on the same port.

    Attributes:
        clock: Returns Unix time; what stamps requests and decides expiries.
        errors: What callables of yours raised inside the server.
    """

    _schemes = ("http", "https")

    def __init__(
        self, *, host: str, port: int, ssl: tls.SSLContext | None, clock: Clock = time.time
    ) -> None:
        self.clock = clock
        self.errors: list[Exception] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: int | None = None
        self._host = host
        self._port = port
        self._ssl = ssl
        self._server: asyncio.Server | None = None
        self._reservation: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The port; stays the same over `stop` and `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Where to find it, without a slash at the end."""
        scheme = self._schemes[self._ssl is not None]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @awaited_on_its_loop
    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        if self._server is not None:
            return
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._server = await asyncio.start_server(
            self._accept, self._host, self._port, ssl=self._ssl
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self._release_port()
        self._tell()

    @awaited_on_its_loop
    async def stop(self) -> None:
        """Die: stop listening, and reset every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        for writer in list(self._writers):
            reset(writer.transport)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await stop_listening(server)
        self._reserve_port()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        self._tell()

    @awaited_on_its_loop
    async def close(self) -> None:
        """Stop, and give up the port."""
        await self.stop()
        self._release_port()

    @awaited_on_its_loop
    async def wait_for(self, predicate: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until the predicate is true; it is asked again whenever something happens here.

        Args:
            predicate: What to wait for.  It may look at this object only, since
                nothing else wakes it.
            timeout: Seconds after which to give up.  Default 10.

        Raises:
            TimeoutError: If it stayed false.
        """
        try:
            async with asyncio.timeout(timeout):
                while not predicate():
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not true within {timeout:g} s; {self!r}") from None

    @contextlib.contextmanager
    def threaded(self) -> Generator[Self, None, None]:
        """Run on a thread of its own, for callers without an event loop.

        Methods may be called from any thread, and coroutines awaited in any event loop;
        `run` waits for one where there is none.
        """
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def live() -> None:
            async with self:
                enough = asyncio.Event()
                started.set_result((asyncio.get_running_loop(), enough))
                await enough.wait()

        def work() -> None:
            try:
                # A factory keeps the runner from replacing the policy's current loop.
                with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                    runner.run(live())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        thread = threading.Thread(target=work, name=type(self).__name__, daemon=True)
        thread.start()
        loop, enough = started.result()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(enough.set)
            thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of this object on its thread, and return its result."""
        if self.loop is None:
            raise RuntimeError("not running: use `with ....threaded()` first")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    @abstractmethod
    async def _serve(self, http: HttpConnection) -> None:
        """Serve one TCP connection; the subclass says how."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # stopped between its accept(2) and now
            reset(writer.transport)
            return
        # Not the task's first act: `stop` may cancel it before that.
        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(
            self._look_after(reader, writer), name=f"{type(self).__name__}-connection"
        )
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._forget, writer))

    def _forget(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._writers.discard(writer)
        writer.close()
        self._tell()

    async def _look_after(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(HttpConnection(reader, writer))
        except (OSError, h11.RemoteProtocolError):
            pass  # The client left, or did not speak HTTP; tests see that from its side.
        except Exception as error:
            self.errors.append(error)
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{type(self).__name__} failed", "exception": error}
            )

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _reserve_port(self) -> None:
        # A bound socket that does not listen refuses connections, and keeps a client on
        # the same machine from being given this very port, and so connecting to itself.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._reservation = socket.socket(family, socket.SOCK_STREAM)
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            self._reservation.bind((self._host, self._port))

    def _release_port(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None


async def settle(answer: "T | Awaitable[T]") -> T:
    """Return what a callable gave, awaited if it has to be."""
    if isinstance(answer, Awaitable):
        return await answer  # pyright: ignore[reportUnknownVariableType]
    return answer
