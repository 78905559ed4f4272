"""The health port over real HTTP: what it says of sessions, and what it stands."""

import asyncio
import contextlib
import sys
import time

import pytest

import dromos
from dromos import Bridge, TokenError
from dromos._http_server import Headers, Request
from dromos.oauth import OAuthClient
from dromos.service import HealthServer
from dromos.service.health import Health
from dromos.testing import FarSide, Gateway
from tests.driver.harness import Stage, Tokens
from tests.driver.harness import until as until_true
from tests.service.support import ask, exchange, until


class Agent:
    async def on_connect(self, send):
        await send("hello")

    async def on_message(self, message):
        pass

    async def on_disconnect(self, error):
        pass


@contextlib.asynccontextmanager
async def world(sessions=1, **options):
    """A gateway, a far side, a bridge with sessions, and its health port."""
    async with (
        Gateway() as gateway,
        FarSide(gateway=gateway, echo=True) as far,
        OAuthClient(gateway.url) as oauth,
        Bridge(oauth, **options) as bridge,
        HealthServer(bridge, port=0) as health,
    ):
        tasks = []
        for number in range(sessions):
            gateway.add(f"c-{number}")
            running = bridge.maintain_websocket(f"c-{number}", far.url, Agent())
            tasks.append(asyncio.create_task(running))
        if sessions:
            await far.wait_for(lambda: sum(bool(link.received) for link in far.links) >= sessions)
        yield gateway, far, bridge, health
        await bridge.close()
        await asyncio.gather(*tasks)


# --- Probes ---------------------------------------------------------------------------------------


async def test_a_bridge_with_an_open_session_is_alive_and_ready():
    async with world() as (_, _, _, health):
        alive, ready = await ask(health.port), await ask(health.port, "/readyz")

    assert (200, "alive\n") == (alive.status, alive.text)
    assert (200, "ready: 1 of 1 sessions are open\n") == (ready.status, ready.text)


async def test_a_bridge_without_a_session_is_alive_and_not_ready():
    async with world(0) as (_, _, _, health):
        alive, ready = await ask(health.port), await ask(health.port, "/readyz")

    assert 200 == alive.status
    assert (503, "no session runs\n") == (ready.status, ready.text)


async def test_it_is_ready_once_every_session_has_its_first_token():
    tokens = {}

    class Slow:
        async def get_token(self, connection_id):
            return await tokens.setdefault(
                connection_id, asyncio.get_running_loop().create_future()
            )

    async with FarSide() as far, Bridge(Slow()) as bridge, HealthServer(bridge, port=0) as health:
        running = [
            asyncio.create_task(bridge.maintain_websocket(name, far.url, Agent()))
            for name in ("a", "b")
        ]
        await until(lambda: len(tokens) == 2)
        before = await ask(health.port, "/readyz")
        tokens["a"].set_result(dromos.Token({"access_token": "t"}))
        await far.wait_for_link(1)
        between = await ask(health.port, "/readyz")
        tokens["b"].set_result(dromos.Token({"access_token": "t"}))
        await far.wait_for_link(2)
        after = await ask(health.port, "/readyz")
        await bridge.close()
        await asyncio.gather(*running)

    assert (503, "2 of 2 sessions wait for their first token\n") == (before.status, before.text)
    assert (503, "1 of 2 sessions wait for their first token\n") == (between.status, between.text)
    assert 200 == after.status


async def test_neither_the_far_side_nor_the_gateway_being_down_is_a_reason_to_restart():
    async with world() as (gateway, far, bridge, health):
        await gateway.stop()
        await far.stop()
        await until(lambda: bridge.snapshots()[0].state != "open")
        alive, ready = await ask(health.port), await ask(health.port, "/readyz")

    assert 200 == alive.status
    assert (200, "ready: 0 of 1 sessions are open\n") == (ready.status, ready.text)


