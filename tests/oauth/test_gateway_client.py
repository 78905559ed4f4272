"""The gateway client over real sockets, against a server that plays the gateway and worse."""

import asyncio
import gzip
import json
import logging
import socket
import ssl
import subprocess
import sys
import traceback
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from dromos.errors import InteractionRequired, TokenError
from dromos.oauth import ConnectionRequest, OAuthClient
from dromos.oauth._http import HttpxTransport, NoAnswer, Request
from tests.oauth.scripted_gateway import Reply, ScriptedGateway, drop, hang, json_reply

TOKEN = "/v1/token/c"
REFRESH = "/v1/refresh/c"
CANARY = "CANARY-5f3a"


def stored(token: str, *, life: object = 3600, refresh: str | None = "rt", **more: object) -> Reply:
    """What the gateway answers to GET: the token as stored, expiry and all."""
    credentials: dict[str, object] = {"access_token": token, "token_type": "Bearer", **more}
    if life is not None:
        credentials["expires_in"] = life
    if refresh:
        credentials["refresh_token"] = refresh
    root = {"access_token": token, "strategy": {"type": "oauth2"}, "credentials": credentials}
    return json_reply(json.dumps(root))


def issued(token: str) -> Reply:
    """What the gateway answers to POST: no expiry, no strategy, no credentials."""
    return json_reply(json.dumps({"access_token": token, "token_type": "Bearer"}))


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with ScriptedGateway() as server:
        yield server


@pytest.fixture
async def client(gateway: ScriptedGateway) -> AsyncIterator[OAuthClient]:
    async with OAuthClient(gateway.url) as oauth:
        yield oauth


# --- Requests -------------------------------------------------------------------------------------


async def test_a_token_request_says_who_asks_and_carries_an_id_of_its_own(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("GET", TOKEN, stored("at-1"))

    token = await client.get_token("c")
    await client.get_token("c")

    assert "at-1" == token.access_token
    one, two = gateway.seen
    assert one.headers["user-agent"].startswith("dromos/")
    assert one.headers["accept"] == "application/json"
    assert "authorization" not in one.headers
    assert one.headers["x-request-id"] != two.headers["x-request-id"]


async def test_headers_and_bearer_reach_a_proxy_before_the_gateway(gateway: ScriptedGateway):
    gateway.on("GET", TOKEN, stored("at-1"))
    async with OAuthClient(
        gateway.url, headers={"X-Tenant": "t"}, bearer="agent-key", user_agent="mine/1"
    ) as oauth:
        await oauth.get_token("c")

    seen = gateway.seen[0].headers
    assert ("t", "Bearer agent-key", "mine/1") == (
        seen["x-tenant"],
        seen["authorization"],
        seen["user-agent"],
    )


async def test_a_bearer_callable_is_asked_for_each_request(gateway: ScriptedGateway):
    gateway.on("GET", TOKEN, stored("at-1"))
    keys = iter(["one", "two"])

    async def key() -> str:
        return next(keys)

    async with OAuthClient(gateway.url, bearer=key) as oauth:
        await oauth.get_token("c")
        await oauth.get_token("c")

    assert ["Bearer one", "Bearer two"] == [s.headers["authorization"] for s in gateway.seen]


@pytest.mark.parametrize("key", [f"{CANARY}\n", "", None])
async def test_4_a_bearer_callable_that_gives_nonsense_is_a_clean_error(
    gateway: ScriptedGateway, key: Any
):
    async with OAuthClient(gateway.url, bearer=lambda: key) as oauth:
        with pytest.raises(TokenError) as caught:
            await oauth.get_token("c")

    assert CANARY not in _everything(caught.value)
    assert [] == gateway.seen


async def test_a_base_url_may_have_a_path(gateway: ScriptedGateway):
    gateway.on("GET", "/nexus/v1/token/c", stored("at-1"))
    async with OAuthClient(f"{gateway.url}/nexus/") as oauth:
        assert "at-1" == (await oauth.get_token("c")).access_token


async def test_no_cookie_is_kept(gateway: ScriptedGateway, client: OAuthClient):
    reply = stored("at-1")
    gateway.on(
        "GET",
        TOKEN,
        Reply(body=reply.body, headers=(("Set-Cookie", "session=x; Path=/"),)),
    )

    await client.get_token("c")
    await client.get_token("c")

    assert "cookie" not in gateway.seen[1].headers


async def test_22_every_character_of_a_connection_id_that_needs_it_is_encoded(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("GET", "/v1/token/50%25%20%C3%A9%3Ba%26b%3Dc%40d~.e", stored("at-1"))

    assert "at-1" == (await client.get_token("50% é;a&b=c@d~.e")).access_token


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "\t", ".", "..", "../admin", "a/b", "a\\b", "a?b", "a#b", "%2e%2e", "%2E", "a%2fb",
        "a%252fb", "%25252e%25252e", "a%3fb", "a\nb", "a%0ab", "a\x7fb", "a\u2028b", "\ud800",
        "x" * 513, "x" * 10_000,
    ],
    ids=lambda name: f"{len(name)} {name!a:.30}",
)  # fmt: skip
async def test_22_a_connection_id_that_leads_elsewhere_is_refused(
    gateway: ScriptedGateway, client: OAuthClient, name: str
):
    for method in (
        client.get_token,
        client.refresh_connection,
        client.check_connection,
        client.wait_for_active,
    ):
        with pytest.raises(ValueError, match="connection_id must"):
            await method(name)
    assert [] == gateway.seen


