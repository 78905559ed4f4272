"""A proxy on loopback that does to connections what networks and middleboxes do."""

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from dromos.testing._loopback import HttpConnection, Loopback, Reply, on_its_loop, reset
from dromos.testing._relay import Direction, Fault, FaultRecord, Kind, ProxiedConnection, close_body

__all__ = ["FaultProxy", "FaultRecord", "ProxiedConnection"]

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


@dataclass(slots=True)
class _Plan:
    """A fault for connections to come."""

    remaining: int | None
    fault: Fault


class FaultProxy(Loopback):
    """A TCP proxy that breaks connections on demand, between a client and its far side.

        async with FarSide(echo=True) as far, FaultProxy(far.url) as proxy:
            async with bridge.connect(
                "c-1", proxy.url, ping_interval=0.5, ping_timeout=2
            ) as connection:
                await connection.wait_open()
                proxy.go_silent()                   # a cable is cut; nobody says so
                await far.wait_for_link(2)

    Faults befall the connections that are live when they are ordered (`live`), and as
    many as asked for of those to come (`next`; None for all).  A connection to come
    takes one order, in turn; a live one takes any number.  Those with `after_bytes`
    happen once so many bytes more have been relayed in their direction, on a
    connection to come counted from its first byte, the handshake included; those with
    `after`, so many seconds later; others at once.

    `await proxy.stop()` has dials refused, until `await proxy.start()`.

    Args:
        target: The URL to pass connections on to, `ws://`, `wss://`, `http://` or
            `https://`.  TLS is passed through: what has to look into the bytes
            (`answer`, `close_with`, `truncate` and `corrupt` of "the next frame") is
            for `ws://` only.
        host: Address to listen on.  Default `127.0.0.1`.
        port: Port to listen on.  Default 0: one that is free.

    Attributes:
        connections: Every connection there was, in order.
        happened: Every fault that has happened, in order.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host=host, port=port, ssl=None)
        parts = urlsplit(target)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("target must be a ws://, wss://, http:// or https:// URL with a host")
        self.connections: list[ProxiedConnection] = []
        self.happened: list[FaultRecord] = []
        self._target = parts
        self._address = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._plans: deque[_Plan] = deque()

    @property
    def url(self) -> str:
        """The target's URL, but for host and port, which are this proxy's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self._target._replace(netloc=f"{host}:{self.port}").geturl()

    @property
    def open_connections(self) -> list[ProxiedConnection]:
        """The connections that are open now, oldest first."""
        return [each for each in self.connections if each.closed_at is None]

    # --- Nothing comes through, or slowly --------------------------------------------------

    @on_its_loop
    def go_silent(
        self,
        *,
        direction: Direction = "both",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Relay nothing more, the end of the connection included; TCP stays open.

        So does a cut cable.  What is written meanwhile comes through after `heal`.

        Args:
            direction: `"up"` is from the client to the target, `"down"` the other
                way.  Default: both, where `after_bytes` counts for each by itself.
            after_bytes: To relay before.  The same in all methods of this class.
            after: Seconds to wait before.  The same in all methods of this class.
            live: Whether it befalls the connections that are open now.  The same in
                all methods of this class.
            next: How many of the connections to come it befalls; None all, until
                `heal`.  The same in all methods of this class.
        """
        self._order("go_silent", direction, after_bytes, after, live, next)

    @on_its_loop
    def stall(
        self,
        seconds: float,
        *,
        direction: Direction = "both",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Relay nothing for some seconds, and then everything that came meanwhile."""
        self._order("stall", direction, after_bytes, after, live, next, seconds=_length(seconds))

    @on_its_loop
    def throttle(
        self,
        bytes_per_second: float,
        *,
        direction: Direction = "both",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Relay so many bytes a second at most, in each direction by itself."""
        if not bytes_per_second > 0:
            raise ValueError(f"bytes_per_second must be above 0, not {bytes_per_second}")
        self._order("throttle", direction, after_bytes, after, live, next, rate=bytes_per_second)

    # --- The connection ends ---------------------------------------------------------------

    @on_its_loop
    def reset(
        self,
        *,
        direction: Direction = "both",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Reset the connection at both ends (RST).

        Args:
            direction: Where `after_bytes` are counted; default, where they are reached
                first.
            after_bytes: As for `go_silent`.
            after: As for `go_silent`.
            live: As for `go_silent`.
            next: As for `go_silent`.
        """
        self._order("reset", direction, after_bytes, after, live, next)

    @on_its_loop
    def half_close(
        self,
        *,
        direction: Direction = "down",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """End one direction (FIN); the other goes on.

        Args:
            direction: `"down"` (default) is the end as the client sees it.
            after_bytes: As for `go_silent`.
            after: As for `go_silent`.
            live: As for `go_silent`.
            next: As for `go_silent`.
        """
        self._order("half_close", direction, after_bytes, after, live, next)

    @on_its_loop
    def truncate(
        self,
        after_bytes: int | None = None,
        *,
        direction: Direction = "down",
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """End the connection (FIN, both ends) with something half said.

        Args:
            after_bytes: To relay before; None (default): half of the next frame.
            direction: Whose bytes are meant.  Default `"down"`.
            after: As for `go_silent`.
            live: As for `go_silent`.
            next: As for `go_silent`.
        """
        if after_bytes is None:
            self._look_inside("truncate")
        self._order("truncate", direction, after_bytes, after, live, next)

    @on_its_loop
    def close_with(
        self,
        code: int | None = 1000,
        reason: str = "",
        *,
        direction: Direction = "down",
        after_bytes: int | None = None,
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Write a CLOSE, as if one end had, as soon as a frame of that end has ended.

        Nothing of that end's is relayed after it, but the end of the connection.
        On a connection to come it follows the handshake.

        Args:
            code: Any number, even one that must not be sent; None writes an empty CLOSE.
            reason: At most 123 bytes.
            direction: `"down"` (default) is a CLOSE of the far side's to the client, `"up"`
                one of the client's to the far side, masked as those are.
            after_bytes: To relay before; the frame that they end in is relayed to its end.
                None (default): as soon as any frame has ended.
            after: As for `go_silent`.
            live: As for `go_silent`.
            next: As for `go_silent`.
        """
        self._look_inside("close_with")
        body = close_body(code, reason)
        self._order("close_with", direction, after_bytes, after, live, next, body=body)

    # --- Something else comes through ------------------------------------------------------

    @on_its_loop
    def corrupt(
        self,
        at_byte: int | None = None,
        *,
        direction: Direction = "down",
        after: float | None = None,
        live: bool = True,
        next: int | None = 0,
    ) -> None:
        """Turn around all bits of one byte.

        Args:
            at_byte: Which of the bytes to come, from 0; None (default): the first one
                of the next frame, which makes it one that the protocol doesn't know.
            direction: Whose bytes are meant.  Default `"down"`.
            after: As for `go_silent`.
            live: As for `go_silent`.
            next: As for `go_silent`.
        """
        if at_byte is None:
            self._look_inside("corrupt")
        self._order("corrupt", direction, at_byte, after, live, next)

    # --- The handshake ---------------------------------------------------------------------

    @on_its_loop
    def delay_handshake(self, seconds: float, *, next: int | None = 1) -> None:
        """Keep the answer to the handshake back, for some seconds after the dial."""
        self._order("delay_handshake", "down", None, None, False, next, seconds=_length(seconds))

    @on_its_loop
    def answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        *,
        next: int | None = 1,
    ) -> None:
        """Answer handshakes with an HTTP status, a redirect included; the target hears nothing."""
        self._look_inside("answer")
        reply = Reply(
            status=status,
            headers=tuple((headers or {}).items()),
            body=body.encode() if isinstance(body, str) else body,
        )
        self._order("answer", "down", None, None, False, next, reply=reply)

    # --- The end of it ---------------------------------------------------------------------

    @on_its_loop
    def heal(self) -> None:
        """Forget all orders, and let everything flow that was kept back.

        What has ended, or was changed, stays so.
        """
        self._plans.clear()
        for connection in self.open_connections:
            connection.heal()

    def __repr__(self) -> str:
        return (
            f"<FaultProxy {self.url} connections={len(self.connections)} "
            f"open={len(self.open_connections)} happened={len(self.happened)}>"
        )

    # --- Serving ---------------------------------------------------------------------------

    def _order(
        self,
        kind: Kind,
        direction: Direction,
        after_bytes: int | None,
        after: float | None,
        live: bool,
        next: int | None,
        *,
        seconds: float = 0.0,
        rate: float = math.inf,
        body: bytes = b"",
        reply: Reply | None = None,
    ) -> None:
        if direction not in ("up", "down", "both"):
            raise ValueError(f"direction must be 'up', 'down' or 'both', not {direction!r}")
        if after_bytes is not None and after_bytes < 0:
            raise ValueError(f"bytes must be at least 0, not {after_bytes}")
        if after is not None and after_bytes is not None:
            raise ValueError("a fault happens after some bytes or after some seconds, not both")
        if next is not None and next < 0:
            raise ValueError(f"next must be at least 0 or None, not {next}")
        fault = Fault(
            kind=kind,
            direction=direction,
            after_bytes=after_bytes,
            after=None if after is None else _length(after),
            seconds=seconds,
            rate=rate,
            body=body,
            reply=reply,
        )
        if live:
            for connection in self.open_connections:
                connection.order(fault)
        if next != 0:
            self._plans.append(_Plan(next, fault))

    def _look_inside(self, what: str) -> None:
        if self._target.scheme in ("wss", "https"):
            raise ValueError(f"{what} has to look into the bytes, and TLS is passed through")

    def _take_plan(self) -> Fault | None:
        if not self._plans:
            return None
        plan = self._plans[0]
        if plan.remaining is not None:
            plan.remaining -= 1
            if plan.remaining <= 0:
                self._plans.popleft()
        return plan.fault

    def _note(self, record: FaultRecord) -> None:
        self.happened.append(record)
        self._tell()

    async def _serve(self, http: HttpConnection) -> None:
        connection = ProxiedConnection(
            len(self.connections) + 1,
            (http.reader, http.writer),
            framed=self._target.scheme == "ws",
            clock=self.clock,
            on_fault=self._note,
        )
        self.connections.append(connection)
        self._tell()
        try:
            fault = self._take_plan()
            if fault is not None and fault.reply is not None:
                if await http.read_request(self.clock) is not None:
                    http.writer.write(http.encode(fault.reply))
                    connection.note(fault, "down")
                    await http.writer.drain()
                return
            if fault is not None:
                connection.order(fault)
            await self._pass_on(http, connection)
        finally:
            connection.end()

    async def _pass_on(self, http: HttpConnection, connection: ProxiedConnection) -> None:
        try:
            target = await asyncio.open_connection(*self._address)
        except OSError:
            reset(http.writer.transport)
            return
        self._writers.add(target[1])
        try:
            await connection.run(target)
        finally:
            self._writers.discard(target[1])


def _length(seconds: float) -> float:
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"seconds must be finite and at least 0, not {seconds}")
    return seconds
