"""The scriptable gateway answers as the captured exchanges of the real one do."""

import asyncio
import contextlib
import json
import uuid
from datetime import datetime

import httpx2
import pytest

from dromos.model import AuthStrategy
from dromos.testing import Gateway


@pytest.fixture
async def gateway():
    async with Gateway() as gateway:
        yield gateway


@pytest.fixture
async def client(gateway):
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=5) as client:
        yield client


class Clock:
    now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


# --- Bodies, byte for byte ---------------------------------------------------------------


async def test_a_token_has_the_members_of_the_real_gateway_in_its_order():
    clock = Clock()
    async with Gateway(clock=clock) as gateway:
        record = gateway.add("c-1", extra={"scope": "a b", "custom_extra": {"k": 1}})
        async with httpx2.AsyncClient(base_url=gateway.url) as client:
            answer = await client.get("/v1/token/c-1")

    at, rt = record.token.access_token, record.refresh_token
    assert answer.content.decode() == (
        f'{{"access_token":"{at}","refresh_token":"{rt}","token_type":"Bearer",'
        f'"strategy":{{"type":"oauth2"}},"credentials":{{"access_token":"{at}",'
        f'"custom_extra":{{"k":1}},"expired":false,"expires_at":"2026-11-18T12:06:40Z",'
        f'"expires_in":3600,"refresh_token":"{rt}","scope":"a b","token_type":"Bearer"}}}}'
    )
    assert answer.headers["content-type"] == "application/json"


async def test_an_expired_token_is_served_with_200(gateway, client):
    gateway.add("c-1", lifetime=2)
    gateway.expire("c-1")

    answer = await client.get("/v1/token/c-1")

    assert answer.status_code == 200
    assert answer.json()["credentials"]["expired"] is True
    assert answer.json()["credentials"]["expires_in"] == 2


async def test_a_token_without_a_lifetime_tells_no_expiry(gateway, client):
    gateway.add("c-1", lifetime=None)

    credentials = (await client.get("/v1/token/c-1")).json()["credentials"]

    assert credentials.keys() == {"access_token", "refresh_token", "token_type"}
    assert gateway.is_valid(credentials["access_token"])
    assert gateway.expires_at(credentials["access_token"]) is None


async def test_the_expiry_may_be_told_as_a_number_as_a_string_or_not_at_all(gateway, client):
    gateway.add("number", expiry="number")
    gateway.add("string", expiry="string")
    gateway.add("absent", expiry="absent")

    number, string, absent = [
        (await client.get(f"/v1/token/{name}")).json()["credentials"]
        for name in ("number", "string", "absent")
    ]

    assert isinstance(number["expires_at"], int)
    assert "expires_in" not in number
    assert string["expires_in"] == "3600"
    assert "expires_at" not in string
    assert absent.keys() == {"access_token", "refresh_token", "token_type"}


async def test_the_expiry_may_be_told_in_another_time_zone(gateway, client):
    gateway.add("c-1", offset=3)

    body = (await client.get("/v1/token/c-1")).json()

    told = body["credentials"]["expires_at"]
    assert told.endswith("+03:00")
    expected = gateway.expires_at(body["access_token"])
    assert datetime.fromisoformat(told).timestamp() == int(expected)


async def test_a_static_connection_has_strategy_and_credentials_only(gateway, client):
    gateway.add("plain", credentials={"api_key": "k-123"})
    config = {"header_name": "X-Sig-Key", "credential_field": "api_key", "value_prefix": "Tok "}
    gateway.add(
        "shaped", credentials={"api_key": "k-9<&>"}, strategy=AuthStrategy("header", config)
    )

    plain = await client.get("/v1/token/plain")
    shaped = await client.get("/v1/token/shaped")

    assert plain.content == (
        b'{"strategy":{"config":{"credential_field":"api_key","header_name":"X-API-Key"},'
        b'"type":"header"},"credentials":{"api_key":"k-123"}}'
    )
    assert shaped.content == (
        b'{"strategy":{"config":{"credential_field":"api_key","header_name":"X-Sig-Key",'
        b'"value_prefix":"Tok "},"type":"header"},'
        b'"credentials":{"api_key":"k-9\\u003c\\u0026\\u003e"}}'
    )
    assert (await client.post("/v1/refresh/plain")).status_code == 400
    assert gateway.is_valid("k-123")


