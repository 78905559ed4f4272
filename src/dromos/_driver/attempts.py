"""One attempt: a token from the cache, and a link from the dialer."""

import asyncio
import inspect
from typing import Protocol

from dromos._core import commands as do
from dromos._core import events as heard
from dromos._driver.callbacks import stray_cancellation
from dromos._driver.links import LinkRecord
from dromos._driver.options import Grant, Options, Parts, Tokens
from dromos.errors import HandshakeError, TokenError
from dromos.events import AttemptStarted, BridgeEvent, LinkOpened, RefreshStarted, TokenObtained
from dromos.interfaces import Endpoint, Link
from dromos.model import Handshake, Token

__all__ = ["Attempts", "AttemptsOwner"]


class AttemptsOwner(Protocol):
    """The session, as its attempts see it."""

    @property
    def connection_id(self) -> str: ...

    def emit(self, event: BridgeEvent) -> None: ...

    def hear(self, event: heard.Event) -> None: ...

    def dial_failed(self, record: LinkRecord) -> None: ...

    async def wait_for_room(self, record: LinkRecord) -> None: ...


class Attempts:
    """Asks for tokens and dials, as it is told, and says what came of it.

    Attributes:
        endpoint: Where they dial.
        grant: The newest token, or None before the first.
    """

    __slots__ = (
        "_options",
        "_owner",
        "_parts",
        "endpoint",
        "grant",
    )

    def __init__(
        self, owner: AttemptsOwner, *, endpoint: Endpoint, options: Options, parts: Parts
    ) -> None:
        self.grant: Grant | None = None
        self._owner = owner
        self.endpoint = endpoint
        self._options = options
        self._parts = parts

    @property
    def token(self) -> Token:
        """The newest token."""
        assert self.grant is not None, "the core orders nothing with a token before there is one"
        return self.grant.token

    async def obtain(self, command: do.Authorize) -> None:
        """Get a token, and say which, or why there is none."""
        event: heard.Event
        refresh = _Refresh(self._owner, self._parts.tokens)
        try:
            with stray_cancellation("the token provider"):
                grant = await self._parts.tokens.obtain(
                    self._owner.connection_id,
                    need=command.need,
                    generation=command.generation,
                    on_refresh=refresh.begin,
                    is_patient=self._options.patient,
                )
        except Exception as error:
            event = heard.TokenFailed(command.ticket, error, self._parts.override(error))
        else:
            self.grant = grant
            left = grant.token.expires_at
            self._owner.emit(
                TokenObtained(
                    generation=grant.lease.generation,
                    strategy=grant.token.strategy.type,
                    expires_in=None if left is None else left - self._parts.wall(),
                    renewed=refresh.has_brought(grant),
                )
            )
            event = heard.TokenObtained(command.ticket, grant.lease)
        self._owner.hear(event)

    async def dial(self, record: LinkRecord) -> None:
        """Open a link with the newest token, in its turn, and say what came of it."""
        try:
            await self._owner.wait_for_room(record)
            async with self._parts.gate:
                began = self._parts.tick()
                self._owner.emit(AttemptStarted(link=record.number, handover=record.handover))
                await self._open(record, self._unexpired_token())
        except Exception as error:
            self._pass_on_claims(error)
            self._owner.dial_failed(record)
            _forget_our_frames(error)
            override = self._parts.override(error)
            self._owner.hear(heard.DialFailed(record.number, error, override))
        else:
            took = self._parts.tick() - began
            self._owner.emit(LinkOpened(link=record.number, handover=record.handover, took=took))
            self._owner.hear(heard.LinkOpened(record.number))

    def _pass_on_claims(self, error: Exception) -> None:
        claims = self._parts.claims_in(error) if isinstance(error, HandshakeError) else None
        if claims is not None:
            self._parts.tokens.challenge(self._owner.connection_id, claims)

    def _unexpired_token(self) -> Token:
        """The newest token: the one of the order may have expired in the queue of dials."""
        expires = self.token.expires_at
        if expires is not None and expires <= self._parts.wall():
            raise TokenError("the token expired before its turn to dial", step="token")
        return self.token

    async def _open(self, record: LinkRecord, token: Token) -> None:
        limit = asyncio.timeout(self._options.connect_timeout)
        try:
            async with limit:
                with stray_cancellation("the dialer"):
                    await self._open_within(record, token)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HandshakeError(
                f"no link within connect_timeout ({self._options.connect_timeout:g} s)"
            ) from error

    async def _open_within(self, record: LinkRecord, token: Token) -> None:
        record.token = token
        handshake = await self._handshake(token)
        link = await self._dialled(record, handshake, token)
        if link is None:
            handshake = await self._handshake(token)
            link = await self._parts.dialer.dial(handshake, record, self._options.limits)
        record.open(link, first_message=handshake.first_message)

    async def _dialled(self, record: LinkRecord, handshake: Handshake, token: Token) -> Link | None:
        """Open a link; None if the far side only said what to present besides."""
        try:
            return await self._parts.dialer.dial(handshake, record, self._options.limits)
        except HandshakeError as error:
            if not self._parts.asks_again(handshake, token, error):
                raise
        return None

    async def _handshake(self, token: Token) -> Handshake:
        endpoint = self.endpoint
        if not isinstance(endpoint, str):
            made = endpoint(token)
            endpoint = await made if inspect.isawaitable(made) else made
        url = self._parts.check_url(endpoint)
        return self._parts.authenticate(Handshake(url=url), token, self._parts.wall())


class _Refresh:
    """The refresh that asking for a token may set off, and what the cache held before it."""

    __slots__ = ("_before", "_began", "_owner", "_tokens")

    def __init__(self, owner: AttemptsOwner, tokens: Tokens) -> None:
        self._owner = owner
        self._tokens = tokens
        self._began = False
        self._before: Grant | None = None

    def begin(self) -> None:
        """Tell of it."""
        self._began = True
        self._before = self._tokens.current(self._owner.connection_id)
        self._owner.emit(RefreshStarted())

    def has_brought(self, grant: Grant) -> bool:
        """Whether the cache has another grant now, if only the same token with a later expiry."""
        return self._began and grant is not self._before


def _forget_our_frames(error: BaseException) -> None:
    """Leave of a traceback what is the user's: our frames hold the URL, perhaps with a token."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("dromos."):
        trace = trace.tb_next
    error.__traceback__ = trace
