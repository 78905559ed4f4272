"""Tokens for somebody who consented once: the refresh token grant, RFC 6749, 6, with rotation.

A server that rotates takes a refresh token that is used twice for stolen, and ends
the grant.  So there is one refresh at a time in all processes that share a store,
what it brought is stored before it is used, and nobody who stops waiting can stop it.
"""

import asyncio
import copy
import hashlib
import hmac
import secrets
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias, Unpack

from dromos._proof import ProofKey
from dromos.errors import TokenError
from dromos.model import AuthStrategy, Token
from dromos.oauth._checks import bearer_problem
from dromos.oauth._client import Client, ClientOptions, Pairs
from dromos.oauth._endpoint import ANSWER_LOST, Asking, Issued, ask
from dromos.oauth._flow import Flow, Pause, run
from dromos.oauth.store import MemoryStore, StoredGrant, TokenStore
from dromos.redaction import Secret, unseen

__all__ = ["RefreshToken", "Stores"]

Stores: TypeAlias = TokenStore | Callable[[str], TokenStore]
"""One store for all connections, or what returns the store of each."""

LOST_ANSWER_PAUSE: Final = 2.0
"""Seconds before a refresh whose answer was lost is tried again: servers that allow
that at all allow it within seconds of the first."""

LONGEST_GOODBYE: Final = 10.0
"""Seconds that `aclose` leaves a refresh to end."""

_KEY: Final = secrets.token_bytes(32)