async def test_static_credentials_with_a_numeric_lifetime_expire(gateway, client):
    gateway.add("c-1", credentials={"api_key": "k-1", "expires_in": 60})

    credentials = (await client.get("/v1/token/c-1")).json()["credentials"]

    assert credentials.keys() == {"api_key", "expired", "expires_at", "expires_in"}
    gateway.expire("c-1")
    assert not gateway.is_valid("k-1")


async def test_a_refresh_tells_neither_expiry_nor_strategy_nor_credentials(gateway, client):
    record = gateway.add("c-1")
    first = record.token.access_token

    answer = await client.post("/v1/refresh/c-1")

    at, rt = record.token.access_token, record.refresh_token
    assert answer.content.decode() == (
        f'{{"access_token":"{at}","refresh_token":"{rt}","token_type":"Bearer"}}'
    )
    assert at != first
    assert gateway.is_valid(first), "a token lives on beside its successor"
    assert (1, 1) == (gateway.refreshes, gateway.count("refresh"))


async def test_a_provider_that_does_not_rotate_can_be_refreshed_once(gateway, client):
    record = gateway.add("c-1", rotate=False)

    first = await client.post("/v1/refresh/c-1")
    second = await client.post("/v1/refresh/c-1")

    assert first.json() == {
        "access_token": record.token.access_token,
        "token_type": "Bearer",
    }
    assert (400, b"") == (second.status_code, second.content)


# --- Statuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "token", "refresh"),
    [("pending", 403, 404), ("failed", 403, 404), ("attention", 409, 404), ("active", 200, 200)],
)
async def test_each_state_has_its_statuses(gateway, client, status, token, refresh):
    gateway.add("c-1", status=status)

    assert (await client.get("/v1/token/c-1")).status_code == token
    assert (await client.post("/v1/refresh/c-1")).status_code == refresh
    checked = await client.get("/v1/check-connection/c-1")
    assert checked.json() == {"status": "active" if status == "active" else "failed"}


async def test_what_is_unknown_is_told_apart_by_status_and_body(gateway, client):
    unknown = await client.get(f"/v1/token/{uuid.uuid4()}")
    no_uuid = await client.get("/v1/token/not-a-uuid")
    no_route = await client.get("/v1/token/")
    wrong_method = await client.post("/v1/token/c-1")

    assert (404, b"") == (unknown.status_code, unknown.content)
    assert unknown.headers["content-length"] == "0"
    assert (400, b"") == (no_uuid.status_code, no_uuid.content)
    assert (404, b"404 page not found\n") == (no_route.status_code, no_route.content)
    assert no_route.headers["content-type"] == "text/plain; charset=utf-8"
    assert (405, b"") == (wrong_method.status_code, wrong_method.content)


async def test_it_is_healthy_and_lists_providers(gateway, client):
    assert (await client.get("/health")).content == b'{"status":"healthy"}'
    providers = (await client.get("/v1/providers")).json()
    assert "id" in providers["oauth2"]["demo"]
    assert providers == (await client.get("/v1/providers/metadata")).json()


async def test_a_connection_can_be_requested_and_is_pending(gateway, client):
    ask = {"user_id": "u", "provider_name": "DEMO", "return_url": "http://127.0.0.1:9/cb"}

    answer = (await client.post("/v1/request-connection", json=ask)).json()

    assert list(answer) == ["authUrl", "state", "scopes", "provider_id", "connection_id"]
    assert (await client.get(f"/v1/token/{answer['connection_id']}")).status_code == 403
    gateway.set_status(answer["connection_id"], "active")
    assert (await client.get(f"/v1/token/{answer['connection_id']}")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"{}", 400, '{"error":"missing_fields","message":"return_url and provider are required"}'),
        (b"not JSON", 400, '{"error":"invalid_json","message":"invalid json"}'),
        (b"[]", 400, '{"error":"invalid_json","message":"invalid json"}'),
        (
            b'{"provider_name":"nope","return_url":"x"}',
            404,
            '{"error":"provider_not_found","message":"provider not found","provider_name":"nope"}',
        ),
        (
            b'{"provider_name":"demo","return_url":"x"}',
            502,
            '{"error":"broker_error","message":"broker returned status 400","status":400}',
        ),
    ],
)
async def test_a_wrong_request_for_a_connection_is_refused_in_words(client, body, status, expected):
    answer = await client.post("/v1/request-connection", content=body)

    assert (status, expected) == (answer.status_code, answer.text)