@pytest.mark.looptime
async def test_five_minutes_without_gateway_and_far_side_never_fail_liveness():
    it = Stage(tokens=Tokens(lifetime=600))
    health = Health(it.bridge)
    session = it.start()
    await until_true(lambda: it.handler.sends)
    it.dialer.go_down()
    it.tokens.get_errors = it.tokens.refresh_errors = Endless(ConnectionRefusedError("down"))
    probes = []
    for _ in range(300):
        await asyncio.sleep(1)
        probes += [health.answer(get("/livez")).status, health.answer(get("/readyz")).status]
    it.tokens.get_errors, it.tokens.refresh_errors = [], []
    it.dialer.come_back()
    await until_true(lambda: len(it.handler.sends) > 1)
    attempts = len(it.dialer.dials)
    await it.bridge.close()
    await session

    assert {200} == set(probes)
    assert attempts > 5


class Endless(list):
    """Errors that are never used up."""

    def __bool__(self):
        return True

    def __init__(self, error):
        super().__init__()
        self._error = error

    def pop(self, _=0):
        return self._error


def get(path):
    return Request(method="GET", target=path, headers=Headers(), body=b"", at=0.0)


async def test_a_session_that_nothing_will_wake_again_fails_liveness():
    async with world(2) as (_, _, bridge, health):
        session = next(iter(bridge._sessions.values()))
        session._timer.cancel()
        session._timer = None  # a defect, as no session of ours should ever have
        alive = await ask(health.port)

    assert (503, "1 of 2 sessions have stalled\n") == (alive.status, alive.text)


async def test_a_bridge_that_is_closed_is_not_ready_and_still_alive():
    async with world() as (_, _, bridge, health):
        await bridge.close()
        alive, ready = await ask(health.port), await ask(health.port, "/readyz")

    assert 200 == alive.status
    assert (503, "draining\n") == (ready.status, ready.text)


# --- Sessions as JSON -----------------------------------------------------------------------------


async def test_sessions_are_told_as_json():
    async with world(2) as (_, far, bridge, health):
        answer = await ask(health.port, "/sessions")
        snapshots = bridge.snapshots()

    told = answer.json
    first = told["sessions"][0]
    assert "application/json" == answer.headers["content-type"]
    assert (dromos.__version__, True, False) == (told["version"], told["ready"], told["draining"])
    assert (2, 2, 0) == (told["total"], told["open"], told["offset"])
    assert ["c-0", "c-1"] == [each["connection_id"] for each in told["sessions"]]
    assert {
        *(name for name in type(snapshots[0]).__dataclass_fields__),
        "last_error_type",
    } == set(first)
    assert ("open", 1, far.url) == (first["state"], first["link"], first["endpoint"])
    assert [None] * 3 == [
        first[name] for name in ("last_error", "last_error_type", "last_error_at")
    ]
    assert (1, 1) == (first["counters"]["links"], first["counters"]["sent"])


async def test_an_error_is_told_in_words_and_by_its_type():
    before = time.time()
    async with world() as (_, far, _, health):
        far.links[0].close(4000, "for repairs")
        await far.wait_for_link(2)
        told = (await ask(health.port, "/sessions")).json["sessions"][0]

    assert "ConnectionClosed" == told["last_error_type"]
    assert before <= told["last_error_at"] <= told["since"]
    assert "for repairs" in told["last_error"]


async def test_sessions_are_told_a_page_at_a_time():
    async with world(5) as (_, _, _, health):
        pages = [
            (await ask(health.port, f"/sessions?limit=2&offset={offset}")).json
            for offset in (0, 2, 4, 6)
        ]

    assert [["c-0", "c-1"], ["c-2", "c-3"], ["c-4"], []] == [
        [each["connection_id"] for each in page["sessions"]] for page in pages
    ]
    assert {5} == {page["total"] for page in pages}


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=", "offset=1e3", "offset=\u0665"])
async def test_a_page_that_is_no_number_is_refused(query):
    async with world(0) as (_, _, _, health):
        answer = await ask(health.port, f"/sessions?{query}".encode().decode("latin-1"))

    assert 400 == answer.status
    assert answer.text.endswith("must be a whole number\n") or query.endswith("\u0665")


# --- Metrics and the page -------------------------------------------------------------------------


