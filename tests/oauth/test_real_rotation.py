"""Refresh tokens and other grants before two authorization servers that are not ours."""

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from dromos import Bridge, InteractionRequired, PermanentError
from dromos._core.schedule import Need
from dromos._core.verdict import Stage, judge
from dromos.dialers.picows import PicowsDialer
from dromos.errors import TokenError
from dromos.model import Token, Verdict
from dromos.oauth import device_code, refresh_token
from dromos.oauth._http import HttpxTransport
from dromos.oauth.cache import Grant, TokenCache, cache_for
from dromos.oauth.client_credentials import ClientCredentials
from dromos.oauth.device_code import DeviceCode, DevicePrompt
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.store import FileStore, MemoryStore, StoredGrant, TokenStore
from dromos.testing import FarSide
from dromos.testing._loopback import Request
from dromos.testing.clock import on_loop_time
from tests.driver.harness import Notes
from tests.oauth.servers import AuthorizationServer, Oidc, Toolkit, http_client
from tests.oauth.servers.wire import Tap
from tests.oauth.test_real_servers_smoke import thumbprint
from tests.oauth.test_store import PATIENCE, env, until


class Clock:
    """Our clocks, which can be moved: the loop's, the wall's, and the server's with them."""

    def __init__(self, server: AuthorizationServer) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._server = server
        self._by = 0.0
        loop.time = lambda: real() + self._by  # type: ignore[method-assign]

    def wall(self) -> float:
        return time.time() + self._by

    async def advance(self, seconds: float) -> None:
        """Let time pass for everybody.  What is on the wire may then be late."""
        await self._server.advance(seconds)
        self._by += seconds
        await settle()


async def settle() -> None:
    """Let what is due happen."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(params=["oidc", "toolkit"])
def server(request: pytest.FixtureRequest) -> AuthorizationServer:
    """Each of the two."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, AuthorizationServer)
    return found


@pytest.fixture
async def tap(server: AuthorizationServer) -> AsyncIterator[Tap]:
    async with Tap(server.url) as tap:
        yield tap


@pytest.fixture
async def clock(request: pytest.FixtureRequest) -> Clock:
    names = request.fixturenames
    return Clock(request.getfixturevalue("server" if "server" in names else "oidc"))


def identity(server: AuthorizationServer, name: str) -> dict[str, Any]:
    client = server.client(name)
    return {"client_id": client.id, "client_secret": client.secret}


def in_the_time_of(clock: Clock, provider: Any, tls: ssl.SSLContext | None = None) -> Any:
    provider._client.wall = clock.wall
    transport = HttpxTransport(ssl=tls, proxy=None, connect_timeout=30, wall=clock.wall)
    provider._client.wire.transport = transport
    return provider


def provider_of(
    server: AuthorizationServer,
    clock: Clock,
    first: str | None,
    *,
    client: str = "rotating",
    **options: Any,
) -> RefreshToken:
    options = {"token_url": server.token_endpoint, **identity(server, client), **options}
    found: RefreshToken = in_the_time_of(clock, RefreshToken(first, **options), options.get("ssl"))
    return found


def cache_of(provider: Any, clock: Clock) -> TokenCache:
    def judged(error: Exception, worked: bool) -> Verdict:
        return judge(error, stage=Stage.TOKEN, worked=worked, rejected=False)

    return cache_for(provider, judge=judged, wall=clock.wall)


async def dial(cache: TokenCache) -> Grant:
    return await cache.obtain("c", need=Need.DIAL)


async def renew(cache: TokenCache, held: Grant) -> Grant:
    return await cache.obtain("c", need=Need.RENEW, generation=held.lease.generation)


async def is_alive(server: AuthorizationServer, store: TokenStore) -> bool:
    """Whether the server would take what the store holds."""
    kept = await store.load()
    assert kept is not None
    assert kept.refresh_token is not None
    assert kept.access_token is not None
    tokens = (kept.refresh_token, kept.access_token)
    return all([await server.alive(each.reveal()) for each in tokens])


async def refreshes(server: AuthorizationServer) -> int:
    return await server.posts("refresh_token")


async def failure(doing: Awaitable[object]) -> TokenError:
    with pytest.raises(TokenError) as caught:
        await doing
    return caught.value


def is_for_a_person(error: Exception) -> bool:
    return judge(error, stage=Stage.TOKEN, worked=True, rejected=False) is Verdict.INTERACTION