async def test_22_a_connection_id_that_is_no_string_is_a_type_error(client: OAuthClient):
    with pytest.raises(TypeError, match="connection_id must be a str, not int"):
        await client.get_token(7)  # type: ignore[arg-type]


# --- Refresh --------------------------------------------------------------------------------------


async def test_a_refresh_is_followed_by_a_get_which_has_the_expiry(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, issued("at-2"))
    gateway.on("GET", TOKEN, stored("at-2", expires_at="2100-01-01T00:00:00Z"))

    token = await client.refresh_connection("c")

    assert [f"POST {REFRESH}", f"GET {TOKEN}"] == gateway.asked()
    assert "at-2" == token.access_token
    assert 4102444800 == token.expires_at
    assert 3600 == token.lifetime


async def test_a_lifetime_counts_from_the_refresh_where_the_gateway_reckons_no_expiry(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, issued("at-2"))
    gateway.on("GET", TOKEN, stored("at-2", life="3600"))

    token = await client.refresh_connection("c")

    stored_only = await client.get_token("c")
    assert stored_only.expires_at is None
    assert token.expires_at is not None
    assert 3600 == token.lifetime


async def test_what_a_direct_broker_tells_with_the_refresh_is_used_when_the_get_fails(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, json_reply('{"access_token":"at-3","expires_in":60}'))
    gateway.on("GET", TOKEN, Reply(status=502))

    token = await client.refresh_connection("c")

    assert "at-3" == token.access_token
    assert token.expires_at is not None
    assert 60 == token.lifetime


async def test_a_refreshed_token_without_an_expiry_is_not_used_when_the_get_fails(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, issued("at-2"))
    gateway.on("GET", TOKEN, Reply(status=502))

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert 502 == caught.value.status


async def test_a_get_from_a_stale_copy_does_not_hide_a_new_token_that_told_its_expiry(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, json_reply('{"access_token":"at-2","expires_in":60}'))
    gateway.on("GET", TOKEN, stored("at-1"))
    await client.get_token("c")

    assert "at-2" == (await client.refresh_connection("c")).access_token


async def test_a_token_that_somebody_else_renewed_meanwhile_is_taken(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, issued("at-2"))
    gateway.on("GET", TOKEN, stored("at-3"))

    assert "at-3" == (await client.refresh_connection("c")).access_token