async def test_metrics_are_those_of_the_prometheus_client():
    pytest.importorskip("prometheus_client", reason="needs the extra prometheus")
    async with world(0) as (_, _, _, health):
        answer = await ask(health.port, "/metrics")

    assert 200 == answer.status
    assert "python_info" in answer.text


async def test_without_the_prometheus_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    async with world(0) as (_, _, _, health):
        answer = await ask(health.port, "/metrics")

    assert 404 == answer.status
    assert 'pip install "dromos[prometheus]"' in answer.text


# --- What it stands -------------------------------------------------------------------------------


async def test_a_head_request_gets_the_headers_alone():
    async with world(0) as (_, _, _, health):
        full, head = await ask(health.port), await ask(health.port, method="HEAD")

    assert (200, b"") == (head.status, head.body)
    assert full.headers == head.headers


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_only_reading_is_allowed(method):
    async with world(0) as (_, _, _, health):
        answer = await ask(health.port, method=method)

    assert (405, "GET, HEAD") == (answer.status, answer.headers["allow"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # RFC 9112, 3.2: without a Host
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400),  # TLS
    ],
)
async def test_what_is_no_request_is_refused(request_, status):
    async with world(0) as (_, _, _, health):
        answer = await exchange(health.port, request_)
        after = await ask(health.port)

    assert status == answer.status
    assert 200 == after.status


async def test_an_unknown_path_is_told_the_others():
    async with world(0) as (_, _, _, health):
        answer = await ask(health.port, "/healthz")

    assert 404 == answer.status
    assert "/livez" in answer.text


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//livez/", 404),
        ("//livez", 404),
        ("//host/livez", 404),
        ("//[", 404),
        ("http://[", 404),
        ("http://host/livez", 200),  # RFC 9112, 3.2.2: a server must accept it
        ("/livez?a=//b", 200),
    ],
)
def test_no_host_is_read_out_of_a_path(target, status):
    answer = Health(Stage().bridge).answer(get(target))

    assert status == answer.status


async def test_a_crowd_of_silent_clients_does_not_keep_out_a_probe():
    async with world(0) as (_, _, _, health):
        crowd = [await asyncio.open_connection("127.0.0.1", health.port) for _ in range(200)]
        answer = await ask(health.port)
        held = len(health._clients)
        for _, writer in crowd:
            writer.close()

    assert 200 == answer.status
    assert held <= 64


@pytest.mark.slow  # a client is given up after real time
async def test_a_client_that_sends_too_slowly_is_given_up():
    async with (
        world(0) as (_, _, bridge, _),
        HealthServer(bridge, port=0, request_timeout=0.2) as health,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
        writer.write(b"GET /livez HT")
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        writer.close()

    assert b"" == answer


async def test_closing_lets_every_client_go():
    async with world(0) as (_, _, _, health):
        reader, writer = await asyncio.open_connection("127.0.0.1", health.port)
        writer.write(b"GET /livez HT")
        await until(lambda: health._clients)
        await health.close()
        with contextlib.suppress(ConnectionResetError):
            assert b"" == await reader.read()
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await ask(health.port)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"port": "80"}, "port"),
        ({"port": 70000}, "port"),
        ({"host": 1}, "host"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"bridge": None}, "bridge"),
    ],
)
def test_a_wrong_argument_is_named(options, named):
    class Never:
        async def get_token(self, connection_id):
            raise TokenError("never", step="token")

    with pytest.raises((TypeError, ValueError), match=f"^{named} must be"):
        HealthServer(**{"bridge": Bridge(Never()), **options})


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v1/token?a=1&a=2", "/v1/token", [("a", "1"), ("a", "2")]),
        ("//v1/token?a=", "//v1/token", [("a", "")]),
        ("//[?a=1", "//[", [("a", "1")]),
        ("http://h/v1?a=1", "/v1", [("a", "1")]),
        ("http://[?a=1", "", []),
        ("*", "*", []),
    ],
)
def test_a_target_is_a_path_or_a_whole_url(target, path, query):
    request = Request(method="GET", target=target, headers=Headers(), body=b"", at=0.0)

    assert (path, query) == (request.path, request.query)