@contextlib.asynccontextmanager
async def far_side_of(server: AuthorizationServer, **options: Any) -> AsyncIterator[FarSide]:
    """A far side that takes what the server takes."""

    async def check(request: Request) -> bool:
        _, _, token = request.headers.get("authorization", "").partition(" ")
        return await server.alive(token)

    async with FarSide(check=check, **options) as far:
        yield far


def bridge_of(provider: Any, clock: Clock, **options: Any) -> Bridge:
    return on_loop_time(Bridge(provider, **options), clock=clock.wall)  # type: ignore[arg-type]


# --- Many callers ---------------------------------------------------------------------------------


async def test_two_hundred_callers_at_expiry_make_one_request_and_the_grant_lives(
    server: AuthorizationServer, clock: Clock, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "grant")
    cache = cache_of(provider_of(server, clock, await server.grant("rotating"), store=store), clock)
    held = await dial(cache)

    for rounds in range(2, 5):
        await clock.advance(61)
        assert not await server.alive(held.token.access_token)
        grants = await asyncio.gather(
            *(renew(cache, held) if number % 2 else dial(cache) for number in range(200))
        )
        (held,) = {grant.lease.generation: grant for grant in grants}.values()
        assert rounds == await refreshes(server)

    assert await is_alive(server, store)


async def test_without_a_cache_as_well(server: AuthorizationServer, clock: Clock) -> None:
    store = MemoryStore()
    provider = provider_of(server, clock, await server.grant("rotating"), store=store)

    tokens = await asyncio.gather(*(provider.get_token() for _ in range(200)))

    assert 1 == len({token.access_token for token in tokens})
    assert 1 == await refreshes(server)
    assert await is_alive(server, store)


async def test_forty_sessions_hand_over_with_one_request(
    server: AuthorizationServer, clock: Clock
) -> None:
    count, store = 40, MemoryStore()
    provider = provider_of(server, clock, await server.grant("rotating"), store=store)
    notes = [Notes() for _ in range(count)]
    async with far_side_of(server) as far, bridge_of(provider, clock) as bridge:
        sessions = [
            asyncio.ensure_future(bridge.maintain_websocket(f"c-{number}", far.url, note))
            for number, note in enumerate(notes)
        ]
        await until(lambda: all(note.sends for note in notes))
        assert 1 == await refreshes(server)

        await clock.advance(25)
        await settle()
        await clock.advance(6)
        await until(lambda: all(len(note.sends) == 2 for note in notes))
        await until(lambda: len(far.open_links) == count)

        assert 2 == await refreshes(server)
        assert 2 * count == len(far.attempts)
        assert all(["connect", "connect"] == note.names for note in notes)
        assert not any(session.done() for session in sessions)
        assert await is_alive(server, store)
    await asyncio.gather(*sessions)


# --- Waiters that go ------------------------------------------------------------------------------


async def test_waiters_that_go_during_the_refresh_harm_nobody(
    server: AuthorizationServer, tap: Tap, clock: Clock, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "grant")
    first = await server.grant("rotating")
    provider = provider_of(server.behind(tap), clock, first, store=store)
    cache = cache_of(provider, clock)
    held = tap.hold(grant_type="refresh_token")
    waiters = [asyncio.ensure_future(dial(cache)) for _ in range(20)]
    waiters += [asyncio.ensure_future(dial(cache)) for _ in range(20)]
    await held.arrived.wait()

    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert all(waiter.cancelled() for waiter in waiters)
    late = asyncio.ensure_future(dial(cache))
    await settle()
    held.release()
    token = (await late).token

    assert 1 == await refreshes(server)
    assert await server.alive(token.access_token)
    assert await is_alive(server, store)
    await clock.advance(61)
    assert (await dial(cache)).token != token
    assert 2 == await refreshes(server)
    assert await is_alive(server, store)


async def test_a_session_that_is_cancelled_during_its_refresh_leaves_a_living_grant(
    server: AuthorizationServer, tap: Tap, clock: Clock
) -> None:
    store = MemoryStore()
    first = await server.grant("rotating")
    provider = provider_of(server.behind(tap), clock, first, store=store)
    async with far_side_of(server) as far:
        held = tap.hold(grant_type="refresh_token")
        async with bridge_of(provider, clock) as bridge:
            task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
            await held.arrived.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            closing = asyncio.ensure_future(bridge.close())
            await settle()
            assert not closing.done()
            held.release()
            await closing

        assert await is_alive(server, store)
        async with bridge_of(provider, clock) as bridge:
            task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
            await until(lambda: far.open_links)
            assert 1 == await refreshes(server)
        await task