async def test_409_to_a_refresh_needs_a_person(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on("POST", REFRESH, Reply(status=409))

    with pytest.raises(InteractionRequired) as caught:
        await client.refresh_connection("c")

    assert "c" == caught.value.connection_id
    assert [f"POST {REFRESH}"] == gateway.asked()


async def test_a_connection_that_needs_attention_answers_404_then_409(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, Reply(status=404))
    gateway.on("GET", TOKEN, Reply(status=409))

    with pytest.raises(InteractionRequired):
        await client.refresh_connection("c")


async def test_the_refresh_that_won_a_race_and_lost_the_connection_needs_a_person(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, issued("at-2"))
    gateway.on("GET", TOKEN, Reply(status=409))

    with pytest.raises(InteractionRequired):
        await client.refresh_connection("c")


@pytest.mark.parametrize("status", [400, 403, 404, 502])
async def test_404_to_a_refresh_is_explained_by_the_get(
    gateway: ScriptedGateway, client: OAuthClient, status: int
):
    gateway.on("POST", REFRESH, Reply(status=404))
    gateway.on("GET", TOKEN, Reply(status=status))

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert status == caught.value.status


async def test_a_connection_that_was_repaired_meanwhile_is_adopted(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, Reply(status=404))
    gateway.on("GET", TOKEN, stored("at-9"))

    assert "at-9" == (await client.refresh_connection("c")).access_token


STATIC = json_reply('{"strategy":{"type":"header"},"credentials":{"api_key":"k"}}')


@pytest.mark.parametrize(
    ("post", "get"),
    [
        (Reply(status=400), STATIC),
        (Reply(status=400), stored("at-1", refresh=None)),
        (json_reply('{"error":"static_token"}', status=400), stored("at-1")),
        (json_reply('{"error":"no_refresh_token"}', status=400), stored("at-1")),
        (Reply(status=404, body=b"404 page not found\n"), stored("at-1")),
    ],
    ids=["static", "no refresh token", "broker static", "broker no refresh token", "old gateway"],
)
async def test_a_connection_without_a_refresh_says_so(
    gateway: ScriptedGateway, client: OAuthClient, post: Reply, get: Reply
):
    gateway.on("POST", REFRESH, post)
    gateway.on("GET", TOKEN, get)

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert ("refresh", "refresh_not_supported", post.status) == (
        caught.value.step,
        caught.value.code,
        caught.value.status,
    )


async def test_400_to_a_refreshable_connection_is_a_configuration_error(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, Reply(status=400))
    gateway.on("GET", TOKEN, stored("at-1"))

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert (400, None) == (caught.value.status, caught.value.code)


@pytest.mark.parametrize("trouble", [Reply(status=502), Reply(status=500), Reply(), drop, hang])
async def test_a_refresh_of_unknown_outcome_is_looked_up_and_never_posted_again(
    gateway: ScriptedGateway, trouble: Any
):
    gateway.on("POST", REFRESH, trouble)
    gateway.on("GET", TOKEN, stored("at-1"), stored("at-2"))
    async with OAuthClient(gateway.url, refresh_timeout=0.3) as oauth:
        await oauth.get_token("c")

        token = await oauth.refresh_connection("c")

    assert "at-2" == token.access_token
    assert 1 == gateway.asked().count(f"POST {REFRESH}")


@pytest.mark.parametrize("trouble", [Reply(status=502), Reply(), drop, hang])
async def test_a_refresh_of_unknown_outcome_that_changed_nothing_has_failed(
    gateway: ScriptedGateway, trouble: Any
):
    gateway.on("POST", REFRESH, trouble)
    gateway.on("GET", TOKEN, stored("at-1"))
    async with OAuthClient(gateway.url, refresh_timeout=0.3) as oauth:
        await oauth.get_token("c")

        with pytest.raises(TokenError) as caught:
            await oauth.refresh_connection("c")

    assert "refresh" == caught.value.step
    assert 1 == gateway.asked().count(f"POST {REFRESH}")


async def test_the_grpc_gateway_s_empty_token_to_a_refresh_is_explained_by_the_get(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("POST", REFRESH, json_reply('{"token":{}}'))
    gateway.on("GET", TOKEN, json_reply('{"token":{}}'))

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert caught.value.malformed


@pytest.mark.parametrize("status", [401, 403, 405, 429, 503])
async def test_a_refresh_that_was_refused_is_not_looked_up(
    gateway: ScriptedGateway, client: OAuthClient, status: int
):
    gateway.on("POST", REFRESH, Reply(status=status, headers=(("Retry-After", "7"),)))

    with pytest.raises(TokenError) as caught:
        await client.refresh_connection("c")

    assert (status, 7.0) == (caught.value.status, caught.value.retry_after)
    assert [f"POST {REFRESH}"] == gateway.asked()


# --- Transport ------------------------------------------------------------------------------------


async def test_a_gateway_that_is_not_there_is_a_token_error_without_a_status():
    async with ScriptedGateway() as server:
        url = server.url
    async with OAuthClient(url) as oauth:
        for method in (oauth.get_token, oauth.refresh_connection):
            with pytest.raises(TokenError) as caught:
                await method("c")
            assert caught.value.status is None
            assert caught.value.origin == url
            assert "gateway" == caught.value.source


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_5_a_redirect_is_never_followed(gateway: ScriptedGateway, status: int):
    async with ScriptedGateway() as elsewhere:
        for method, path in (("GET", TOKEN), ("POST", REFRESH)):
            where = (("Location", f"{elsewhere.url}{path}?t={CANARY}"),)
            gateway.on(method, path, Reply(status=status, headers=where))
        async with OAuthClient(gateway.url, headers={"X-Api-Key": CANARY}) as oauth:
            for ask in (oauth.get_token, oauth.refresh_connection):
                with pytest.raises(TokenError) as caught:
                    await ask("c")
                assert status == caught.value.status
                assert elsewhere.url in str(caught.value)
                assert CANARY not in _everything(caught.value)

        assert [] == elsewhere.seen


async def test_6_no_proxy_of_the_environment_and_no_netrc_is_used(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    gateway.on("GET", TOKEN, stored("at-1"))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login x password {CANARY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with ScriptedGateway() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with OAuthClient(gateway.url) as oauth:
            await oauth.get_token("c")

        assert [] == proxy.seen
    assert "authorization" not in gateway.seen[0].headers


async def test_6_an_explicit_proxy_is_not_used_for_this_machine(gateway: ScriptedGateway):
    gateway.on("GET", TOKEN, stored("at-1"))
    async with ScriptedGateway() as proxy:
        async with OAuthClient(gateway.url, proxy=proxy.url) as oauth:
            await oauth.get_token("c")

        assert [] == proxy.seen


async def test_an_explicit_proxy_is_used_for_another_machine():
    async with ScriptedGateway() as proxy:
        with pytest.warns(RuntimeWarning, match="in the clear"):
            oauth = OAuthClient(
                "http://gateway.example", proxy=proxy.url, allow_insecure_transport=True
            )
        proxy.on("GET", "http://gateway.example:80/v1/token/c", stored("at-1"))
        proxy.on("GET", "http://gateway.example/v1/token/c", stored("at-1"))

        assert "at-1" == (await oauth.get_token("c")).access_token
        assert 1 == len(proxy.seen)


async def test_16_a_gigantic_body_is_cut_off(gateway: ScriptedGateway, client: OAuthClient):
    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    gateway.on("GET", TOKEN, flood)

    with pytest.raises(TokenError, match="1 MiB") as caught:
        await client.get_token("c")

    assert caught.value.malformed


@pytest.mark.parametrize("status", [200, 503])
async def test_16_a_gzip_bomb_is_cut_off_and_classed_by_its_status(
    gateway: ScriptedGateway, client: OAuthClient, status: int
):
    bomb = gzip.compress(b" " * 100_000_000)
    gateway.on(
        "GET", TOKEN, Reply(status=status, body=bomb, headers=(("Content-Encoding", "gzip"),))
    )

    with pytest.raises(TokenError) as caught:
        await client.get_token("c")

    assert status == caught.value.status


async def test_16_a_compressed_answer_is_understood(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on(
        "GET",
        TOKEN,
        Reply(body=gzip.compress(stored("at-1").body), headers=(("Content-Encoding", "gzip"),)),
    )

    assert "at-1" == (await client.get_token("c")).access_token


@pytest.mark.parametrize("status", [400, 401, 429, 503])
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe\xfa", b"[" * 100_000, b"x" * 3_000_000],
    ids=["nothing", "a page", "not UTF-8", "deep", "3 MB"],
)
async def test_16_a_refusal_is_classed_by_its_status_whatever_its_body(
    gateway: ScriptedGateway, client: OAuthClient, status: int, body: bytes
):
    gateway.on("GET", TOKEN, Reply(status=status, body=body))

    with pytest.raises(TokenError) as caught:
        await client.get_token("c")

    assert (status, False) == (caught.value.status, caught.value.malformed)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxxx",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 99 \r\n\r\n",
    ],
    ids=["nothing", "no HTTP", "cut short", "not gzip", "headers", "status"],
)
async def test_an_answer_that_breaks_off_is_a_token_error(
    gateway: ScriptedGateway, client: OAuthClient, answer: bytes
):
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    gateway.on("GET", TOKEN, write)

    with pytest.raises(TokenError) as caught:
        await client.get_token("c")

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_18_the_total_deadline_holds_against_a_slow_drip(gateway: ScriptedGateway):
    dripped = asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            dripped.set()
            await asyncio.sleep(0.01)  # slow on purpose; the client's deadline ends it

    gateway.on("GET", TOKEN, drip)
    async with OAuthClient(gateway.url, token_timeout=0.3) as oauth:
        with pytest.raises(TokenError, match=r"over 0\.3 s"):
            await oauth.get_token("c")

    assert dripped.is_set()


async def test_18_a_gateway_that_answers_never_is_given_up_on(gateway: ScriptedGateway):
    gateway.on("GET", TOKEN, hang)
    async with OAuthClient(gateway.url, token_timeout=0.2) as oauth:
        with pytest.raises(TokenError, match=r"over 0\.2 s|too long") as caught:
            await oauth.get_token("c")

    assert caught.value.status is None


def caused(error: OSError) -> httpx2.ConnectError:
    outer = httpx2.ConnectError("x")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "sent", "reason"),
    [
        (httpx2.ConnectTimeout("x"), False, "no connection in 3 s"),
        (httpx2.ReadTimeout("x"), True, "too long"),
        (httpx2.ConnectError("x"), False, "no connection could be made"),
        (caused(ConnectionRefusedError(111, "at x")), False, "could be made: Connection refused"),
        (caused(socket.gaierror(-2, "x")), False, "its host has no address"),
        (OSError("x"), True, "OSError"),
        (httpx2.InvalidURL("x"), False, "can't be used"),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "x"), False, "can't be used"),
        (RuntimeError("x"), True, "RuntimeError"),
    ],
    ids=repr,
)
async def test_what_goes_wrong_is_told_with_whether_the_request_had_left(
    monkeypatch: pytest.MonkeyPatch, error: Exception, sent: bool, reason: str
):
    class Failing(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            raise error

    transport = HttpxTransport(ssl=None, proxy=None, connect_timeout=3)
    monkeypatch.setattr(HttpxTransport, "_open", lambda _, request: Failing())

    outcome = await transport.send(
        Request(method="GET", url="http://127.0.0.1:1/", headers=(), deadline=5)
    )

    assert isinstance(outcome, NoAnswer)
    assert sent is outcome.sent
    assert reason in outcome.reason


# IDNA 2003, by which a URL is checked at once, has a name for this host, and IDNA 2008 has none.
NO_HOST = "-\xfc.example"


@pytest.mark.parametrize(
    "options", [{}, {"proxy": f"http://u:{CANARY}@{NO_HOST}:1"}], ids=["", "p"]
)
async def test_3_a_url_that_no_request_can_be_made_of_is_told_once_and_without_frames(
    options: dict[str, Any],
):
    host = "far.example" if options else NO_HOST
    client = OAuthClient(f"https://{host}", bearer=CANARY, **options)
    with pytest.raises(TokenError, match="can't be used") as caught:
        await client.get_token("c")

    assert "wrong_url" == caught.value.code
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame.locals for frame in told.stack if "/tests/" not in frame.filename]
    assert CANARY not in f"{caught.value!r} {ours}"
    assert told.__context__ is None
    with pytest.raises(TokenError, match="can't be used"):
        await client.wait_for_active("c", interval=0.01, timeout=30)