class RefreshToken:
    """Tokens from a refresh token, which may change with every use.

        tokens = RefreshToken(
            "the-first-one",
            store=FileStore("/var/lib/agent/grant.json"),
            issuer="https://login.example.com",
            client_id="agent-7",
        )

    Args:
        refresh_token: The first one.  Where the store holds one that descends from
            it, that is used instead.  None: the store must hold one.
        store: Where the newest one is kept; a callable returns the store of each
            connection, which then has a grant of its own.  Default None: in memory,
            so the grant ends with the process if the server rotates.
        **options: See `ClientOptions`.

    Raises:
        TypeError: If an argument is unknown, or has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
        ImportError: If a private key is given without PyJWT.
    """

    _forgets = False  # whether a refused refresh token makes room for a new consent

    @unseen
    def __init__(
        self,
        refresh_token: str | Secret | None = None,
        *,
        store: Stores | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._client = Client(options)
        self._first = None if refresh_token is None else _checked(refresh_token)
        if store is None and self._first is None and type(self) is RefreshToken:
            raise ValueError("give refresh_token, or a store that holds one")
        if callable(store) and self._first is not None:
            raise ValueError("a refresh_token for one connection can't be given with many stores")
        self.per_connection = callable(store)
        self._store: Stores = MemoryStore() if store is None else store
        self._grants: dict[str, _Grant] = {}

    def __repr__(self) -> str:
        # A traceback may show one that is half made.
        return f"{type(self).__name__}({getattr(self, '_client', None)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for a refresh in flight, ten seconds at most: cut short, its outcome is unknown."""
        running = [task for grant in self._grants.values() for task in grant.running()]
        if running:
            await asyncio.wait(running, timeout=LONGEST_GOODBYE)

    async def get_token(self, connection_id: str = "", /) -> Token:
        """Return the current token, or have one issued if there is none that lives.

        Raises:
            TokenError: If there is none to be had; its attributes say why.
        """
        current = await self.current_token(connection_id)
        if current is not None and not self._is_expired(current):
            return current
        return await self.refresh_connection(connection_id)

    async def current_token(self, connection_id: str = "", /) -> Token | None:
        """Return the token in the store, expired or not; None if there is none."""
        return await self._grant_of(connection_id).current()

    async def refresh_connection(self, connection_id: str = "", /) -> Token:
        """Have a token issued, unless somebody else who shares the store just has.

        Cancelling this stops the waiting, never the refresh.

        Raises:
            TokenError: If there is none to be had; its attributes say why.
        """
        return await self._grant_of(connection_id).renewed()

    async def credentials_mark(self, connection_id: str = "", /) -> bytes | None:
        """Tell the credentials in use from others, without telling them."""
        mine = await run(self._client.mark(), self._client.wire.transport)
        return mine + await self._grant_of(connection_id).mark()

    def _grant_of(self, connection_id: str) -> "_Grant":
        key = connection_id if self.per_connection else ""
        grant = self._grants.get(key)
        if grant is None:
            store = self._store(connection_id) if callable(self._store) else self._store
            grant = self._grants[key] = _Grant(
                self._client, store, self._first, self._begin, forgets=self._forgets
            )
        return grant

    def _begin(self, client: Client) -> Flow[Issued | TokenError]:
        """Get a grant where there is none."""
        return TokenError(
            "there is no refresh token: none was given, and the store is empty",
            code="no_refresh_token",
            step="refresh",
            origin=client.server,
        )
        yield  # A flow of no steps.

    def _is_expired(self, token: Token) -> bool:
        return token.expires_at is not None and token.expires_at <= self._client.wall()


class _Grant:
    """One grant in one store: whoever asks first refreshes, and the others wait for that."""

    def __init__(
        self,
        client: Client,
        store: TokenStore,
        first: Secret | None,
        begin: Callable[[Client], Flow[Issued | TokenError]],
        *,
        forgets: bool,
    ) -> None:
        # A copy: a grant that is bound to a key has a key of its own.
        self._client = copy.copy(client)
        self._store = store
        self._first = first
        self._begin = begin
        self._forgets = forgets
        # The access token that callers have: each loop has callers of its own.
        self._seen: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Secret] = (
            weakref.WeakKeyDictionary()
        )
        self._unsaved: tuple[StoredGrant, Secret | None] | None = None  # and what it replaces
        self._rotated: tuple[Secret, bytes] | None = None  # by us: another text, the same grant
        self._tasks: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Task[Token | Exception]
        ] = weakref.WeakKeyDictionary()

    def running(self) -> list["asyncio.Task[Token | Exception]"]:
        """The refresh in flight in this loop, if there is one."""
        task = self._tasks.get(asyncio.get_running_loop())
        return [] if task is None or task.done() else [task]

    async def current(self) -> Token | None:
        kept = await self._kept()
        if kept is None or kept.access_token is None:
            return None
        self._see(kept.access_token)
        return _token(kept)

    def _see(self, access_token: Secret) -> None:
        self._seen[asyncio.get_running_loop()] = access_token

    async def mark(self) -> bytes:
        kept = await self._kept()
        return self._mark_of(None if kept is None else kept.refresh_token)

    def _mark_of(self, refresh: Secret | None) -> bytes:
        """Tell a grant from others: a refresh that brings nothing usable is no new consent."""
        if refresh is not None and self._rotated is not None and self._rotated[0] == refresh:
            return self._rotated[1]
        return _mark("" if refresh is None else refresh.reveal())

    async def renewed(self) -> Token:
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or task.done():
            seen = self._seen.get(loop)
            task = loop.create_task(self._returning(seen), name="dromos-token-rotation")
            self._tasks[loop] = task
            # It holds the loop that it is kept by, and a token.
            task.add_done_callback(self._forget)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Exception):
            raise outcome.with_traceback(None)
        return outcome

    def _forget(self, task: "asyncio.Task[Token | Exception]") -> None:
        loop = task.get_loop()
        if self._tasks.get(loop) is task:
            del self._tasks[loop]

    async def _returning(self, seen: Secret | None) -> Token | Exception:
        """Refresh; what it raises is returned, since perhaps nobody waits any more."""
        try:
            async with self._store.lock():
                return await self._renew(seen)
        except Exception as error:
            return error

    async def _renew(self, seen: Secret | None) -> Token:
        if self._unsaved is not None:
            await self._save_late(*self._unsaved)
        kept = await self._kept()
        adopted = self._adoptable(kept, seen)
        if adopted is not None:
            return adopted
        outcome = await self._asked(kept)
        if isinstance(outcome, TokenError) and outcome.code == "invalid_grant":
            # Who shares the store may not honour its lock.
            again = await self._kept()
            if again is not None and again.refresh_token != (kept and kept.refresh_token):
                adopted = self._adoptable(again, seen)
                if adopted is not None:
                    return adopted
                kept, outcome = again, await self._asked(again)
        if isinstance(outcome, TokenError):
            if outcome.code == "invalid_grant" and self._forgets:
                await self._store.save(StoredGrant(refresh_token=None))
            raise outcome
        await self._save(self._to_keep(outcome, kept), None if kept is None else kept.refresh_token)
        if isinstance(outcome.token, TokenError):
            raise outcome.token
        self._see(Secret(outcome.token.access_token))
        return outcome.token

    def _adoptable(self, kept: StoredGrant | None, seen: Secret | None) -> Token | None:
        """Return the stored token if it is another one than we had, and lives."""
        if kept is None or kept.access_token is None or kept.access_token == seen:
            return None
        if kept.expires_at is not None and kept.expires_at <= self._client.wall():
            return None
        self._see(kept.access_token)
        return _token(kept)

    async def _asked(self, kept: StoredGrant | None) -> Issued | TokenError:
        transport = self._client.wire.transport
        if kept is None or kept.refresh_token is None:
            return await run(self._begin(self._client), transport)
        if kept.dpop_key is not None:
            # A bound refresh token is worth nothing with another key.
            self._client.proof_key = ProofKey(kept.dpop_key.reveal())
        return await run(refresh(self._client, kept.refresh_token), transport)

    def _to_keep(self, issued: Issued, kept: StoredGrant | None) -> StoredGrant:
        key = self._client.proof_key
        old = None if kept is None else kept.refresh_token
        token = issued.token if isinstance(issued.token, Token) else None
        # Who shares the store may have been given a first one, though we were not.
        seed = None if kept is None else kept.seed
        return StoredGrant(
            # RFC 6749, 6: "The authorization server MAY issue a new refresh token".
            refresh_token=issued.refresh_token or old,
            access_token=None if token is None else Secret(token.access_token),
            expires_at=None if token is None else token.expires_at,
            lifetime=None if token is None else token.lifetime,
            scopes=None if token is None else token.scopes,
            dpop_key=None if key is None else Secret(key.to_jwk()),
            seed=seed if self._first is None else _fingerprint(self._first),
        )

    async def _save(self, grant: StoredGrant, replaced: Secret | None) -> None:
        """Store what was issued: until that has worked, nobody gets it, and it is tried again."""
        if grant.refresh_token is not None:
            self._rotated = grant.refresh_token, self._mark_of(replaced)
        self._unsaved = grant, replaced
        await self._store.save(grant)
        self._unsaved = None

    async def _save_late(self, grant: StoredGrant, replaced: Secret | None) -> None:
        """Store what could not be stored before, unless a new consent is there by now."""
        kept = await self._kept()
        if kept is None or kept.refresh_token in (replaced, grant.refresh_token):
            await self._save(grant, replaced)
        self._unsaved = None

    async def _kept(self) -> StoredGrant | None:
        kept = await self._store.load()
        if self._first is None:
            return kept
        if kept is None or kept.seed != _fingerprint(self._first):
            # A new consent goes before what descends from an old one.
            return StoredGrant(refresh_token=self._first)
        return kept