# --- What the wire does ---------------------------------------------------------------------------


async def supervised(
    bridge: Bridge, url: str, clock: Clock, *, seconds: float
) -> list[PermanentError]:
    """Start a session again whenever it ends, for so long."""
    ends, until_then = list[PermanentError](), clock.wall() + seconds
    while clock.wall() < until_then:
        with pytest.raises(PermanentError) as caught:
            await bridge.maintain_websocket("c", url, Notes())
        ends.append(caught.value)
        await clock.advance(10)
    return ends


async def test_an_answer_lost_after_rotation_is_asked_for_once_more_and_then_a_person_is(
    server: AuthorizationServer, tap: Tap, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_token, "LOST_ANSWER_PAUSE", 0.01)
    provider = provider_of(server.behind(tap), clock, await server.grant("rotating"))
    tap.lose(grant_type="refresh_token")
    async with far_side_of(server) as far, bridge_of(provider, clock) as bridge:
        ends = await supervised(bridge, far.url, clock, seconds=600)

        assert [InteractionRequired] * len(ends) == [type(end) for end in ends]
        assert len(ends) >= 50
        assert isinstance(ends[0].__cause__, TokenError)
        assert "rotation_answer_lost" == ends[0].__cause__.suberror
        assert "consent" in str(ends[0])
        assert [200, 2] == [tap.seen[0].status, await refreshes(server)]
        assert not far.attempts