async def test_a_success_that_breaks_off_is_no_answer_and_a_refusal_keeps_its_status(
    gateway: ScriptedGateway, client: OAuthClient
):
    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()

    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 No\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()

    gateway.on("GET", TOKEN, cut, refuse)
    for status, wait in ((None, None), (503, 9.0)):
        with pytest.raises(TokenError) as caught:
            await client.get_token("c")
        assert (status, wait, False) == (
            caught.value.status,
            caught.value.retry_after,
            caught.value.malformed,
        )


async def test_a_gigantic_list_of_providers_is_malformed(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("GET", "/v1/providers", Reply(body=b" " * 2_000_000))

    with pytest.raises(TokenError, match="1 MiB") as caught:
        await client.providers()

    assert caught.value.malformed


async def test_a_cancelled_request_leaves_nothing_behind(gateway: ScriptedGateway):
    gateway.on("GET", TOKEN, hang)
    async with OAuthClient(gateway.url) as oauth:
        task = asyncio.ensure_future(oauth.get_token("c"))
        while not gateway.seen:  # noqa: ASYNC110  # the request arrives in its own time
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_one_client_serves_one_loop_after_another():
    client = OAuthClient("http://127.0.0.1:1")

    async def once() -> str:
        async with ScriptedGateway() as gateway:
            gateway.on("GET", TOKEN, stored("at-1"))
            client._caller._url = gateway.url  # each loop has a server of its own
            return (await client.get_token("c")).access_token

    assert ["at-1"] * 3 == [asyncio.run(once()) for _ in range(3)]


async def test_tls_is_verified_and_a_private_authority_may_be_given():
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(served)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    answer = stored("at-1").body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served)
    port = server.sockets[0].getsockname()[1]
    try:
        async with OAuthClient(f"https://localhost:{port}", ssl=trusted) as oauth:
            assert "at-1" == (await oauth.get_token("c")).access_token
        # 8: a certificate for another name, and one of an unknown authority.
        for url, context in (
            (f"https://127.0.0.1:{port}", trusted),
            (f"https://localhost:{port}", None),
        ):
            async with OAuthClient(url, ssl=context) as oauth:
                with pytest.raises(TokenError, match="certificate") as caught:
                    await oauth.get_token("c")
            assert "untrusted_certificate" == caught.value.code
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
            assert caught.value.__cause__.__traceback__ is None
            assert caught.value.status is None
    finally:
        server.close()
        await server.wait_closed()


