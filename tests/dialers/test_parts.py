"""What the dialer is made of, where a link can't show it."""

import pickle
import socket
import sys
from typing import Any

import pytest
from tests.dialers.loopback import TEXT, Peer, frame, serving
from tests.dialers.recorder import Recorder

from dromos import dialers
from dromos.dialers import _kernel
from dromos.dialers._frames import Violation, check_close_code, met, parse_close
from dromos.dialers._refusal import Headers, retry_after
from dromos.dialers._request import Redactor, Request
from dromos.dialers.picows import PicowsDialer
from dromos.errors import HandshakeError
from dromos.interfaces import Limits
from dromos.model import Handshake


def redactor(url: str = "ws://h/", **headers: str) -> Redactor:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Request.of(Handshake(url=url, headers=pairs)).redactor


@pytest.mark.parametrize(
    ("known", "text", "clean"),
    [
        (redactor(Authorization="Bearer abcd1234"), "Bearer abcd1234", "<redacted>"),
        (redactor(Authorization="Bearer abcd1234"), "Bearer: x.abcd1234.", "Bearer: x.<redacted>."),
        (redactor(Authorization="Basic YWdlbnQ6cGFzcw=="), "no pass", "no <redacted>"),
        (redactor(Authorization="Basic YWdlbnQ6cGFzcw=="), "agent:pass", "<redacted>"),
        (redactor(Authorization="Basic not/base64!"), "not/base64!", "<redacted>"),
        (redactor(Cookie='a=1; sid="abc-def"'), "sid is abc-def", "sid is <redacted>"),
        (redactor(Authorization="AWS4 Credential=AK/x, Signature=99ff"), "99ff", "<redacted>"),
        (redactor("ws://h/?key=a%2Fb%2Fc"), "a/b/c a%2Fb%2Fc", "<redacted> <redacted>"),
        (redactor("ws://h/?token-alone"), "token-alone", "<redacted>"),
        (redactor("ws://h/hooks/0123456789abcdef"), "/0123456789abcdef", "/<redacted>"),
        (redactor("ws://h/short?v=1"), "/short?v=1", "/short?v=1"),
        (redactor(X_Key="schlüssel"), "schlüssel", "<redacted>"),
        (redactor(Origin="https://a.example"), "https://a.example?", "https://a.example?"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_secret_is_found_in_every_spelling(known: Redactor, text: str, clean: str) -> None:
    assert clean == known.text(text)


def test_the_start_of_a_secret_is_found_where_a_body_was_cut() -> None:
    known = redactor(X_Key="abcdefghij")

    assert b"see <redacted>" == known.clean(b"see abcdefg", cut=True)
    assert b"see abc" == known.clean(b"see abc", cut=True)
    assert "abcdefghij" not in repr(known)


def test_a_requests_repr_shows_its_origin_only() -> None:
    request = Request.of(Handshake(url="wss://[::1]:8443/path?secret", headers=(("X", "secret"),)))

    assert "Request('wss://[::1]:8443')" == repr(request)
    assert request.is_literal


def test_a_name_beyond_ascii_is_sent_as_the_dns_knows_it() -> None:
    request = Request.of(Handshake(url="wss://bücher.example:99/ä?ö=%20"))

    assert "wss://xn--bcher-kva.example:99/%C3%A4?%C3%B6=%20" == request.url
    assert not request.is_literal


def test_an_answers_headers_are_found_in_any_case() -> None:
    headers = Headers({"Retry-After": "7", "x-b": "2"})

    assert "7" == headers["RETRY-AFTER"] == headers.get("retry-after")
    assert "X-B" in headers
    assert 7 not in headers
    assert ["retry-after", "x-b"] == list(headers)
    assert 2 == len(headers)
    assert headers == pickle.loads(pickle.dumps(headers))
    assert "7" in repr(headers)


@pytest.mark.parametrize("value", ["Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "\0", "²"])
def test_a_senseless_retry_after_is_none(value: str) -> None:
    assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize(("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)])
def test_a_malformed_close_is_a_violation(payload: bytes, code: int) -> None:
    with pytest.raises(Violation) as caught:
        parse_close(payload)

    assert code == caught.value.code


@pytest.mark.parametrize(
    ("theirs", "end"),
    [
        ((4000, "whatever"), (4000, "done", False)),
        ((1005, ""), (4000, "done", False)),
        ((1000, ""), (1000, "", True)),
        ((1001, "deploy"), (1001, "deploy", True)),
    ],
)
def test_a_close_answers_ours_if_it_echoes_the_code_or_has_none(
    theirs: tuple[int, str], end: tuple[int, str, bool]
) -> None:
    assert end == met((4000, "done"), *theirs)


@pytest.mark.parametrize("code", [True, "1000", None])
def test_a_close_code_is_an_int(code: Any) -> None:
    with pytest.raises(TypeError, match="code"):
        check_close_code(code)


class TellsNothing:
    """A socket of another platform, or one that is closed."""

    def fileno(self) -> int:
        return -1

    def getsockopt(self, *_: object) -> bytes:
        raise OSError("bad file descriptor")

    def setsockopt(self, *_: object) -> None:
        raise OSError("bad file descriptor")


class TellsLittle(TellsNothing):
    def getsockopt(self, *_: object) -> bytes:
        return b""


@pytest.mark.parametrize("sock", [TellsNothing(), TellsLittle()])
def test_where_the_kernel_tells_nothing_nothing_is_made_up(sock: TellsNothing) -> None:
    assert _kernel.idle_seconds(sock) is None
    assert _kernel.unacknowledged(sock) is None
    assert _kernel.wire_bytes(sock) is None
    assert "no CLOSE received" == _kernel.ending(sock)
    _kernel.set_user_timeout(sock, 1)


def test_other_platforms_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_LINUX", False)
    monkeypatch.setattr(_kernel, "_TCP_INFO", None)
    monkeypatch.setattr(_kernel, "_TCP_USER_TIMEOUT", None)
    with socket.socket() as sock:
        assert _kernel.idle_seconds(sock) is None
        assert _kernel.unacknowledged(sock) is None
        assert _kernel.wire_bytes(sock) is None
        assert "no CLOSE received" == _kernel.ending(sock)
        _kernel.set_user_timeout(sock, 1)


async def test_where_the_kernel_tells_nothing_idleness_counts_from_new_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.accept()
        while True:
            await peer.read_frame()
            peer.write(frame(TEXT, b"x"))

    async with serving(serve) as port:
        recorder = Recorder()
        link = await PicowsDialer().dial(
            Handshake(url=f"ws://127.0.0.1:{port}"), recorder, Limits()
        )
        monkeypatch.setattr(_kernel, "idle_seconds", lambda _: None)
        before = link.idle_for()
        longer = link.idle_for()
        link.send("go")
        await recorder.first("message")
        after = link.idle_for()

        assert 0 <= before <= longer
        assert 0 == after
        link.abort()
        await recorder.closed()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_dead_peer_is_noticed_by_the_kernel_while_reading_is_paused() -> None:
    def timeout() -> int:
        return link._socket.getsockopt(  # type: ignore[return-value]
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, *()
        )

    async def serve(peer: Peer) -> None:
        await peer.accept()
        await peer.ended()

    async with serving(serve) as port:
        recorder = Recorder()
        link = await PicowsDialer().dial(
            Handshake(url=f"ws://127.0.0.1:{port}"), recorder, Limits()
        )
        before = timeout()
        link.pause_reading()
        paused = timeout()
        link.resume_reading()

        assert [0, 40_000, 0] == [before, paused, timeout()]
        link.abort()
        await recorder.closed()


async def test_a_socket_that_no_transport_took_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    async def broken(*_: object, socket_factory: Any, **__: object) -> None:
        target = type("Target", (), {"host": "127.0.0.1", "port": port})
        made.append(await socket_factory(target))
        raise TypeError("start_tls, on Python 3.11.7")

    async def serve(peer: Peer) -> None:
        await peer.ended()

    monkeypatch.setattr("dromos.dialers.picows.ws_connect", broken)
    async with serving(serve) as port:
        with pytest.raises(HandshakeError, match="TypeError: start_tls"):
            await PicowsDialer().dial(Handshake(url=f"ws://127.0.0.1:{port}"), Recorder(), Limits())

    assert -1 == made[0].fileno()


async def test_socks4_needs_an_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    dialer = PicowsDialer(proxy="socks4://127.0.0.1:9")

    async def resolve(host: str, port: int) -> list[Any]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))]

    monkeypatch.setattr(dialer._resolver, "resolve", resolve)
    with pytest.raises(HandshakeError, match="SOCKS4 needs an IPv4 address"):
        await dialer.dial(Handshake(url="ws://six.example"), Recorder(), Limits())


def test_the_package_names_its_dialers() -> None:
    assert dialers.PicowsDialer is PicowsDialer
    with pytest.raises(AttributeError):
        dialers.NoSuchDialer  # noqa: B018