async def test_an_answer_lost_after_rotation_comes_again_within_the_grace_period(
    toolkit: Toolkit, toolkit_tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(toolkit)
    monkeypatch.setattr(refresh_token, "LOST_ANSWER_PAUSE", 0.01)
    await toolkit.grace(60)
    store = MemoryStore()
    first = await toolkit.grant("rotating")
    provider = provider_of(toolkit.behind(toolkit_tap), clock, first, store=store)
    toolkit_tap.lose(grant_type="refresh_token")

    async with far_side_of(toolkit) as far, bridge_of(provider, clock) as bridge:
        task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
        await until(lambda: far.open_links)
    await task

    assert 2 == await refreshes(toolkit)
    assert await is_alive(toolkit, store)
    await provider.refresh_connection()
    assert await is_alive(toolkit, store)


async def test_a_request_that_never_arrived_costs_nothing(
    server: AuthorizationServer, tap: Tap, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_token, "LOST_ANSWER_PAUSE", 0.01)
    store = MemoryStore()
    first = await server.grant("rotating")
    provider = provider_of(server.behind(tap), clock, first, store=store)
    tap.cut(grant_type="refresh_token")

    token = await provider.get_token()

    assert [2, 1] == [tap.count(grant_type="refresh_token"), await refreshes(server)]
    assert await server.alive(token.access_token)
    assert await is_alive(server, store)


async def test_a_server_that_is_down_for_a_while_costs_nothing(
    server: AuthorizationServer, clock: Clock
) -> None:
    store = MemoryStore()
    provider = provider_of(server, clock, await server.grant("rotating"), store=store)
    cache = cache_of(provider, clock)
    await server.lifetime(access=600)
    held = await dial(cache)
    await server.fail(3, status=503)
    await clock.advance(300)

    for _ in range(3):
        assert 503 == (await failure(renew(cache, held))).status
        assert held.lease.generation == (await dial(cache)).lease.generation
        await clock.advance(31)

    assert (await renew(cache, held)).lease.generation > held.lease.generation
    assert await is_alive(server, store)


async def test_a_consent_that_was_withdrawn_is_told_once(
    server: AuthorizationServer, clock: Clock
) -> None:
    first = await server.grant("rotating")
    provider = provider_of(server, clock, first)
    await server.revoke(first)
    async with far_side_of(server) as far, bridge_of(provider, clock) as bridge:
        ends = await supervised(bridge, far.url, clock, seconds=600)

    assert [InteractionRequired] * len(ends) == [type(end) for end in ends]
    assert 1 == await refreshes(server)


# --- Processes, threads and loops -----------------------------------------------------------------

PROCESS = """
import asyncio, json, sys
from dromos.oauth.refresh_token import RefreshToken
from dromos.oauth.store import FileStore

async def main():
    told = json.loads(sys.stdin.readline())
    provider = RefreshToken(told["first"], store=FileStore(told["path"]), **told["options"])
    for line in sys.stdin:
        if line == "look\\n":
            token = await provider.current_token()
        else:
            token = await provider.refresh_connection()
        print("none" if token is None else token.access_token, flush=True)

asyncio.run(main())
"""


class Other:
    """A process of its own, which shares a file with us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def heard(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stdout.readline()).decode().strip()

    async def ask(self, line: str) -> str:
        self.tell(line)
        return await self.heard()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # What it said is read to its end: that closes our end of the pipe.
        await self._process.communicate()


@contextlib.asynccontextmanager
async def another(
    server: AuthorizationServer, first: str | None, path: Path
) -> AsyncIterator[Other]:
    options = {"token_url": server.token_endpoint, **identity(server, "rotating")}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, env=env(), stdin=pipe, stdout=pipe
    )
    other = Other(process)
    try:
        other.tell(json.dumps({"first": first, "path": str(path), "options": options}))
        yield other
    finally:
        await other.kill()


async def test_two_processes_make_one_request_a_round_and_the_grant_lives(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    path, rounds = tmp_path / "grant", 6
    first = await server.grant("rotating")
    async with another(server, first, path) as one, another(server, first, path) as two:
        assert ["none", "none"] == [await one.ask("look"), await two.ask("look")]
        for number in range(1, rounds + 1):
            one.tell("renew")
            two.tell("renew")
            assert await one.heard() == await two.heard()
            assert number == await refreshes(server)
            assert await is_alive(server, FileStore(path))


async def test_who_was_given_the_first_refresh_token_and_who_was_not_share_a_grant(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    path = tmp_path / "grant"
    first = await server.grant("rotating")
    async with another(server, first, path) as one, another(server, None, path) as two:
        for _ in range(2):
            await one.ask("renew")
            await two.ask("look")
            await two.ask("renew")
            await one.ask("look")

    assert 4 == await refreshes(server)
    assert await is_alive(server, FileStore(path))


async def test_a_process_killed_during_its_refresh_is_followed_by_a_clear_word(
    oidc: Oidc, oidc_tap: Tap, tmp_path: Path
) -> None:
    clock, path = Clock(oidc), tmp_path / "grant"
    first = await oidc.grant("rotating")
    held = oidc_tap.hold(grant_type="refresh_token")
    async with another(oidc.behind(oidc_tap), first, path) as other:
        other.tell("renew")
        async with asyncio.timeout(PATIENCE):
            await held.arrived.wait()
        await other.kill()

    provider = provider_of(oidc, clock, first, store=FileStore(path))
    async with far_side_of(oidc) as far, bridge_of(provider, clock) as bridge:
        with pytest.raises(InteractionRequired, match="invalid_grant"):
            await bridge.maintain_websocket("c", far.url, Notes())

    assert 2 == await refreshes(oidc)


async def test_a_process_killed_during_its_refresh_is_followed_by_the_next_one_in_time(
    toolkit: Toolkit, toolkit_tap: Tap, tmp_path: Path
) -> None:
    clock, path = Clock(toolkit), tmp_path / "grant"
    await toolkit.grace(60)
    first = await toolkit.grant("rotating")
    held = toolkit_tap.hold(grant_type="refresh_token")
    async with another(toolkit.behind(toolkit_tap), first, path) as other:
        other.tell("renew")
        async with asyncio.timeout(PATIENCE):
            await held.arrived.wait()
        provider = provider_of(toolkit, clock, first, store=FileStore(path))
        waiting = asyncio.ensure_future(provider.get_token())
        await settle()
        assert 1 == await refreshes(toolkit)
        assert not waiting.done()
        await other.kill()

    assert await toolkit.alive((await waiting).access_token)
    await provider.refresh_connection()
    assert await is_alive(toolkit, FileStore(path))


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_two_loops_in_two_threads_make_one_request_a_round(
    server: AuthorizationServer, clock: Clock, tmp_path: Path, kind: str
) -> None:
    store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "grant")
    provider = provider_of(server, clock, await server.grant("rotating"), store=store)
    rounds, together = 5, threading.Barrier(2)
    names: list[list[str]] = [[], []]

    async def work(mine: list[str]) -> None:
        for _ in range(rounds):
            await provider.current_token()
            await asyncio.to_thread(together.wait, PATIENCE)
            mine.append((await provider.refresh_connection()).access_token)
            await asyncio.to_thread(together.wait, PATIENCE)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, work(mine)) for mine in names))

    assert names[0] == names[1]
    assert rounds == len(set(names[0])) == await refreshes(server)
    assert await is_alive(server, store)


async def test_bridges_in_two_threads_share_a_provider(
    server: AuthorizationServer, clock: Clock
) -> None:
    store = MemoryStore()
    provider = provider_of(server, clock, await server.grant("rotating"), store=store)
    together = threading.Barrier(2)

    async def work(url: str) -> int:
        await asyncio.to_thread(together.wait, PATIENCE)
        async with (
            asyncio.timeout(PATIENCE),  # or a failure of the other thread would hang this one
            Bridge(provider) as bridge,
            bridge.connect("c", url) as connection,
        ):
            await connection.wait_open()
            return connection.snapshot().counters.links

    async with far_side_of(server) as far:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, work(far.url)) for _ in range(2)))

        assert 2 == len(far.attempts)
    assert 1 == await refreshes(server)
    assert await is_alive(server, store)


# --- Who we are -----------------------------------------------------------------------------------


async def introspected(oidc: Oidc, client: str, token: Token, **options: Any) -> dict[str, Any]:
    headers = {"Authorization": oidc.client(client).basic()}
    async with http_client(**options) as http:
        answer = await http.post(
            f"{oidc.url}/token/introspection", data={"token": token.access_token}, headers=headers
        )
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("where", ["issuer", "token_url"])
async def test_the_endpoint_is_found_or_given(
    server: AuthorizationServer, tap: Tap, clock: Clock, where: str
) -> None:
    tapped = server.behind(tap)
    place = {"issuer": tapped.issuer} if where == "issuer" else {"token_url": tapped.token_endpoint}
    who = identity(server, "reserved")
    provider = in_the_time_of(clock, ClientCredentials(**place, **who))

    for _ in range(2):
        assert await server.alive((await provider.get_token()).access_token)

    assert 2 == tap.count(method="POST", path=tapped.token_path)
    assert (where == "issuer") == tap.count(method="GET")


async def test_somebody_elses_metadata_are_refused(
    server: AuthorizationServer, clock: Clock
) -> None:
    other = server.issuer.replace("127.0.0.1", "localhost") + "/"
    provider = in_the_time_of(
        clock, ClientCredentials(issuer=other, **identity(server, "reserved"))
    )

    error = await failure(provider.get_token())

    assert "discovery" == error.step
    assert 0 == await server.posts()


@pytest.mark.parametrize("where", ["issuer", "token_url"])
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_a_private_key_proves_who_asks(
    oidc: Oidc, clock: Clock, algorithm: str, where: str
) -> None:
    place = {"issuer": oidc.issuer} if where == "issuer" else {"token_url": oidc.token_endpoint}
    provider = in_the_time_of(
        clock,
        ClientCredentials(
            **place,
            client_id="jwt",
            private_key=oidc.keys[algorithm],
            algorithm=algorithm,
            assertion_audience=oidc.issuer,
        ),
    )

    for _ in range(2):
        assert await oidc.alive((await provider.get_token()).access_token)

    assert 2 == await oidc.posts("client_credentials")


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
async def test_a_clock_that_is_wrong_is_corrected_by_what_the_server_says(
    oidc: Oidc, clock: Clock, ahead: float
) -> None:
    provider = in_the_time_of(
        clock,
        ClientCredentials(issuer=oidc.issuer, client_id="jwt", private_key=oidc.keys["ES256"]),
    )
    await oidc.advance(ahead)

    assert await oidc.alive((await provider.get_token()).access_token)
    assert await oidc.alive((await provider.get_token()).access_token)

    # Either way at most one refusal, and that only for the first.
    assert 2 <= await oidc.posts() <= 3


@pytest.mark.parametrize(("client", "posts"), [("dpop", 2), ("dpop-nonce", 3)])
async def test_tokens_are_bound_to_a_key_with_and_without_nonces(
    oidc: Oidc, clock: Clock, client: str, posts: int
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    provider = in_the_time_of(
        clock,
        ClientCredentials(issuer=oidc.issuer, **identity(oidc, client), dpop=pem(key)),
    )

    first, second = await provider.get_token(), await provider.get_token()

    assert ["dpop", "dpop"] == [first.strategy.type, second.strategy.type]
    assert first.access_token != second.access_token
    assert {"jkt": thumbprint(key)} == (await introspected(oidc, client, second))["cnf"]
    assert posts == await oidc.posts()


async def test_a_nonce_that_has_gone_stale_is_replaced_at_once(oidc: Oidc, clock: Clock) -> None:
    provider = in_the_time_of(
        clock, ClientCredentials(issuer=oidc.issuer, **identity(oidc, "dpop-nonce"), dpop=True)
    )
    await provider.get_token()
    await clock.advance(3600)

    assert await oidc.alive((await provider.get_token()).access_token)
    assert 4 == await oidc.posts()


async def test_a_bound_refresh_token_outlives_a_restart_with_its_key(
    oidc: Oidc, clock: Clock, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    store = FileStore(tmp_path / "grant")
    first = await oidc.grant("dpop-public", jkt=thumbprint(key))
    options: dict[str, Any] = {"client": "dpop-public", "store": store}
    await provider_of(oidc, clock, first, dpop=pem(key), **options).get_token()
    await clock.advance(61)

    # Nobody gives the key again: it is in the store.
    restarted = provider_of(oidc, clock, first, dpop=True, **options)
    await restarted.get_token()
    await clock.advance(61)

    async with far_side_of(oidc) as far, bridge_of(restarted, clock) as bridge:
        task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
        await until(lambda: far.open_links or task.done())
        (attempt,) = far.attempts
        assert attempt.headers["authorization"].startswith("DPoP ")
        assert thumbprint(key) == thumbprint_of(attempt.headers["dpop"])
    await task
    assert 3 == await refreshes(oidc)
    assert await is_alive(oidc, store)


async def test_a_bound_refresh_token_is_worth_nothing_without_its_key(
    oidc: Oidc, clock: Clock
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = await oidc.grant("dpop-public", jkt=thumbprint(key))
    provider = provider_of(oidc, clock, first, client="dpop-public", dpop=True)

    assert is_for_a_person(await failure(provider.get_token()))
    assert 1 == await oidc.posts()


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def thumbprint_of(proof: str) -> str:
    """RFC 7638, of the key in a proof's header."""
    jwk = json.loads(base64.urlsafe_b64decode(proof.partition(".")[0] + "==="))["jwk"]
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.mark.parametrize("client", ["mtls", "mtls-ca"])
async def test_a_certificate_proves_who_asks(oidc: Oidc, clock: Clock, client: str) -> None:
    def provider(certificate: str | None) -> ClientCredentials:
        context = oidc.tls(certificate)
        source = ClientCredentials(
            issuer=oidc.secure.issuer, client_id=client, client_auth="tls", ssl=context
        )
        found: ClientCredentials = in_the_time_of(clock, source, context)
        return found

    assert await oidc.alive((await provider("client").get_token()).access_token)

    for wrong in ("other", None):
        assert "invalid_client" == (await failure(provider(wrong).get_token())).code


async def test_a_certificate_that_is_not_trusted_is_told_as_such(oidc: Oidc, clock: Clock) -> None:
    context = ssl.create_default_context()
    provider = in_the_time_of(
        clock,
        ClientCredentials(issuer=oidc.secure.issuer, **identity(oidc, "basic"), ssl=context),
        context,
    )

    assert "untrusted_certificate" == (await failure(provider.get_token())).code
    assert 0 == await oidc.posts()


async def test_tokens_are_bound_to_the_certificate_that_opens_the_link(
    oidc: Oidc, clock: Clock
) -> None:
    """One context for the token endpoint and for the far side, which wants the certificate too."""
    authority = trustme.CA()
    their_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(their_context)
    their_context.verify_mode = ssl.CERT_REQUIRED
    their_context.load_verify_locations(oidc.ca)
    our_context = oidc.tls("client")
    authority.configure_trust(our_context)
    store, first = MemoryStore(), await oidc.grant("mtls-bound")
    options: dict[str, Any] = {"client": "mtls-bound", "store": store}
    provider = provider_of(oidc.secure, clock, first, ssl=our_context, **options)

    async with (
        far_side_of(oidc, ssl=their_context) as far,
        bridge_of(provider, clock, dialer=PicowsDialer(ssl=our_context)) as bridge,
    ):
        task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
        await until(lambda: far.open_links or task.done())
        token = await provider.get_token()
        assert far.link.token == token.access_token
    await task

    about = await introspected(oidc.secure, "mtls-bound", token, verify=our_context)
    der = ssl.PEM_cert_to_DER_cert(certificate(oidc.certificates["client"]))
    digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    assert {"x5t#S256": digest} == about["cnf"]
    assert await is_alive(oidc, store)


async def test_a_bound_refresh_without_the_certificate_is_refused(oidc: Oidc, clock: Clock) -> None:
    first = await oidc.grant("mtls-bound")
    provider = provider_of(oidc.secure, clock, first, client="mtls-bound", ssl=oidc.tls())

    assert is_for_a_person(await failure(provider.get_token()))


def certificate(file: Path) -> str:
    begin = "-----BEGIN CERTIFICATE-----"
    return begin + file.read_text().split(begin)[1]


# --- A person at another device -------------------------------------------------------------------


def device_of(
    oidc: Oidc, clock: Clock, show: Callable[[DevicePrompt], Awaitable[None]], **options: Any
) -> DeviceCode:
    options = {"issuer": oidc.issuer, **identity(oidc, "device"), **options}
    found: DeviceCode = in_the_time_of(clock, DeviceCode(show, **options))
    return found


@pytest.mark.parametrize("client", ["device", "device-public"])
async def test_a_device_that_is_approved_is_refreshed_from_then_on(
    oidc: Oidc, clock: Clock, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_code, "_INTERVAL", 0.01)
    seen = list[str]()

    async def approve(prompt: DevicePrompt) -> None:
        seen.append(prompt.url)
        assert prompt.user_code in str(prompt.complete_url)
        await oidc.approve(prompt.user_code)

    store = FileStore(tmp_path / "grant")
    options = {**identity(oidc, client), "store": store}
    first = await device_of(oidc, clock, approve, **options).get_token()
    await clock.advance(61)
    second = await device_of(oidc, clock, approve, **options).get_token()

    assert first.access_token != second.access_token
    assert await oidc.alive(second.access_token)
    assert await is_alive(oidc, store)
    assert 1 == len(seen)
    assert 1 == await refreshes(oidc)


async def test_a_device_that_is_denied_ends_the_session(
    oidc: Oidc, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_code, "_INTERVAL", 0.01)
    prompts = list[DevicePrompt]()

    async def deny(prompt: DevicePrompt) -> None:
        prompts.append(prompt)
        await oidc.deny(prompt.user_code)

    async with (
        far_side_of(oidc) as far,
        bridge_of(device_of(oidc, clock, deny), clock) as bridge,
    ):
        with pytest.raises(InteractionRequired) as caught:
            await bridge.maintain_websocket("c", far.url, Notes())

    assert "access_denied" == caught.value.code
    assert 1 == len(prompts)
    assert 1 == await oidc.posts(device_code._GRANT)


async def test_a_device_whose_consent_is_withdrawn_is_asked_about_again(
    oidc: Oidc, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_code, "_INTERVAL", 0.01)
    prompts, store = list[DevicePrompt](), MemoryStore()

    async def approve(prompt: DevicePrompt) -> None:
        prompts.append(prompt)
        await oidc.approve(prompt.user_code)

    provider = device_of(oidc, clock, approve, store=store)
    async with far_side_of(oidc) as far, bridge_of(provider, clock) as bridge:
        task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
        await until(lambda: far.open_links or task.done())
        kept = await store.load()
        assert kept is not None
        assert kept.refresh_token is not None
        await oidc.revoke(kept.refresh_token.reveal())
        far.close_all(4401, "token revoked")
        with pytest.raises(InteractionRequired):
            await until_ended(task, clock)
        assert 1 == len(prompts)

        await clock.advance(31)
        task = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Notes()))
        await until(lambda: far.open_links or task.done())
        assert 2 == len(prompts)
    await task
    assert StoredGrant(refresh_token=None) != await store.load()


async def until_ended(task: "asyncio.Future[None]", clock: Clock) -> None:
    """Let time pass until it has ended: floors and backoffs are many seconds."""
    end = time.monotonic() + PATIENCE
    while not task.done():
        assert time.monotonic() < end
        await asyncio.wait([task], timeout=0.1)
        await clock.advance(1)
    await task