# --- The other methods ----------------------------------------------------------------------------


async def test_row_request_connection_decodes_auth_url_and_connection_id(
    gateway: ScriptedGateway, client: OAuthClient
):
    """nexus-sdk `TestRequestConnection`."""
    gateway.on(
        "POST",
        "/v1/request-connection",
        json_reply(
            '{"authUrl":"https://id.example/auth?a=1\\u0026state=CANARY-5f3a","state":"CANARY-5f3a",'
            '"scopes":["a","b"],"provider_id":"p","connection_id":"c-1"}'
        ),
    )

    made = await client.request_connection(
        user_id="u", provider_name="google", scopes=["a", "b"], return_url="https://me.example/"
    )

    assert made == ConnectionRequest(
        auth_url="https://id.example/auth?a=1&state=CANARY-5f3a",
        connection_id="c-1",
        state=CANARY,
        scopes=("a", "b"),
        provider_id="p",
    )
    assert CANARY not in repr(made)
    assert {
        "user_id": "u",
        "provider_name": "google",
        "scopes": ["a", "b"],
        "return_url": "https://me.example/",
    } == json.loads(gateway.seen[0].body)
    assert "application/json" == gateway.seen[0].headers["content-type"]


async def test_the_grpc_gateway_spells_a_connection_request_in_camel_case(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on(
        "POST",
        "/v1/request-connection",
        json_reply(
            '{"authUrl":"https://id.example/","state":"s","scopes":null,"providerId":"p",'
            '"connectionId":"c-1"}'
        ),
    )

    made = await client.request_connection(user_id="u", provider_id="p", return_url="https://me/")

    assert ("c-1", "p", ()) == (made.connection_id, made.provider_id, made.scopes)
    assert "provider_id" in json.loads(gateway.seen[0].body)


@pytest.mark.parametrize(
    "body", ["{}", '{"authUrl":"x"}', '{"authUrl":"http://[","connection_id":"c"}', "[]", ""]
)
async def test_a_connection_request_without_its_essentials_is_malformed(
    gateway: ScriptedGateway, client: OAuthClient, body: str
):
    gateway.on("POST", "/v1/request-connection", json_reply(body))

    with pytest.raises(TokenError) as caught:
        await client.request_connection(user_id="u", provider_name="p", return_url="https://me/")

    assert caught.value.malformed


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (400, '{"error":"missing_fields","message":"return_url and provider are required"}',
         400, "missing_fields"),
        (404, '{"error":"provider_not_found","message":"provider not found","provider_name":"n"}',
         404, "provider_not_found"),
        (502, '{"error":"broker_error","message":"broker returned status 400","status":400}',
         400, "broker_error"),
        (502, '{"error":"broker_unavailable","message":"broker request failed"}',
         502, "broker_unavailable"),
        (409, '{"error":"provider_ambiguous"}', 409, "provider_ambiguous"),
    ],
)  # fmt: skip
async def test_a_refused_connection_request_tells_why(
    gateway: ScriptedGateway, client: OAuthClient, status: int, body: str, expected: int, code: str
):
    gateway.on("POST", "/v1/request-connection", json_reply(body, status=status))

    with pytest.raises(TokenError) as caught:
        await client.request_connection(user_id="u", provider_name="p", return_url="https://me/")

    assert (expected, code) == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({}, ValueError),
        ({"provider_name": "a", "provider_id": "b"}, ValueError),
        ({"provider_name": ""}, ValueError),
        ({"provider_name": 3}, TypeError),
        ({"provider_name": "a", "scopes": "openid"}, TypeError),
        ({"provider_name": "a", "scopes": [1]}, TypeError),
        ({"provider_name": "a", "user_id": ""}, ValueError),
        ({"provider_name": "a", "return_url": None}, TypeError),
    ],
    ids=repr,
)
async def test_a_connection_request_that_can_t_be_right_is_not_sent(
    gateway: ScriptedGateway, client: OAuthClient, more: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        await client.request_connection(**{"user_id": "u", "return_url": "https://me/", **more})
    assert [] == gateway.seen


async def test_row_check_connection_returns_active(gateway: ScriptedGateway, client: OAuthClient):
    """nexus-sdk `TestCheckConnection`."""
    gateway.on("GET", "/v1/check-connection/c", json_reply('{"status":"active"}'))

    assert "active" == await client.check_connection("c")


@pytest.mark.parametrize("body", ['{"status":"odd"}', '{"status":3}', "{}", "", "[]"])
async def test_a_check_without_a_known_status_is_malformed(
    gateway: ScriptedGateway, client: OAuthClient, body: str
):
    gateway.on("GET", "/v1/check-connection/c", json_reply(body))

    with pytest.raises(TokenError) as caught:
        await client.check_connection("c")

    assert caught.value.malformed


async def test_row_wait_for_active_polls_through_two_pending_answers(
    gateway: ScriptedGateway, client: OAuthClient
):
    """nexus-sdk `TestWaitForActive`."""
    pending, active = json_reply('{"status":"pending"}'), json_reply('{"status":"active"}')
    gateway.on("GET", "/v1/check-connection/c", pending, pending, active)
    gateway.on("GET", TOKEN, Reply(status=403))

    await client.wait_for_active("c", interval=0.01, timeout=30)

    assert 3 == gateway.asked().count("GET /v1/check-connection/c")


async def test_a_connection_that_is_called_failed_while_it_waits_for_consent_becomes_active(
    gateway: ScriptedGateway, client: OAuthClient
):
    gateway.on("GET", "/v1/check-connection/c", json_reply('{"status":"failed"}'))
    gateway.on("GET", TOKEN, Reply(status=403), Reply(status=502), Reply(status=403), stored("a"))

    await client.wait_for_active("c", interval=0.01, timeout=30)

    assert 4 == gateway.asked().count(f"GET {TOKEN}")


async def test_waiting_for_a_broken_check_goes_on(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on(
        "GET",
        "/v1/check-connection/c",
        Reply(status=502, body=b"broker request failed: dial tcp"),
        json_reply('{"status":"active"}'),
    )

    await client.wait_for_active("c", interval=0.01, timeout=30)


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (Reply(status=409), InteractionRequired, None),
        (Reply(status=404), TokenError, 404),
        (Reply(status=400), TokenError, 400),
        (json_reply('{"error":"invalid_api_key"}', status=403), TokenError, 403),
        (json_reply("{}"), TokenError, 200),
    ],
)
async def test_waiting_ends_where_it_can_t_help(
    gateway: ScriptedGateway,
    client: OAuthClient,
    answer: Reply,
    error: type[Exception],
    status: int | None,
):
    gateway.on("GET", "/v1/check-connection/c", json_reply('{"status":"failed"}'))
    gateway.on("GET", TOKEN, answer)

    with pytest.raises(error) as caught:
        await client.wait_for_active("c", timeout=30)

    assert status == getattr(caught.value, "status", None)


