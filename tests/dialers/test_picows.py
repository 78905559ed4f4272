"""Dialling with picows: what can go wrong before a link is open, and what must not show."""

import asyncio
import gc
import logging
import ssl
import traceback
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest
import trustme
from tests.dialers.cancelling import cancel_a_dial, never_answer, open_sockets
from tests.dialers.loopback import TEXT, Peer, close_frame, frame, serving, upgrade
from tests.dialers.recorder import Recorder

from dromos.dialers import PicowsDialer
from dromos.errors import HandshakeError, PermanentError
from dromos.interfaces import Limits
from dromos.model import Handshake

CANARY = "canary-5f0c-secret"


@pytest.fixture(autouse=True)
async def no_socket_is_left() -> Any:
    before = open_sockets()
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    gc.collect()
    assert before == open_sockets()


async def refusal(
    answer: bytes, *, dialer: PicowsDialer | None = None, stay: bool = False, path: str = "/"
) -> HandshakeError:
    """Answer the upgrade with these bytes; return what the dial raised."""

    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(answer)
        if stay:
            await peer.ended()

    async with serving(serve) as port:
        handshake = Handshake(url=f"ws://127.0.0.1:{port}{path}")
        with pytest.raises(HandshakeError) as caught:
            await (dialer or PicowsDialer(open_timeout=5)).dial(handshake, Recorder(), Limits())
    assert caught.value.__context__ is None
    return caught.value


# Answers that are no upgrade


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 407, 409, 426, 429, 500, 502, 503])
async def test_a_status_other_than_101_is_told(status: int) -> None:
    answer = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 6\r\nX-Why: because\r\n\r\nsorry!"

    error = await refusal(answer.encode(), stay=True)

    assert status == error.status
    assert "because" == error.headers["x-why"] == error.headers["X-Why"]
    assert b"sorry!" == error.body
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [299, 499, 520, 525, 599])
async def test_a_status_without_a_name_is_told_too(status: int) -> None:
    error = await refusal(f"HTTP/1.1 {status} \r\nRetry-After: 7\r\n\r\n".encode(), stay=True)

    assert (status, 7.0) == (error.status, error.retry_after)


@pytest.mark.parametrize("head", ["HTTP/1.0 503 Busy", "HTTP/1.1 503", "HTTP/2 503 "])
async def test_a_status_in_another_version_of_http_is_told_too(head: str) -> None:
    error = await refusal(f"{head}\r\nServer: old\r\n\r\n".encode(), stay=True)

    assert (503, "old") == (error.status, error.headers["server"])


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
        b"HTTP/1.1 abc Hm\r\n\r\n",
        b"\r\n\r\n",
        b"\xff" * 100 + b"\r\n\r\n",
        b"x" * 100_000,
    ],
)
async def test_what_is_not_http_is_said_to_be_that(answer: bytes) -> None:
    error = await refusal(answer, stay=True)

    assert error.status is None
    assert "did not answer in HTTP/1.1" in str(error)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switch", b"HTTP/1.1 401 No\r\nX: y\r\n"])
async def test_an_end_before_the_answer_is_said_to_be_that(answer: bytes) -> None:
    error = await refusal(answer)

    assert "hung up before it answered" in str(error)


async def test_an_endless_head_is_given_up() -> None:
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            peer.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
            await peer.writer.drain()

    async with serving(serve) as port:
        with pytest.raises(HandshakeError, match="200"):
            await PicowsDialer(open_timeout=5).dial(
                Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits()
            )


async def test_of_an_endless_body_one_kibibyte_is_kept() -> None:
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 3000)
        while True:
            peer.write(b"x" * 60_000)
            await peer.writer.drain()

    async with serving(serve) as port:
        with pytest.raises(HandshakeError) as caught:
            await PicowsDialer(open_timeout=5).dial(
                Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits()
            )

    assert b"x" * 1024 == caught.value.body


async def test_a_chunked_body_is_put_together() -> None:
    error = await refusal(
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n",
        stay=True,
    )

    assert b"hello, world" == error.body


