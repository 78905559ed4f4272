"""One connection through a fault proxy: two pipes, which break as they are told."""

import asyncio
import contextlib
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from dromos.testing._frames import CLOSE, encode
from dromos.testing._loopback import Reply, reset

__all__ = ["Boundaries", "Direction", "Fault", "FaultRecord", "Kind", "ProxiedConnection"]

Direction: TypeAlias = Literal["up", "down", "both"]
"""`"up"` is from the client to the target, `"down"` from the target to the client."""

Kind: TypeAlias = Literal[
    "go_silent",
    "stall",
    "throttle",
    "reset",
    "half_close",
    "truncate",
    "corrupt",
    "delay_handshake",
    "answer",
    "close_with",
]

CHUNK: Final = 2**16
LONGEST_HEAD: Final = 2**18
TICKS: Final = 20  # a second: how finely a throttled pipe flows
HEAD_END: Final = b"\r\n\r\n"
MASK: Final = b"\x1d\xe5\x0f\x3a"
"""Of a CLOSE that pretends to be the client's; any four bytes would do."""

SWITCHING: Final = b"HTTP/1.1 101"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is to go wrong with a connection, and when: by bytes, by seconds, or at once."""

    kind: Kind
    direction: Direction = "both"
    after_bytes: int | None = None
    after: float | None = None
    seconds: float = 0.0
    rate: float = math.inf
    body: bytes = b""
    reply: Reply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that has happened.

    Attributes:
        kind: The name of the method that ordered it.
        connection: The number of the connection that it happened to, from 1.
        direction: Where it happened.
        up: Bytes that had been relayed from the client to the target.
        down: Bytes that had been relayed from the target to the client.
        at: Unix time.
    """

    kind: Kind
    connection: int
    direction: Direction
    up: int
    down: int
    at: float


class Boundaries:
    """Follows one direction of a WebSocket, to tell where its frames begin and end.

    Args:
        framed: False for bytes that can't be looked into.
        answer: Whether these are the target's bytes: only after a 101 do frames follow.
    """

    def __init__(self, *, framed: bool, answer: bool) -> None:
        self._opaque = not framed
        self._answer = answer
        self._in_head = True
        self._head = bytearray()
        self._left = 0

    def split(self, data: bytes) -> Iterator[tuple[bytes, bool, bool]]:
        """Cut bytes at the boundaries: yield each piece, and whether it begins and ends a frame.

        The end of the handshake is the end of a frame as well: the next one may follow.
        """
        while data:
            if self._opaque:
                yield data, False, False
                return
            if self._in_head:
                size, begins, ends = self._of_head(data), False, not self._in_head
            else:
                begins = not self._head and not self._left
                size = self._of_frame(data)
                ends = not self._head and not self._left
            yield data[:size], begins, ends and not self._opaque
            data = data[size:]

    def _of_head(self, data: bytes) -> int:
        before = len(self._head)
        self._head += data
        end = self._head.find(HEAD_END, max(0, before - len(HEAD_END) + 1))
        if end < 0:
            self._opaque = len(self._head) > LONGEST_HEAD
            return len(data)
        self._opaque = self._answer and not self._head.startswith(SWITCHING)
        self._in_head = False
        self._head.clear()
        return end + len(HEAD_END) - before

    def _of_frame(self, data: bytes) -> int:
        """Return how many of these bytes belong to the frame that is under way."""
        taken = 0
        if not self._left:
            while (lacking := self._header_size() - len(self._head)) > 0:
                if taken == len(data):
                    return taken
                self._head += data[taken : taken + lacking]
                taken = min(len(data), taken + lacking)
            self._left = self._payload_size()
            self._head.clear()
        more = min(self._left, len(data) - taken)
        self._left -= more
        return taken + more

    def _header_size(self) -> int:
        if len(self._head) < 2:
            return 2
        extended = {126: 2, 127: 8}.get(self._head[1] & 0x7F, 0)
        return 2 + extended + (4 if self._head[1] & 0x80 else 0)

    def _payload_size(self) -> int:
        length = self._head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        return int.from_bytes(self._head[2 : 2 + extended], "big") if extended else length