async def test_waiting_ends_in_time(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on("GET", "/v1/check-connection/c", json_reply('{"status":"failed"}'))
    gateway.on("GET", TOKEN, Reply(status=403))

    with pytest.raises(TimeoutError):
        await client.wait_for_active("c", interval=0.01, timeout=0.1)


async def test_providers_are_listed(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on("GET", "/v1/providers", json_reply('{"oauth2":{"google":{"id":"p"}}}'))

    assert {"oauth2": {"google": {"id": "p"}}} == await client.providers()


@pytest.mark.parametrize("answer", [json_reply("[]"), Reply(status=500), drop])
async def test_providers_that_can_t_be_listed_are_an_error(
    gateway: ScriptedGateway, client: OAuthClient, answer: Any
):
    gateway.on("GET", "/v1/providers", answer)

    with pytest.raises(TokenError):
        await client.providers()


# --- The constructor ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example", "http://127.0.0.1.evil.example", "http://localhost@evil.example",
        "http://0.0.0.0", "http://[::ffff:10.0.0.1]", "http://[::ffff:127.0.0.1]", "http://10.0.0.1",
        "http://[::]", "http://localhost.evil.example", "http://127.1", "http://2130706433",
    ],
)  # fmt: skip
def test_7_a_plain_http_url_of_another_machine_is_refused(url: str):
    with pytest.raises(ValueError, match="base_url must"):
        OAuthClient(url)


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "http://LOCALHOST:8081/", "http://127.0.0.1", "http://127.9.9.9:1",
     "http://[::1]:8081", "https://gateway.example/a/b/"],
)  # fmt: skip
def test_7_this_machine_and_https_are_allowed(url: str):
    OAuthClient(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "gateway", "ftp://h", "ws://h", "https://", "https:///x", "//h", "https://u:CANARY@h",
        "https://CANARY@h", "https://h?t=CANARY", "https://h#CANARY", "https://h?", "https://h#",
        "https://h:CANARY", "https://h:0", "https://h:70000", "https://h CANARY", "https://h\nCANARY",
        "https://h\\CANARY", "https://[CANARY", "https://h\0", "https://h/\x7f", "https://h/\ud800",
        "https://a..CANARY", "https://\u2028CANARY", "https://h/" + 9000 * "x", "https://[v1.CANARY]",
        "http://[::1].CANARY.example", "http://[::1]CANARY", "https://" + 64 * "x",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_base_url_that_can_t_be_right_is_refused_without_showing_it(url: str):
    with pytest.raises(ValueError, match="base_url") as caught:
        OAuthClient(url)

    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None  # urllib's own error would show the URL


@pytest.mark.parametrize(
    ("more", "error", "name"),
    [
        ({"base_url": 3}, TypeError, "base_url"),
        ({"headers": {"X": f"{CANARY}\r\nY: z"}}, ValueError, "headers"),
        ({"headers": {"X": f"{CANARY}é"}}, ValueError, "headers"),
        ({"headers": {"X:": "1"}}, ValueError, "headers"),
        ({"headers": {"": "1"}}, ValueError, "headers"),
        ({"headers": {"X": 1}}, TypeError, "headers"),
        ({"headers": {"x": "1", "X": "2"}}, ValueError, "headers"),
        ({"headers": [("X", "1")]}, TypeError, "headers"),
        ({"headers": {"Host": "evil"}}, ValueError, "headers"),
        ({"headers": {"content-length": "1"}}, ValueError, "headers"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError, "headers"),
        ({"headers": {"Authorization": "x"}, "bearer": "y"}, ValueError, "headers"),
        ({"bearer": f"{CANARY}\n"}, ValueError, "bearer"),
        ({"bearer": ""}, ValueError, "bearer"),
        ({"bearer": 3}, TypeError, "bearer"),
        ({"ssl": True}, TypeError, "ssl"),
        ({"proxy": f"ftp://u:{CANARY}@h"}, ValueError, "proxy"),
        ({"proxy": f"http://u:{CANARY}"}, ValueError, "proxy"),
        ({"proxy": 3}, TypeError, "proxy"),
        ({"proxy": f"http://u:{CANARY}\ud800@h"}, ValueError, "proxy"),
        ({"proxy": f"http://u:{CANARY}@\u2028.h"}, ValueError, "proxy"),
        ({"user_agent": "a\nb"}, ValueError, "user_agent"),
        ({"user_agent": 3}, TypeError, "user_agent"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout"),
        ({"token_timeout": "3"}, TypeError, "token_timeout"),
        ({"refresh_timeout": float("inf")}, ValueError, "refresh_timeout"),
    ],
    ids=repr,
)
def test_an_argument_that_can_t_be_right_is_named_and_not_shown(
    more: dict[str, Any], error: type[Exception], name: str
):
    with pytest.raises(error, match=name) as caught:
        OAuthClient(**{"base_url": "https://h", **more})

    assert CANARY not in str(caught.value)


def test_plain_http_to_another_machine_may_be_allowed_and_warns_once():
    with pytest.warns(RuntimeWarning, match="in the clear") as warned:
        OAuthClient("http://gateway.example", allow_insecure_transport=True)

    assert 1 == len(warned)
    assert __file__ == warned[0].filename


def test_a_client_shows_its_origin_only():
    client = OAuthClient("https://h/path", headers={"X": CANARY}, bearer=f"{CANARY}2")

    assert "OAuthClient('https://h:443')" == repr(client)
    assert CANARY not in repr(client._caller)


# --- Secrets, logs, imports -----------------------------------------------------------------------


def test_httpx2_is_not_imported_with_the_package():
    code = "import sys, dromos.oauth; sys.exit('httpx2' in sys.modules or 'anyio' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


async def test_1_nothing_is_logged_by_the_http_library_about_us_and_everything_about_others(
    gateway: ScriptedGateway, client: OAuthClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    gateway.on("GET", TOKEN, stored(CANARY))
    await client.get_token("c")

    assert [] == [r for r in caplog.records if r.name.startswith(("httpx2", "httpcore2", "dromos"))]
    assert CANARY not in caplog.text

    async with httpx2.AsyncClient(trust_env=False) as theirs:
        await theirs.get(gateway.url + TOKEN)

    assert {"httpx2", "httpcore2.http11"} <= {record.name for record in caplog.records}


@pytest.mark.parametrize(
    "answer",
    [
        json_reply(f'{{"access_token":"{CANARY}\\n"}}'),
        json_reply(f'{{"access_token":"{CANARY}","token_type":"mac"}}'),
        json_reply(f'{{"error":"x","message":"the token {CANARY} is bad"}}', status=400),
        json_reply(f'{{"refresh_token":"{CANARY}"}}'),
        json_reply(f'{{"access_token":"{CANARY}"'),
        Reply(status=302, headers=(("Location", f"https://h/?t={CANARY}"),)),
        Reply(status=401, headers=(("WWW-Authenticate", f"Bearer {CANARY}"),)),
        drop,
    ],
)
async def test_3_no_failure_shows_a_secret_in_its_message_its_chain_or_its_frames(
    gateway: ScriptedGateway, answer: Any
):
    gateway.on("GET", TOKEN, answer)
    gateway.on("POST", REFRESH, answer)
    async with OAuthClient(
        gateway.url, headers={"X-Key": f"{CANARY}-h"}, bearer=f"{CANARY}-b"
    ) as oauth:
        for ask in (oauth.get_token, oauth.refresh_connection):
            with pytest.raises(TokenError) as caught:
                await ask("c")
            assert CANARY not in _everything(caught.value)


async def test_a_token_shows_no_secret(gateway: ScriptedGateway, client: OAuthClient):
    gateway.on("GET", TOKEN, stored(CANARY, refresh=f"{CANARY}-r"))

    assert CANARY not in repr(await client.get_token("c"))


def _everything(error: BaseException) -> str:
    """What a crash reporter would send: messages, chain, and the locals of our frames."""
    shown: list[str] = []
    one: BaseException | None = error
    while one is not None:
        shown += [str(one), repr(one), repr(vars(one))]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            shown += _ours(frame)
        one = one.__cause__ or one.__context__
    return "\n".join(shown)


def _ours(frame: types.FrameType) -> list[str]:
    if "/tests/" in frame.f_code.co_filename:
        return []
    return [f"{name}={value!r}" for name, value in frame.f_locals.items()]