async def test_a_server_that_says_nothing_costs_the_whole_budget_and_no_more() -> None:
    error = await refusal(b"", stay=True, dialer=PicowsDialer(open_timeout=0.1))

    assert "took over 0.1 s" in str(error)
    assert error.__cause__ is None


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "origin"),
    [
        (f"https://login.example:444/sso?token={CANARY}", "https://login.example:444"),
        (f"wss://user:{CANARY}@other.example/{CANARY}", "wss://other.example"),
        (f"//other.example/?a={CANARY}", "ws://other.example"),
        (f"http://[bad{CANARY}", "<redacted>"),
    ],
)
async def test_a_redirect_is_refused_and_names_the_origin_only(
    status: int, location: str, origin: str
) -> None:
    error = await refusal(
        f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n\r\n".encode(), stay=True
    )

    assert status == error.status
    assert f"a redirect to {origin}, which is not followed" in str(error)
    assert origin == error.headers["location"]


# Upgrades that are not good


def spoilt(*, drop: str = "", more: tuple[str, ...] = (), accept: str | None = None) -> Any:
    async def serve(peer: Peer) -> None:
        lines = upgrade(await peer.read_request(), *more).decode().split("\r\n")
        lines = [line for line in lines if not drop or not line.startswith(drop)]
        if accept is not None:
            lines[-2:-2] = [f"Sec-WebSocket-Accept: {accept}"]
        peer.write("\r\n".join(lines).encode())
        await peer.ended()

    return serve


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"drop": "Sec-WebSocket-Accept"}, "Sec-WebSocket-Accept", id="no accept"),
        pytest.param(
            {"drop": "Sec-WebSocket-Accept", "accept": "c2hhZG93"},
            "Sec-WebSocket-Accept",
            id="wrong accept",
        ),
        pytest.param({"drop": "Upgrade"}, "Upgrade", id="no upgrade"),
        pytest.param({"drop": "Connection"}, "Connection", id="no connection"),
        pytest.param({"more": ("Sec-WebSocket-Protocol: chat",)}, "subprotocol", id="foreign"),
        pytest.param({"more": ("Sec-WebSocket-Protocol: v1, v2",)}, "subprotocol", id="two"),
        pytest.param(
            {"more": ("Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2")},
            "subprotocol",
            id="twice",
        ),
        pytest.param(
            {"more": ("Sec-WebSocket-Extensions: permessage-deflate",)}, "extension", id="deflate"
        ),
        pytest.param({"more": ("Content-Length: 5",)}, "Content-Length", id="a body"),
        pytest.param({"more": ("Folded: a", " b")}, "malformed", id="folded"),
    ],
)
async def test_a_bad_upgrade_is_refused(change: dict[str, Any], why: str) -> None:
    dialer = PicowsDialer(subprotocols=["v1", "v2"], open_timeout=5)
    async with serving(spoilt(**change)) as port:
        with pytest.raises(HandshakeError, match=why) as caught:
            await dialer.dial(Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits())

    assert 101 == caught.value.status


@pytest.mark.parametrize("chosen", [("Sec-WebSocket-Protocol: v2",), ()])
async def test_one_of_the_offered_subprotocols_or_none_is_good(chosen: tuple[str, ...]) -> None:
    async with serving(spoilt(more=chosen)) as port:
        recorder = Recorder()
        link = await PicowsDialer(subprotocols=["v1", "v2"]).dial(
            Handshake(url=f"ws://127.0.0.1:{port}"), recorder, Limits()
        )
        link.abort()
        await recorder.closed()


# What is sent


async def sent(dialer: PicowsDialer, handshake: Handshake) -> list[str]:
    """Return the lines of the request that the dialer sends."""
    requests: list[bytes] = []

    async def serve(peer: Peer) -> None:
        requests.append(await peer.read_request())
        peer.write(upgrade(requests[0]))
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        url = handshake.url.replace("PORT", str(port))
        link = await dialer.dial(handshake.with_url(url), recorder, Limits())
        link.abort()
        await recorder.closed()
        return requests[0].decode().replace(str(port), "PORT").split("\r\n")