async def test_two_providers_of_one_name_are_ambiguous(gateway, client):
    gateway.providers["api_key"]["demo"] = {"id": "other"}
    ask = {"user_id": "u", "provider_name": "demo", "return_url": "x"}

    assert (await client.post("/v1/request-connection", json=ask)).status_code == 409


# --- The destructive race ----------------------------------------------------------------


async def test_two_refreshes_at_once_destroy_the_connection_for_everyone(client, gateway):
    gateway.refresh_takes = 0.2
    record = gateway.add("c-1")

    answers = await asyncio.gather(*(client.post("/v1/refresh/c-1") for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert record.status == "attention"
    assert (await client.get("/v1/token/c-1")).status_code == 409
    assert (await client.post("/v1/refresh/c-1")).status_code == 404


async def test_refreshes_one_after_the_other_do_no_harm(client, gateway):
    gateway.add("c-1")

    assert [200, 200] == [(await client.post("/v1/refresh/c-1")).status_code for _ in range(2)]


# --- Tokens, as the far side sees them -----------------------------------------------------


async def test_a_token_is_valid_until_it_expires_by_the_injected_clock():
    clock = Clock()
    gateway = Gateway(clock=clock)
    gateway.add("c-1", lifetime=8)
    token = gateway.access_token("c-1")

    assert gateway.expires_at(token) == clock.now + 8
    assert gateway.is_valid(token)
    clock.now += 8
    assert not gateway.is_valid(token)
    assert not gateway.is_valid("never issued")


async def test_a_revoked_token_is_still_handed_out_and_a_refresh_heals_it(gateway, client):
    gateway.add("c-1")
    gateway.revoke("c-1")

    revoked = (await client.get("/v1/token/c-1")).json()["access_token"]
    fresh = (await client.post("/v1/refresh/c-1")).json()["access_token"]

    assert (False, True) == (gateway.is_valid(revoked), gateway.is_valid(fresh))


async def test_another_client_can_have_renewed_the_token(gateway, client):
    gateway.add("c-1", revokes_old=True)
    old = gateway.access_token("c-1")

    renewed = gateway.rotate_now("c-1")

    assert renewed == (await client.get("/v1/token/c-1")).json()["access_token"]
    assert not gateway.is_valid(old)


# --- Canned answers ------------------------------------------------------------------------


async def test_canned_answers_are_used_up_in_order_and_per_route(gateway, client):
    gateway.add("c-1")
    gateway.fail("token", next=2, status=503, headers={"Retry-After": "3"}, body="<html>busy")
    gateway.fail("token", status=429)
    gateway.fail("token", status=302, headers={"Location": "http://127.0.0.1:9/"})

    assert (await client.post("/v1/refresh/c-1")).status_code == 200
    statuses = [(await client.get("/v1/token/c-1")) for _ in range(5)]

    assert [503, 503, 429, 302, 200] == [answer.status_code for answer in statuses]
    assert statuses[0].headers["retry-after"] == "3"
    assert statuses[0].text == "<html>busy"
    assert len(gateway.requests) == 6


async def test_a_canned_mapping_is_sent_as_json_and_healing_ends_the_script(gateway, client):
    gateway.fail(next=None, status=502, body={"error": "broker_unavailable"})

    first = await client.get("/health")
    again = await client.get("/health")
    gateway.heal()

    assert first.json() == again.json() == {"error": "broker_unavailable"}
    assert (await client.get("/health")).status_code == 200


async def test_a_connection_may_be_closed_reset_or_answered_with_rubbish(gateway, client):
    gateway.fail(nothing=True)
    gateway.fail(reset=True)
    gateway.fail(raw=b"\x00\x01 this is no HTTP\r\n\r\n")

    for kind in (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.RemoteProtocolError):
        with pytest.raises(kind):
            await client.get("/health")
    assert (await client.get("/health")).status_code == 200


async def test_an_answer_may_never_come(gateway):
    gateway.fail(hang=True)

    async with httpx2.AsyncClient(timeout=0.2) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(f"{gateway.url}/health")


async def test_an_answer_may_come_late_and_a_byte_at_a_time(gateway, client):
    gateway.fail(hang=0.01, drip=0.0)

    assert (await client.get("/health")).json() == {"status": "healthy"}


async def test_a_body_may_never_end(gateway, client):
    gateway.fail(status=200, body=b"x" * 100, endless=True)
    size = 0

    async with client.stream("GET", "/health") as answer:
        async for part in answer.aiter_raw():
            size += len(part)
            if size > 2**18:
                break

    assert size > 2**18


async def test_a_refresh_may_happen_and_its_answer_be_lost(gateway, client):
    gateway.add("c-1")
    gateway.fail("refresh", reset=True, after=True)

    with pytest.raises(httpx2.ReadError):
        await client.post("/v1/refresh/c-1")

    assert gateway.refreshes == 1
    assert (await client.get("/v1/token/c-1")).status_code == 200


def test_a_script_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="at most one of"):
        Gateway().fail(status=500, reset=True)


# --- Life ------------------------------------------------------------------------------------


async def test_it_can_be_stopped_and_started_on_the_same_port(gateway):
    url = gateway.url
    await gateway.stop()
    assert not gateway.is_running
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{url}/health")

    await gateway.start()

    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{url}/health")).status_code == 200


async def test_waiting_for_what_never_happens_says_so(gateway):
    with pytest.raises(TimeoutError, match=r"not true within 0\.01 s; <Gateway"):
        await gateway.wait_for(lambda: False, timeout=0.01)


async def test_requests_can_be_awaited(gateway, client):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.wait_for(lambda: gateway.count("health") == 1))
        await client.get("/health", headers={"X-Request-Id": "r-1"})

    request = gateway.requests[0]
    assert ("GET", "/health", "r-1") == (
        request.method,
        request.path,
        request.headers["x-request-ID"],
    )