class Pipe:
    """One direction of a connection."""

    def __init__(
        self,
        connection: "ProxiedConnection",
        direction: Literal["up", "down"],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        framed: bool,
    ) -> None:
        self.direction: Literal["up", "down"] = direction
        self.writer = writer
        self.relayed = 0
        self.rate = math.inf
        self._connection = connection
        self._reader = reader
        self._boundaries = Boundaries(framed=framed, answer=direction == "down")
        self._at_boundary = False
        self._is_deaf = False
        self._due: list[tuple[int, Fault]] = []  # by the byte before which they happen
        self._flips: list[tuple[int, Fault]] = []  # by the byte that they change
        self._closes: list[tuple[int, Fault]] = []  # by the byte from which a frame's end will do
        self._with_frame: list[Fault] = []
        self._holds: set[object] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    # What faults do

    def arm(self, fault: Fault) -> None:
        """Take an order: it is carried out now, or when its byte or frame comes."""
        if fault.kind == "close_with":
            self._closes.append((self.relayed + (fault.after_bytes or 0), fault))
            self.close()
        elif fault.after_bytes is None and fault.kind in ("truncate", "corrupt"):
            self._with_frame.append(fault)
        elif fault.kind == "corrupt":
            self._flips.append((self.relayed + (fault.after_bytes or 0), fault))
        else:
            self._due.append((self.relayed + (fault.after_bytes or 0), fault))
            self._fire()

    def hold(self, why: object) -> None:
        """Relay nothing more, the end included, until `let_go`."""
        self._holds.add(why)
        self._flowing.clear()

    def let_go(self, why: object) -> None:
        """Go on, unless there is another reason not to."""
        self._holds.discard(why)
        if not self._holds:
            self._flowing.set()

    def heal(self) -> None:
        """Forget every order, and go on as if nothing had been."""
        self._due.clear()
        self._flips.clear()
        self._closes.clear()
        self._with_frame.clear()
        self._holds.clear()
        self.rate = math.inf
        self._flowing.set()

    def close(self) -> None:
        """Write a CLOSE that is due, where a frame has ended and the handshake is over."""
        if not self._at_boundary or not self._connection.is_upgraded:
            return
        mask = MASK if self.direction == "up" else b""  # RFC 6455, 5.1: a client's is masked
        for at, fault in self._closes:
            if at <= self.relayed and not self._is_deaf:
                self._is_deaf = True
                if not self.writer.is_closing():
                    self.writer.write(encode(CLOSE, fault.body, mask=mask))
                self._connection.note(fault, self.direction)

    def end(self) -> None:
        """Tell the other end that no more will come, and swallow what does."""
        self._is_deaf = True
        if not self.writer.is_closing():
            with contextlib.suppress(OSError):
                self.writer.write_eof()

    # What it does by itself

    async def run(self) -> None:
        """Relay until the end, and that too."""
        try:
            while data := await self._reader.read(CHUNK):
                for piece, begins, ends in self._boundaries.split(data):
                    await self._relay(piece, begins=begins, ends=ends)
            await self._flowing.wait()
            self.end()
        except OSError:
            # What one end suffers, the other one hears of.
            await self._flowing.wait()
            self._connection.reset()

    async def _relay(self, piece: bytes, *, begins: bool, ends: bool) -> None:
        await self._flowing.wait()
        if begins:
            self._begin_frame(len(piece))
        while piece and not self._is_deaf:
            await self._flowing.wait()
            size = min([len(piece), *(at - self.relayed for at, _ in self._due)])
            if self.rate < math.inf:
                size = min(size, max(1, int(self.rate / TICKS)))
            part, piece = piece[:size], piece[size:]
            self.writer.write(self._flipped(part))
            self.relayed += size
            self._at_boundary = ends and not piece
            if self._at_boundary and self.direction == "down":
                self._connection.upgraded()
            self.close()
            self._fire()
            await self.writer.drain()
            if self.rate < math.inf:
                await asyncio.sleep(size / self.rate)

    def _begin_frame(self, size: int) -> None:
        waiting, self._with_frame = self._with_frame, []
        for fault in waiting:
            if fault.kind == "corrupt":
                self._flips.append((self.relayed, fault))
            else:  # truncate
                # Of two bytes or two thousand: something is missing, and something is there.
                self._due.append((self.relayed + max(1, size // 2), fault))

    def _flipped(self, part: bytes) -> bytes:
        changed = bytearray(part)
        for at, fault in list(self._flips):
            if at < self.relayed + len(part):
                changed[at - self.relayed] ^= 0xFF
                self._flips.remove((at, fault))
                self._connection.note(fault, self.direction)
        return bytes(changed)

    def _fire(self) -> None:
        for at, fault in list(self._due):
            if at <= self.relayed:
                self._due.remove((at, fault))
                self._connection.befall(fault, self)


class ProxiedConnection:
    """One connection through a fault proxy, live or ended.

    Attributes:
        number: Counts the connections of this proxy, from 1.
        opened_at: Unix time.
        closed_at: Unix time; None while either direction is open.
        is_upgraded: Whether the handshake is over, so that frames flow.
    """

    def __init__(
        self,
        number: int,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        framed: bool,
        clock: Callable[[], float],
        on_fault: Callable[[FaultRecord], None],
    ) -> None:
        self.number = number
        self.opened_at = clock()
        self.closed_at: float | None = None
        self.is_upgraded = False
        self._client = client
        self._framed = framed
        self._clock = clock
        self._on_fault = on_fault
        self._orders: list[Fault] = []
        self._pipes: Mapping[str, Pipe] = MappingProxyType({})
        self._timers: list[asyncio.TimerHandle] = []
        self._happened: list[Fault] = []

    @property
    def up(self) -> int:
        """How many bytes were relayed from the client to the target."""
        return self._pipes["up"].relayed if self._pipes else 0

    @property
    def down(self) -> int:
        """How many bytes were relayed from the target to the client."""
        return self._pipes["down"].relayed if self._pipes else 0

    def __repr__(self) -> str:
        state = "open" if self.closed_at is None else "closed"
        return f"<ProxiedConnection {self.number} {state}, {self.up} up, {self.down} down>"

    def order(self, fault: Fault) -> None:
        """Have something go wrong, when its time has come; the proxy calls this."""
        if not self._pipes:
            self._orders.append(fault)
        elif fault.after is None:
            self._arm(fault)
        else:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(fault.after, self._arm, fault))

    def heal(self) -> None:
        """Let everything flow that was kept, and forget what was ordered."""
        self._orders.clear()
        for timer in self._timers:
            timer.cancel()
        for pipe in self._pipes.values():
            pipe.heal()

    def reset(self) -> None:
        """End it with RST at both ends."""
        for pipe in self._pipes.values():
            pipe.heal()
            reset(pipe.writer.transport)

    async def run(self, target: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Relay until both directions have ended; the proxy calls this once."""
        up = Pipe(self, "up", self._client[0], target[1], framed=self._framed)
        down = Pipe(self, "down", target[0], self._client[1], framed=self._framed)
        self._pipes = MappingProxyType({"up": up, "down": down})
        orders, self._orders = self._orders, []
        for fault in orders:
            self.order(fault)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(up.run(), name=f"FaultProxy-{self.number}-up")
                both.create_task(down.run(), name=f"FaultProxy-{self.number}-down")
        finally:
            self.end()

    def end(self) -> None:
        """Close both ends, and stop every timer."""
        if self.closed_at is None:
            self.closed_at = self._clock()
        for timer in self._timers:
            timer.cancel()
        for pipe in self._pipes.values():
            pipe.writer.close()

    # What pipes tell

    def upgraded(self) -> None:
        """Note that the handshake is over: the client may say something now, too."""
        if not self.is_upgraded:
            self.is_upgraded = True
            self._pipes["up"].close()

    def befall(self, fault: Fault, pipe: Pipe) -> None:
        """Carry out an order whose moment has come."""
        match fault.kind:
            case "go_silent":
                pipe.hold("silence")
            case "stall" | "delay_handshake":
                why = object()
                pipe.hold(why)
                timer = asyncio.get_running_loop().call_later(fault.seconds, pipe.let_go, why)
                self._timers.append(timer)
            case "throttle":
                pipe.rate = fault.rate
            case "half_close":
                pipe.end()
            case "reset":
                self.reset()
            case _:  # truncate
                for each in self._pipes.values():
                    each.heal()
                    each.writer.close()
        self.note(fault, pipe.direction)

    def note(self, fault: Fault, direction: Literal["up", "down"]) -> None:
        """Record that something happened: once, if it concerns both directions."""
        if not any(fault is each for each in self._happened):
            self._happened.append(fault)
            self._on_fault(
                FaultRecord(
                    kind=fault.kind,
                    connection=self.number,
                    direction=fault.direction if fault.direction == "both" else direction,
                    up=self.up,
                    down=self.down,
                    at=self._clock(),
                )
            )

    def _arm(self, fault: Fault) -> None:
        directions = ("up", "down") if fault.direction == "both" else (fault.direction,)
        for direction in directions:
            self._pipes[direction].arm(fault)


def close_body(code: int | None, reason: str) -> bytes:
    """Return the payload of a CLOSE.

    Raises:
        ValueError: If the reason is too long, or comes without a code.
    """
    told = reason.encode()
    if len(told) > 123 or (code is None and told):
        raise ValueError("reason must be at most 123 bytes, and needs a code")
    return b"" if code is None else struct.pack("!H", code) + told