async def test_the_request_holds_what_was_asked_for() -> None:
    dialer = PicowsDialer(
        headers={"X-Own": "1", "authorization": "replaced"},
        subprotocols=("v1", "v2"),
        origin="https://agent.example",
        user_agent="agent/7",
    )
    handshake = Handshake(
        url="ws://localhost:PORT/a/b;c?d=é&e=%20",
        headers=(("Authorization", "Bearer t"),),
        subprotocols=("token.abc", "v1"),
    )

    first, *lines = await sent(dialer, handshake)

    assert "GET /a/b;c?d=%C3%A9&e=%20 HTTP/1.1" == first
    assert {
        "Host: localhost:PORT",
        "Authorization: Bearer t",
        "X-Own: 1",
        "Origin: https://agent.example",
        "User-Agent: agent/7",
        "Sec-WebSocket-Protocol: token.abc, v1, v2",
        "Sec-WebSocket-Version: 13",
    } <= set(lines)
    assert 1 == sum(line.lower().startswith("authorization") for line in lines)
    assert not any("extensions" in line.lower() for line in lines)


async def test_by_default_the_user_agent_is_ours_and_there_is_no_origin() -> None:
    _, *lines = await sent(PicowsDialer(), Handshake(url="ws://127.0.0.1:PORT"))

    assert any(line.startswith("User-Agent: dromos") for line in lines)
    assert not any(line.startswith("Origin") for line in lines)


async def test_an_own_user_agent_may_come_as_a_header_or_not_at_all() -> None:
    handshake = Handshake(url="ws://127.0.0.1:PORT")

    own = await sent(PicowsDialer(headers=[("user-agent", "mine")]), handshake)
    none = await sent(PicowsDialer(user_agent=None), handshake)

    assert ["user-agent: mine"] == [line for line in own if "agent" in line.lower()]
    assert [] == [line for line in none if "agent" in line.lower()]


# What can't be sent


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ssl": True}, TypeError),
        ({"proxy": 7}, TypeError),
        ({"proxy": "ftp://h"}, ValueError),
        ({"proxy": "socks5h://h"}, ValueError),
        ({"proxy": "http://"}, ValueError),
        ({"proxy": f"http://u:{CANARY}@h:99999"}, ValueError),
        ({"proxy": f"http://u:{CANARY}\r\n@h:1"}, ValueError),
        ({"headers": {"X": f"{CANARY}\r\nY: z"}}, ValueError),
        ({"headers": {"X": f"{CANARY}\0"}}, ValueError),
        ({"headers": {"X": f"{CANARY}✓"}}, ValueError),
        ({"headers": {f"X {CANARY}": "y"}}, ValueError),
        ({"headers": {"": "y"}}, ValueError),
        ({"headers": {"Host": "h"}}, ValueError),
        ({"headers": {"connection": "close"}}, ValueError),
        ({"headers": {"Upgrade": "h2c"}}, ValueError),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, ValueError),
        ({"headers": {"sec-websocket-protocol": "x"}}, ValueError),
        ({"headers": {"Content-Length": "5"}}, ValueError),
        ({"headers": {"X": 7}}, TypeError),
        ({"headers": ["X"]}, TypeError),
        ({"subprotocols": "v1"}, TypeError),
        ({"subprotocols": [7]}, TypeError),
        ({"subprotocols": [f"{CANARY} v1"]}, ValueError),
        ({"origin": "a\nb"}, ValueError),
        ({"origin": "a", "headers": {"origin": "b"}}, ValueError),
        ({"user_agent": "a\nb"}, ValueError),
        ({"open_timeout": 0}, ValueError),
        ({"open_timeout": "5"}, TypeError),
        ({"happy_eyeballs_delay": 0}, ValueError),
    ],
)
async def test_a_wrong_option_is_refused_by_name(
    options: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = list(options)[:1]

    with pytest.raises(error, match=name) as caught:
        PicowsDialer(**options)

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "handshake",
    [
        Handshake(url=f"https://h/{CANARY}"),
        Handshake(url=f"ws:///{CANARY}"),
        Handshake(url=f"ws://h:port/{CANARY}"),
        Handshake(url=f"ws://h:0/{CANARY}"),
        Handshake(url=f"ws://h:99999/{CANARY}"),
        Handshake(url=f"ws://u:{CANARY}@h/"),
        Handshake(url=f"ws://h/#{CANARY}"),
        Handshake(url=f"ws://h/{CANARY} x"),
        Handshake(url=f"ws://h/{CANARY}\r\nX: y"),
        Handshake(url=f"ws://[h/{CANARY}"),
        Handshake(url=f"ws://{'ü' * 70}.example/{CANARY}"),
        Handshake(url="ws://h/", headers=(("Authorization", f"Bearer {CANARY}\n"),)),
        Handshake(url="ws://h/", headers=((f"{CANARY}:", "x"),)),
        Handshake(url="ws://h/", subprotocols=(f"a b {CANARY}",)),
        Handshake(url=7),  # type: ignore[arg-type]
    ],
)
async def test_a_handshake_that_cannot_be_sent_is_permanent(handshake: Handshake) -> None:
    with pytest.raises(PermanentError) as caught:
        await PicowsDialer().dial(handshake, Recorder(), Limits())

    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