def test_it_runs_on_a_thread_for_callers_without_a_loop():
    with Gateway().threaded() as gateway:
        gateway.add("c-1")
        answer = httpx2.get(f"{gateway.url}/v1/token/c-1").json()
        gateway.run(gateway.wait_for(lambda: gateway.requests))

    assert answer["access_token"] == gateway.access_token("c-1")
    assert not gateway.is_running


async def test_what_is_not_http_is_dropped(gateway, client):
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()

    assert (await client.get("/health")).status_code == 200
    assert gateway.errors == []


async def test_a_body_arrives_whole(gateway, client):
    await client.post("/v1/refresh/c-1", content=json.dumps({"a": 1}))

    assert gateway.requests[0].body == b'{"a": 1}'


async def test_a_client_that_asks_leave_to_send_its_body_gets_it(gateway):
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n")
    writer.write(b"Expect: 100-continue\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b"{}")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 Not Found\r\n")
    writer.close()

    assert gateway.requests[0].body == b"{}"


async def test_a_status_without_a_name_is_sent_without_one(gateway, client):
    gateway.fail(status=599)

    assert (await client.get("/health")).status_code == 599


def test_a_thread_whose_port_is_taken_says_so():
    with (
        Gateway().threaded() as first,
        pytest.raises(OSError, match="address already in use"),
        Gateway(port=first.port).threaded(),
    ):
        pass


def test_without_a_thread_nothing_can_be_run():
    gateway = Gateway()

    work = gateway.wait_for(lambda: True)
    with pytest.raises(RuntimeError, match="not running"):
        gateway.run(work)
    work.close()


async def test_it_listens_on_ipv6():
    async with Gateway(host="::1") as gateway, httpx2.AsyncClient() as client:
        assert gateway.url.startswith("http://[::1]:")
        assert (await client.get(f"{gateway.url}/health")).status_code == 200