def refresh(client: Client, refresh_token: Secret) -> Flow[Issued | TokenError]:
    """Use a refresh token, and once more if the answer was lost.

    Nobody knows then whether the server has rotated.  Some give the same answer again
    for a while; with the others the grant is gone already, and that is what they say.
    """

    def form(now: float) -> Pairs:
        # RFC 6749, 6: without a scope, what was granted first.
        presented = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.reveal())]
        return [*presented, *client.asked_for(scope=False)]

    asking = Asking(step="refresh", subject="the refresh", form=form)
    outcome = yield from ask(client, asking)
    if not _is_lost(outcome):
        return outcome
    yield Pause(seconds=LOST_ANSWER_PAUSE)
    outcome = yield from ask(client, asking)
    if isinstance(outcome, TokenError) and outcome.code == "invalid_grant":
        return TokenError(
            f"{outcome}; the answer to the refresh before was lost, and the server has "
            f"most likely rotated: a person has to consent again",
            status=outcome.status,
            code="invalid_grant",
            step="refresh",
            origin=outcome.origin,
            suberror="rotation_answer_lost",
            correlation_id=outcome.correlation_id,
        )
    return outcome


def _is_lost(outcome: Issued | TokenError) -> bool:
    """Whether the server may have acted though we did not get what it said."""
    return isinstance(outcome, TokenError) and outcome.code == ANSWER_LOST


def _token(kept: StoredGrant) -> Token:
    assert kept.access_token is not None
    credentials = {"access_token": kept.access_token.reveal()}
    if kept.dpop_key is not None:
        credentials["dpop_key"] = kept.dpop_key.reveal()
    return Token(
        credentials,
        strategy=AuthStrategy("oauth2" if kept.dpop_key is None else "dpop"),
        expires_at=kept.expires_at,
        lifetime=kept.lifetime,
        scopes=kept.scopes,
    )


def _checked(value: str | Secret) -> Secret:
    secret = Secret(Secret(value).reveal().strip())
    problem = bearer_problem(secret.reveal())
    if problem is None:
        return secret
    del value
    raise ValueError(f"refresh_token {problem}")


def _mark(text: str) -> bytes:
    return hmac.digest(_KEY, text.encode(), hashlib.sha256)


def _fingerprint(secret: Secret) -> str:
    # It outlives the process, so it can't be keyed with the process's own key.  A
    # refresh token has 128 bits of chance (RFC 6749, 10.10): nobody guesses it from this.
    return hashlib.sha256(b"dromos seed\0" + secret.reveal().encode()).hexdigest()[:32]