# Secrets


def everything_about(error: BaseException) -> Iterator[str]:
    """Yield all that a log, a debugger or a crash reporter would show."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "".join(shown.format())
    yield repr(vars(error))
    for chained in (error.__cause__, error.__context__):
        if chained is not None:
            yield from everything_about(chained)


SECRET_HANDSHAKE_ANSWERS = [
    f"HTTP/1.1 401 No {CANARY}\r\nSet-Cookie: session={CANARY}\r\n"
    f'WWW-Authenticate: Bearer error_description="bad {CANARY}"\r\n\r\n'
    f"token {CANARY} is invalid, and so is query%2Dsecret%2D2 or query-secret-2",
    f"HTTP/1.1 401 No\r\nSet-Cookie {CANARY}\r\n\r\n",
    f"HTTP/1.1 401 No\r\nX-{CANARY}\x01: {CANARY}\r\n\r\n",
    f"HTTP/1.1 302 No\r\nLocation: /again?access_token={CANARY}\r\n\r\n",
    f"{CANARY}\r\n\r\n",
    f"HTTP/1.1 {CANARY}\r\n\r\n",
    f"HTTP/1.1 101 OK\r\nUpgrade: {CANARY}\r\n\r\n",
    f"HTTP/1.1 500 Oops\r\n\r\n{CANARY[:-3]}",
    f"HTTP/1.1 503 No\r\nX-Echo: Bearer {CANARY}\r\nX-Api-Key: other\r\n\r\n",
]


async def test_no_chained_error_or_frame_shows_the_request() -> None:
    async with serving(lambda peer: peer.ended()) as port:  # type: ignore[arg-type, return-value]
        pass

    handshake = Handshake(
        url=f"ws://127.0.0.1:{port}/?token={CANARY}", headers=(("Authorization", CANARY),)
    )
    with pytest.raises(HandshakeError) as caught:
        await PicowsDialer().dial(handshake, Recorder(), Limits())

    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    assert error.__cause__ is not None
    for shown in everything_about(error):
        assert CANARY not in shown


async def test_no_frame_of_a_cancelled_dial_shows_the_request() -> None:
    async def serve(peer: Peer) -> None:
        await peer.read_request()
        dial.cancel()
        await peer.ended()

    async def run(handshake: Handshake) -> None:
        await PicowsDialer().dial(handshake, Recorder(), Limits())

    async with serving(serve) as port:
        dial = asyncio.create_task(run(Handshake(url=f"ws://127.0.0.1:{port}/?{CANARY}")))
        with pytest.raises(asyncio.CancelledError) as caught:
            await dial

    for shown in everything_about(caught.value):
        assert CANARY not in shown.replace(repr(CANARY), "")


@pytest.mark.parametrize("answer", SECRET_HANDSHAKE_ANSWERS)
async def test_no_error_or_log_shows_what_the_far_side_echoes(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    for name in ("picows", "picows.client", "aiofastnet", "asyncio"):
        logging.getLogger(name).setLevel(1)

    async def serve(peer: Peer) -> None:
        await peer.read_request()
        peer.write(answer.encode())
        await peer.ended()

    async with serving(serve) as port:
        handshake = Handshake(
            url=f"ws://127.0.0.1:{port}/p?token={CANARY}&b=query-secret-2",
            headers=(("Authorization", f"Bearer {CANARY}"), ("Cookie", f"a=1; sid={CANARY}")),
        )
        with pytest.raises(HandshakeError) as caught:
            await PicowsDialer(open_timeout=5).dial(handshake, Recorder(), Limits())

    error = caught.value
    # Our test's own frames hold the canary; those of the library start at `dial`.
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    for shown in everything_about(error):
        assert CANARY not in shown
        assert CANARY[:-3] not in shown
        assert "query-secret-2" not in shown
    assert CANARY not in caplog.text
    assert "other" not in repr(error.headers)


async def test_an_open_link_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)

    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.write(frame(TEXT, CANARY.encode()))
        await peer.read_frame()
        peer.write(close_frame(4000, CANARY.encode()))
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        handshake = Handshake(
            url=f"ws://127.0.0.1:{port}/?{CANARY}", headers=(("Authorization", CANARY),)
        )
        link = await PicowsDialer(headers={"X-Key": CANARY}).dial(handshake, recorder, Limits())
        link.send(CANARY)
        await recorder.closed()

    assert CANARY not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("picows")]
    assert CANARY not in repr(link)


async def test_a_dialers_repr_shows_no_secret() -> None:
    dialer = PicowsDialer(headers={"X-Key": CANARY}, proxy=f"http://u:{CANARY}@h:1")

    assert CANARY not in repr(dialer)


# Time


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Retry-After: 120", 120.0),
        ("Retry-After: 0", 0.0),
        ("Retry-After: 99999", 3600.0),
        ("Retry-After: " + "9" * 5000, 3600.0),
        ("Retry-After: -5", None),
        ("Retry-After: soon", None),
        ("Retry-After: 1.5", None),
        ("Retry-After: ٣", None),
        ("Retry-After: ", None),
        ("X: y", None),
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:37 GMT",
            60.0,
        ),
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:48:37 GMT",
            None,
        ),
        ("Date: rubbish\r\nRetry-After: Sun, 06 Nov 1994 08:48:37 GMT", None),
        ("Retry-After: Sun, 06 Nov 2094 08:49:37 GMT", 3600.0),
        ("Retry-After: Sun, 06 Nov 99999 08:49:37 GMT", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(headers: str, expected: float | None) -> None:
    error = await refusal(f"HTTP/1.1 503 Busy\r\n{headers}\r\n\r\n".encode(), stay=True)

    assert expected == error.retry_after


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_link_over_tls_works_as_any_other(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.write(frame(TEXT, b"hello"))
        _, payload, _ = await peer.read_frame()
        peer.write(frame(TEXT, payload) + close_frame(4000, b"bye") + frame(TEXT, b"late") * 99)
        await peer.ended()

    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        recorder = Recorder()
        link = await PicowsDialer(ssl=client_context(authority)).dial(
            Handshake(url=f"wss://localhost:{port}"), recorder, Limits()
        )
        link.send("x" * 100_000)
        assert (4000, "bye", True) == await recorder.closed()

    assert ["hello", "x" * 100_000] == recorder.messages


async def test_abort_over_tls_is_at_once(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.get_running_loop().create_future()

    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        recorder = Recorder()
        link = await PicowsDialer(ssl=client_context(authority)).dial(
            Handshake(url=f"wss://localhost:{port}"), recorder, Limits()
        )
        while not recorder.all("pause_writing"):
            link.send(bytes(65536))
        link.pause_reading()
        link.close()
        link.abort()
        assert (1006, "aborted", False) == await recorder.closed()


async def test_a_tls_peer_that_never_says_goodbye_is_not_waited_for(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dromos.dialers.picows.LINGER", 60)
    monkeypatch.setattr("dromos.dialers._link.LINGER", 60)

    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.write(close_frame(1001))
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.get_running_loop().create_future()

    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        recorder = Recorder()
        await PicowsDialer(ssl=client_context(authority)).dial(
            Handshake(url=f"wss://localhost:{port}"), recorder, Limits()
        )
        assert (1001, "", True) == await recorder.closed()


@pytest.mark.parametrize("names", [("other.example",), ("127.0.0.9",)])
async def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, names: tuple[str, ...]
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()

    async with serving(serve, tls=server_context(authority, *names)) as port:
        with pytest.raises(HandshakeError, match="certificate was refused") as caught:
            await PicowsDialer(ssl=client_context(authority)).dial(
                Handshake(url=f"wss://localhost:{port}"), Recorder(), Limits()
            )

    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_certificate_of_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()

    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        with pytest.raises(HandshakeError, match="certificate was refused") as caught:
            await PicowsDialer().dial(
                Handshake(url=f"wss://localhost:{port}"), Recorder(), Limits()
            )

    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_tls_to_a_server_without_it_fails() -> None:
    async def serve(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.ended()

    async with serving(serve) as port:
        with pytest.raises(HandshakeError, match="TLS failed"):
            await PicowsDialer(open_timeout=5).dial(
                Handshake(url=f"wss://localhost:{port}"), Recorder(), Limits()
            )


# Cancellation


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("turns", [*range(12), 20, 40])
async def test_a_dial_can_be_cancelled_at_every_stage(
    tls: bool, turns: int, authority: trustme.CA
) -> None:
    context = server_context(authority, "127.0.0.1") if tls else None
    dialer = PicowsDialer(ssl=client_context(authority))
    async with serving(never_answer, tls=context) as port:
        await cancel_a_dial(dialer, f"{'wss' if tls else 'ws'}://127.0.0.1:{port}", turns)


async def test_a_cancelled_tls_handshake_that_hangs_leaves_no_socket(
    authority: trustme.CA,
) -> None:
    arrived = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.reader.read(1)
        arrived.set()
        await peer.ended()

    async with serving(serve) as port:
        dial = asyncio.create_task(
            PicowsDialer().dial(Handshake(url=f"wss://127.0.0.1:{port}"), Recorder(), Limits())
        )
        await arrived.wait()
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial


async def test_a_listener_hears_nothing_of_a_link_that_dial_did_not_return() -> None:
    """The upgrade is answered in the very turn in which the dial is cancelled."""
    accepted = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.accept()
        accepted.set()
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        dial = asyncio.create_task(
            PicowsDialer().dial(Handshake(url=f"ws://127.0.0.1:{port}"), recorder, Limits())
        )
        await accepted.wait()
        dial.cancel()
        try:
            link = await dial
        except asyncio.CancelledError:
            assert [] == recorder.all("closed")
        else:
            link.abort()
            await recorder.closed()


# Everything else that a dial can meet


async def test_a_refused_connection_is_a_handshake_error_with_its_cause() -> None:
    async with serving(lambda peer: peer.ended()) as port:  # type: ignore[arg-type, return-value]
        pass

    with pytest.raises(HandshakeError, match="ConnectionRefusedError") as caught:
        await PicowsDialer().dial(
            Handshake(url=f"ws://127.0.0.1:{port}/{CANARY}"), Recorder(), Limits()
        )

    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert CANARY not in str(caught.value)


async def test_whatever_an_engine_raises_fails_that_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise TypeError(f"unexpected {CANARY}")

    monkeypatch.setattr("dromos.dialers.picows.ws_connect", broken)
    with pytest.raises(HandshakeError, match="TypeError: unexpected <redacted>") as caught:
        await PicowsDialer().dial(
            Handshake(url="ws://127.0.0.1:9", headers=(("X-Key", CANARY),)), Recorder(), Limits()
        )

    assert caught.value.__cause__ is None, "it holds a secret"


async def test_a_second_address_is_tried_when_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        await peer.ended()

    async with serving(serve) as port:
        dialer = PicowsDialer()

        async def resolve(host: str, port: int) -> list[Any]:
            return [(2, 1, 6, "", ("127.0.0.99", port)), (2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(dialer._resolver, "resolve", resolve)
        recorder = Recorder()
        link = await dialer.dial(Handshake(url=f"ws://two.example:{port}"), recorder, Limits())
        link.abort()
        await recorder.closed()


# What stays behind


async def test_an_open_link_keeps_its_credentials_in_one_spelling_only() -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        await peer.ended()

    value = f"Bearer {CANARY}"
    async with serving(serve) as port:
        headers = (("Authorization", value),)
        handshake = Handshake(url=f"ws://127.0.0.1:{port}/", headers=headers)
        recorder = Recorder()
        link = await PicowsDialer().dial(handshake, recorder, Limits())
        del handshake, headers

        kept = [text for text in held_by(link) if CANARY in str(text)]

        link.abort()
        await recorder.closed()
    assert [value] == kept


def held_by(thing: object) -> list[str | bytes]:
    """Every text that is kept as long as a thing is; the loop and classes are everybody's."""
    texts: list[str | bytes] = []
    seen = {id(asyncio.get_running_loop())}
    unseen = [thing]
    while unseen:
        each = unseen.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType):
            continue
        seen.add(id(each))
        if isinstance(each, str | bytes):
            texts.append(each)
        unseen += gc.get_referents(each)
    return texts
