"""A scriptable WebSocket server on loopback: what a far side does on bad days, on demand.

It speaks RFC 6455 by itself, on streams, so that no library's politeness stands
between a script and the wire, and so that an engine is never tested against itself.
"""

import asyncio
import base64
import hashlib
import math
import ssl as tls
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from dromos.model import Message
from dromos.testing._far_link import FarLink
from dromos.testing._loopback import (
    HttpConnection,
    Loopback,
    Reply,
    Request,
    awaited_on_its_loop,
    reset,
    settle,
)

__all__ = ["FarLink", "FarSide", "TokenAuthority"]

GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Check: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Whether a handshake is welcome."""


class TokenAuthority(Protocol):
    """Who knows which tokens are good: a `Gateway`, or anything like it."""

    def is_valid(self, access_token: str, /) -> bool:
        """Whether the token is to be taken now."""
        ...

    def expires_at(self, access_token: str, /) -> float | None:
        """When it expires as Unix time; None never expires."""
        ...


@dataclass(slots=True)
class _Plan:
    """What becomes of a handshake, in place of the usual."""

    remaining: int | None
    kind: Literal["refuse", "close", "drop", "slam", "garbage", "hang"]
    reply: Reply = Reply()  # noqa: RUF009  # frozen
    code: int | None = None
    reason: str = ""
    raw: bytes = b""


class FarSide(Loopback):
    """A WebSocket server on real sockets, for tests and demonstrations.

        async with FarSide(gateway=gateway, close_on_expiry=True) as far:
            await bridge.maintain_websocket("c-1", far.url, handler)

    Args:
        gateway: Who knows which bearer tokens are good; others are refused with 401.
        check: Asked about every handshake in its place, or after it; False refuses with 401.
        close_on_expiry: Whether a link is closed when the token that it was opened with
            expires.  True closes with 4401; a number is the code to close with.
        expiry_reason: What to say then.
        echo: Whether each message is sent back.
        rate: Numbered messages a second, sent to every open link.  They are counted on
            while nobody listens, and while this far side is stopped.
        message: Makes a message of its number.  Default: the number as text.
        on_publish: Called with each number and the links that it was written to.
        on_message: Called with each link and message received.
        subprotocols: What this far side speaks, in order of preference.
        answer_pings: Whether PINGs are answered.
        answer_closes: Whether a CLOSE is answered.
        close_timeout: Seconds to wait for the answer to our CLOSE.  Default 5.
        host: Address to listen on.  Default `127.0.0.1`.
        port: Port to listen on.  Default 0: one that is free.
        ssl: A server's TLS context; None (default) makes it `ws://`.
        clock: Returns Unix time.  Default: the gateway's, or `time.time`.

    Attributes:
        links: Every link there was, in order.
        attempts: Every handshake, refused ones included.
        published: The number of the last numbered message.
        publishing: Whether numbered messages are sent.
    """

    _schemes = ("ws", "wss")

    def __init__(
        self,
        *,
        gateway: TokenAuthority | None = None,
        check: Check | None = None,
        close_on_expiry: bool | int = False,
        expiry_reason: str = "token expired",
        echo: bool = False,
        rate: float = 0.0,
        message: Callable[[int], Message] = str,
        on_publish: Callable[[int, Sequence[FarLink]], None] | None = None,
        on_message: Callable[[FarLink, Message], Awaitable[None] | None] | None = None,
        subprotocols: Sequence[str] = (),
        answer_pings: bool = True,
        answer_closes: bool = True,
        close_timeout: float = 5.0,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: tls.SSLContext | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if clock is None:
            clock = gateway.clock if isinstance(gateway, Loopback) else time.time
        super().__init__(host=host, port=port, ssl=ssl, clock=clock)
        self.links: list[FarLink] = []
        self.attempts: list[Request] = []
        self.published = 0
        self.publishing = True
        self.rate = rate
        self.echo = echo
        self.answer_pings = answer_pings
        self.answer_closes = answer_closes
        self.close_timeout = close_timeout
        self._gateway = gateway
        self._check = check
        self._expiry_code = 4401 if close_on_expiry is True else int(close_on_expiry)
        self._expiry_reason = expiry_reason
        self._message = message
        self._on_publish = on_publish
        self._on_message = on_message
        self._subprotocols = tuple(subprotocols)
        self._plans: deque[_Plan] = deque()
        self._publisher: asyncio.Task[None] | None = None

    # --- Scripting: what becomes of the next handshakes ----------------------------------

    def refuse(
        self,
        *,
        next: int | None = 1,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
    ) -> None:
        """Answer handshakes with an HTTP status, a redirect included.

        Args:
            next: How many; None until `heal`.  The same in all methods of this group,
                whose calls are used up in order.
            status: The status.
            headers: Headers of the answer.
            body: Its body.
        """
        reply = Reply(
            status=status,
            headers=tuple((headers or {}).items()),
            body=body.encode() if isinstance(body, str) else body,
        )
        self._plans.append(_Plan(next, "refuse", reply=reply))

    def accept_then_close(
        self, code: int | None = 1000, reason: str = "", *, next: int | None = 1
    ) -> None:
        """Open links, and close them at once; code None closes without a code."""
        self._plans.append(_Plan(next, "close", code=code, reason=reason))

    def accept_then_drop(self, *, next: int | None = 1) -> None:
        """Open links, and reset them at once."""
        self._plans.append(_Plan(next, "drop"))

    def slam(self, *, next: int | None = 1) -> None:
        """Reset the TCP connection in answer to handshakes."""
        self._plans.append(_Plan(next, "slam"))

    def garbage(self, data: bytes, *, next: int | None = 1) -> None:
        """Answer handshakes with these bytes, which need not be HTTP, and hang up."""
        self._plans.append(_Plan(next, "garbage", raw=data))

    def hang(self, *, next: int | None = 1) -> None:
        """Accept TCP connections, and never answer the handshake."""
        self._plans.append(_Plan(next, "hang"))

    def heal(self) -> None:
        """Forget what is left of the script."""
        self._plans.clear()

    # --- Scripting: what becomes of open links -------------------------------------------

    def drop_all(self, *, rst: bool = True) -> None:
        """End every TCP connection without a CLOSE: with RST, or with FIN."""
        for link in self.open_links:
            link.drop(rst=rst)

    def close_all(self, code: int | None = 1000, reason: str = "") -> None:
        """Close every open link."""
        for link in self.open_links:
            link.close(code, reason)

    def go_silent(self) -> None:
        """Let every open link neither read nor answer, with its TCP connection open.

        Links that are opened later are not silent; `hang` makes new ones fail.
        """
        for link in self.open_links:
            link.go_silent()

    def wake(self) -> None:
        """Let silent links go on."""
        for link in self.open_links:
            link.wake()

    def close_expired(self) -> None:
        """Close links whose token is no longer good now, by the authority's word."""
        for link in self.open_links:
            if link.token and self._gateway and not self._gateway.is_valid(link.token):
                link.close(self._expiry_code or 4401, self._expiry_reason)

    def publish(self, message: Message) -> list[FarLink]:
        """Send a message on every open link, and return those links."""
        reached = [link for link in self.open_links if not link.silent]
        for link in reached:
            link.send(message)
        return reached

    # --- Observing -----------------------------------------------------------------------

    @property
    def open_links(self) -> list[FarLink]:
        """The links that are open now, oldest first."""
        return [link for link in self.links if link.is_open]

    @property
    def link(self) -> FarLink:
        """The newest link that is open.

        Raises:
            LookupError: If none is.
        """
        for link in reversed(self.links):
            if link.is_open:
                return link
        raise LookupError("no link is open")

    @awaited_on_its_loop
    async def wait_for_link(self, number: int | None = None, timeout: float = 10.0) -> FarLink:
        """Return link `number` once it has been opened; None: an open one.

        Raises:
            TimeoutError: If there is none within `timeout` seconds.
        """
        if number is not None:
            await self.wait_for(lambda: len(self.links) >= number, timeout)
            return self.links[number - 1]
        await self.wait_for(lambda: self.open_links, timeout)
        return self.link

    def __repr__(self) -> str:
        return (
            f"<FarSide {self.url} links={len(self.links)} open={len(self.open_links)} "
            f"attempts={len(self.attempts)}>"
        )

    # --- Serving -------------------------------------------------------------------------

    @awaited_on_its_loop
    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        await super().start()
        if self.rate > 0 and self._publisher is None:
            self._publisher = asyncio.get_running_loop().create_task(
                self._publish_numbers(), name="FarSide-publisher"
            )

    @awaited_on_its_loop
    async def close(self) -> None:
        """Stop, end the numbered messages, and give up the port."""
        await super().close()
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.cancel()
            await asyncio.gather(publisher, return_exceptions=True)

    def tell(self) -> None:
        """Wake whoever waits for something to happen here."""
        self._tell()

    async def on_received(self, link: FarLink, message: Message) -> None:
        """Do what was asked for with a message that a link received."""
        if self.echo and not link.silent:
            link.send(message)
        if self._on_message is not None:
            await settle(self._on_message(link, message))

    def watch_expiry(self, link: FarLink) -> None:
        """Close a link when its token expires, if that was asked for."""
        if self._expiry_code and self._gateway is not None and link.token is not None:
            expires_at = self._gateway.expires_at(link.token)
            link.close_at(expires_at, self._expiry_code, self._expiry_reason)

    async def _serve(self, http: HttpConnection) -> None:
        request = await http.read_request(self.clock)
        if request is None:
            return
        self.attempts.append(request)
        self._tell()
        plan = self._take_plan()
        if plan is not None and plan.kind not in ("close", "drop"):
            await self._turn_away(http, plan)
            return
        refusal = await self._refusal(request)
        if refusal is not None:
            http.writer.write(http.encode(refusal))
            await http.writer.drain()
            return
        link = self._open(http, request)
        # Before the answer: a client on another thread may act on it at once.
        self.links.append(link)
        trailing = http.switch_protocols(self._accept_headers(request, link))
        self.watch_expiry(link)
        if plan is not None:
            if plan.kind == "drop":
                await http.writer.drain()
                link.drop()
            else:
                link.close(plan.code, plan.reason)
        self._tell()
        await link.run(trailing)

    def _take_plan(self) -> _Plan | None:
        if not self._plans:
            return None
        plan = self._plans[0]
        if plan.remaining is not None:
            plan.remaining -= 1
            if plan.remaining <= 0:
                self._plans.popleft()
        return plan

    async def _turn_away(self, http: HttpConnection, plan: _Plan) -> None:
        if plan.kind == "refuse":
            http.writer.write(http.encode(plan.reply))
            await http.writer.drain()
        elif plan.kind == "garbage":
            http.writer.write(plan.raw)
            await http.writer.drain()
        elif plan.kind == "slam":
            reset(http.writer.transport)
        else:
            await http.wait_closed_by_client()

    async def _refusal(self, request: Request) -> Reply | None:
        upgrade = request.headers.get("upgrade", "").lower()
        if upgrade != "websocket" or "sec-websocket-key" not in request.headers:
            return Reply(status=426, headers=(("Upgrade", "websocket"),))
        if self._gateway is not None:
            token = _bearer(request)
            if token is None:
                return _unauthorized("Bearer")
            if not self._gateway.is_valid(token):
                return _unauthorized('Bearer error="invalid_token"')
        if self._check is not None and not await settle(self._check(request)):
            return _unauthorized("Bearer")
        return None

    def _open(self, http: HttpConnection, request: Request) -> FarLink:
        link = FarLink(self, len(self.links) + 1, request, http, _bearer(request))
        offered = [
            name.strip()
            for value in request.headers.all("sec-websocket-protocol")
            for name in value.split(",")
        ]
        link.subprotocol = next((name for name in self._subprotocols if name in offered), None)
        return link

    def _accept_headers(self, request: Request, link: FarLink) -> list[tuple[str, str]]:
        key = request.headers["sec-websocket-key"] + GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept),
        ]
        if link.subprotocol is not None:
            headers.append(("Sec-WebSocket-Protocol", link.subprotocol))
        return headers

    async def _publish_numbers(self) -> None:
        loop = asyncio.get_running_loop()
        tick = 1 / min(self.rate, 100.0)
        due, before = 0.0, loop.time()
        while True:
            await asyncio.sleep(tick)
            now = loop.time()
            if self.publishing:
                due += (now - before) * self.rate
            before = now
            whole = math.floor(due)
            due -= whole
            for _ in range(whole):
                self.published += 1
                reached = self.publish(self._message(self.published))
                if self._on_publish is not None:
                    self._on_publish(self.published, reached)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _unauthorized(challenge: str) -> Reply:
    return Reply(status=401, headers=(("WWW-Authenticate", challenge),))
