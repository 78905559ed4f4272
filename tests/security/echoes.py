"""Servers that send back what they were sent: in bodies, headers, codes, reasons and URLs.

How each request is answered is said by the first segment of its path.
"""

import asyncio
import base64
import gzip
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from dromos.testing import FarSide
from dromos.testing._loopback import HttpConnection, Loopback, Reply, Request, reset
from dromos.testing.far_side import _Plan
from tests.security.canary import canary, fields_of, needle, sent_secrets

JSON: Final = ("Content-Type", "application/json")
METADATA: Final = "/.well-known/oauth-authorization-server"


# Letters only, as user codes are: it looks like a word.
USER_CODE: Final = "WQZX-KJVB-XQWZ-PLMK"
needle("user code", USER_CODE)


def shout(secrets: list[str]) -> str:
    """A message with everything in it that a log should not have."""
    said = "\x1b[31mALERT\x1b[0m: bad secrets\r\n2026-01-01 ERROR forged "
    for one in secrets:
        spelled = (one, quote(one, safe=""), quote(one), json.dumps({"it": one}))
        said += f"{' '.join(spelled)} '{one}' {json.dumps(one)} state={one}\n"
    return said


class EchoTokens(Loopback):
    """A token endpoint and a gateway in one.

    Attributes:
        arrived: How many requests held a secret.
        hanging: How many are left without an answer.
        issued: The tokens that it gave out, by their name in the answer.
    """

    _schemes = ("http", "https")

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        host = "localhost" if tls else "127.0.0.1"
        super().__init__(host=host, port=0, ssl=tls, clock=time.time)
        self.arrived = 0
        self.hanging = 0
        self.seen: list[str] = []

    async def _serve(self, http: HttpConnection) -> None:
        while (request := await http.read_request(self.clock)) is not None:
            secrets = sent_secrets(fields_of(request))
            self.arrived += bool(secrets)
            self.seen.append(request.target)
            parts = unquote(urlsplit(request.target).path).removeprefix(METADATA).split("/")
            if not await self._answer(http, parts[1], "/".join(parts[2:]), secrets, request):
                return

    async def _answer(
        self, http: HttpConnection, mood: str, path: str, secrets: list[str], request: Request
    ) -> bool:
        self._tell()
        if mood == "hang":
            self.hanging += 1
            await http.wait_closed_by_client()
            return False
        if mood == "slam":
            reset(http.writer.transport)
            return False
        if mood in ("drop", "garbage", "reason"):
            http.writer.write(_raw(mood, secrets))
            await http.writer.drain()
            return False
        reply = _spoken(mood, path, secrets, self.url)
        http.writer.write(http.encode(reply))
        await http.writer.drain()
        return http.next_cycle()


def _raw(mood: str, secrets: list[str]) -> bytes:
    said = shout(secrets).encode()
    if mood == "garbage":
        return said
    if mood == "reason":
        line = secrets[0] if secrets else "no"
        return f"HTTP/1.1 400 {line}\r\nX-{line}: \x01{line}\r\n\r\n".encode() + said
    return b""


def _spoken(mood: str, path: str, secrets: list[str], url: str) -> Reply:
    """Answer a question in a mood; the number behind a mood says which secret it is about."""
    name, _, number = mood.partition(".")
    if mood == "tattle":
        return _tattled(path)
    one = [*secrets, *["invalid_request"] * 20][int(number or 0)]
    if name in MOODS:
        return MOODS[name](one, secrets, url)
    if ".well-known" in path or path == "":
        issuer = f"{url}/{mood}"
        told = {"issuer": issuer, "token_endpoint": f"{issuer}/token"}
        return _json(200, {**told, "device_authorization_endpoint": f"{issuer}/device"})
    return _success(mood, path, one)


def _tattled(path: str) -> Reply:
    """Refuse a device code with the code that the person is to type."""
    if path != "device":
        return _json(400, {"error": USER_CODE, "error_description": f"{USER_CODE} is bad"})
    told = {"device_code": canary("device code"), "user_code": USER_CODE}
    place = {"verification_uri": "https://login.example/go", "interval": 0.01}
    return _json(200, {**told, **place})


def _success(mood: str, path: str, one: str) -> Reply:
    if path == "device":
        told = {
            "device_code": canary("device code"),
            "user_code": canary("user code"),
            "verification_uri": "https://login.example/go",
            "verification_uri_complete": f"https://login.example/go?c={canary('complete URL')}",
            "expires_in": 0.5,
            "interval": 0.01,
        }
        return _json(200, told)
    if path.startswith("v1/check-connection"):
        return _json(200, {"status": "active"})
    if path.startswith("v1/request-connection"):
        told = {"authUrl": f"https://login.example/?state={canary('state')}", "state": one}
        return _json(200, {**told, "connection_id": "c", "scopes": ["a"]})
    if path.startswith("v1/providers"):
        return _json(200, {"oauth2": {}})
    told = {
        "access_token": canary("access token"),
        "refresh_token": canary("refresh token"),
        "id_token": canary("id token"),
        "token_type": "Bearer",
        "expires_in": 3600,
        **BAD_TOKENS.get(mood, dict)(),
    }
    if mood == "bound":
        told["token_type"] = "DPoP"
    if path.startswith("v1/"):
        told = {**told, "credentials": dict(told), "strategy": {"type": "oauth2"}}
    return _json(200, told)


BAD_TOKENS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "broken-token": lambda: {"access_token": canary("access token", "\r\nX-Evil: 1")},
    "endless-token": lambda: {"access_token": canary("access token") * 2000},
    "typed-token": lambda: {"token_type": canary("token type")},
    "no-token": lambda: {"access_token": None},
    "odd-token": lambda: {"access_token": [canary("access token")]},
    "less-scope": lambda: {"scope": "one"},
    "odd-life": lambda: {"expires_in": canary("lifetime")},
    "untyped": lambda: {"token_type": None},
}


def _json(status: int, body: Any, *headers: tuple[str, str]) -> Reply:
    return Reply(status=status, headers=(JSON, *headers), body=json.dumps(body).encode())


Mood = Callable[[str, list[str], str], Reply]


def _header(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~")


MOODS: Final[dict[str, Mood]] = {
    "described": lambda one, all_, url: _json(
        400, {"error": "invalid_grant", "error_description": shout(all_)}
    ),
    "code": lambda one, all_, url: _json(401, {"error": one, "code": one, "message": one}),
    "pending": lambda one, all_, url: _json(
        400, {"error": "authorization_pending", "error_description": shout(all_)}
    ),
    "aside": lambda one, all_, url: _json(
        403,
        {
            "error": "access_denied",
            "suberror": one,
            "claims": shout(all_),
            "correlation_id": one,
            "detail": shout(all_),
        },
        ("X-Request-Id", _header(one)),
        ("Retry-After", _header(one)),
        ("Set-Cookie", f"s={_header(one)}"),
    ),
    "attention": lambda one, all_, url: _json(409, {"error": one, "message": shout(all_)}),
    "limited": lambda one, all_, url: Reply(
        status=429, headers=(("Retry-After", "1"),), body=shout(all_).encode()
    ),
    "ill": lambda one, all_, url: Reply(status=503, body=f"<h1>{shout(all_)}</h1>".encode()),
    "bytes": lambda one, all_, url: Reply(status=500, body=b"\xff\xfe" + shout(all_).encode()),
    "form": lambda one, all_, url: Reply(
        status=400,
        headers=(("Content-Type", "application/x-www-form-urlencoded"),),
        body=urlencode({"error": one, "error_description": shout(all_)}).encode(),
    ),
    "fine-error": lambda one, all_, url: _json(200, {"error": one, "message": shout(all_)}),
    "redirect": lambda one, all_, url: Reply(
        status=307,
        headers=(("Location", f"https://{quote(one)}@evil.example/{quote(one)}?t={quote(one)}"),),
    ),
    "moved-host": lambda one, all_, url: Reply(
        status=302, headers=(("Location", f"/{quote(one)}?t={quote(one)}"),)
    ),
    "page": lambda one, all_, url: Reply(status=200, body=shout(all_).encode()),
    "list": lambda one, all_, url: _json(200, [one]),
    "empty": lambda one, all_, url: Reply(status=200),
    "bomb": lambda one, all_, url: Reply(
        status=200,
        headers=(JSON, ("Content-Encoding", "gzip")),
        body=gzip.compress(shout(all_).encode())[:-4] + b"\0\1\2\3",
    ),
    "other-issuer": lambda one, all_, url: _json(
        200, {"issuer": f"https://{one}.example", "token_endpoint": f"http://x/{one}"}
    ),
}
"""How a token endpoint refuses: of one secret, or of all, or by its own URL."""

REFUSALS: Final = (
    *("described", "aside", "aside.1", "aside.2", "limited", "ill", "bytes", "form", "fine-error"),
    *("code", "code.1", "code.2", "code.3", "code.4", "code.5", "attention", "pending"),
    *("redirect", "redirect.1", "moved-host", "page", "list", "empty", "bomb"),
    *("drop", "slam", "garbage", "reason", "hang"),
)
SUCCESSES: Final = ("good", *BAD_TOKENS)


# --- Far sides ------------------------------------------------------------------------------------

ENDINGS: Final = ("closed-1008", "closed-1000", "closed-4401", "closed-1011", "going-away")
ANSWERS: Final = ("401", "403", "407", "429", "503", "302", "hang", "slam", "garbage", "drop")
ODD: Final = ("wrong-accept", "wrong-protocol", "wrong-extension", "early")
FATES: Final = ("open", *ANSWERS, *ENDINGS, *ODD)


class EchoFar(FarSide):
    """A far side that refuses and closes with what it was sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.arrived = 0
        self.hanging = 0

    async def _serve(self, http: HttpConnection) -> None:
        request = await http.read_request(self.clock)
        if request is None:
            return
        secrets = sent_secrets(fields_of(request))
        self.arrived += bool(secrets)
        self.attempts.append(request)
        self._tell()
        fate = request.path.split("/")[1]
        if fate in ("401", "403", "407", "429", "503", "302"):
            http.writer.write(http.encode(_turned_away(int(fate), secrets)))
            await http.writer.drain()
        elif fate in ("hang", "slam"):
            self.hanging += 1
            await self._turn_away(http, _Plan(1, fate))  # type: ignore[arg-type]
        elif fate == "garbage":
            http.writer.write(shout(secrets).encode())
            await http.writer.drain()
        elif fate in ODD[:3]:
            http.writer.write(_wrong(http, request, fate, secrets))
            await http.writer.drain()
        elif fate != "drop":
            await self._open_and_end(http, request, fate, secrets)

    async def _open_and_end(
        self, http: HttpConnection, request: Request, fate: str, secrets: list[str]
    ) -> None:
        link = self._open(http, request)
        trailing = http.switch_protocols(self._accept_headers(request, link))
        self.links.append(link)
        link.send("hello")
        # As much as a reason holds: the shortest secret is the most telling.
        reason = " ".join(["bad token", *secrets])[:110] if secrets else "no"
        code = {"going-away": 1001, "early": 1002}.get(fate)
        if fate.startswith("closed"):
            code = int(fate[7:])
        if code is not None:
            link.close(code, reason)
        self._tell()
        await link.run(trailing)

    async def on_received(self, link: Any, message: Any) -> None:
        """Close with what a first message, or a later one, said."""
        text = message if isinstance(message, str) else message.decode()
        try:
            told = json.loads(text)
            pieces = [told[name] for name in ("token", "access_token") if name in told]
        except ValueError:
            pieces = text.split() if text.startswith("AUTH") else []
        secrets = sent_secrets([("message", piece) for piece in pieces])
        self.arrived += bool(secrets)
        if link.path.startswith("/told"):
            link.close(4401, " ".join(["who is", *secrets])[:110])
        await super().on_received(link, message)


def _turned_away(status: int, secrets: list[str]) -> Reply:
    said = _header(" ".join(secrets))
    one = quote(secrets[0]) if secrets else "x"
    headers = [
        ("WWW-Authenticate", f'Bearer error="invalid_token", error_description="{said}"'),
        ("X-Echo", said),
        ("Set-Cookie", f"s={said}"),
        ("X-Url", quote(said)),
        ("Retry-After", "0"),
    ]
    if status == 302:
        headers.append(("Location", f"wss://{one}@evil.example/{one}?t={one}"))
    return Reply(status=status, headers=tuple(headers), body=shout(secrets).encode())


def _wrong(http: HttpConnection, request: Request, fate: str, secrets: list[str]) -> bytes:
    one = _header(secrets[0]) if secrets else "x"
    more = {
        "wrong-accept": f"Sec-WebSocket-Accept: {one}",
        "wrong-protocol": f"Sec-WebSocket-Protocol: {one}-",
        "wrong-extension": f"Sec-WebSocket-Extensions: {one}",
    }[fate]
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    if fate != "wrong-accept":
        key = request.headers["sec-websocket-key"]
        head.append(f"Sec-WebSocket-Accept: {accept_of(key)}")
    return "\r\n".join([*head, more, "", ""]).encode() + shout(secrets).encode()


def accept_of(key: str) -> str:
    """Answer a `Sec-WebSocket-Key`."""
    import hashlib

    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()


class EchoProxy(Loopback):
    """A proxy that refuses with what it was sent; `mood` says how."""

    _schemes = ("http", "https")

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0, ssl=None, clock=time.time)
        self.arrived = 0

    async def _serve(self, http: HttpConnection) -> None:
        first = await http.reader.readexactly(1)
        if first in (b"\4", b"\5"):
            await self._socks(http, first)
            return
        http._h11.receive_data(first)
        request = await http.read_request(self.clock)
        if request is None:
            return
        secrets = sent_secrets(fields_of(replace(request, target="/")))
        self.arrived += bool(secrets)
        mood = request.headers.get("host", "").partition(".")[0]
        if mood == "garbage":
            http.writer.write(shout(secrets).encode())
        elif mood == "reason":
            said = _header(" ".join(secrets))
            http.writer.write(f"HTTP/1.1 502 {said}\r\nX-Echo: {said}\r\n\r\n".encode())
        else:
            status = int(mood[1:]) if mood[1:].isdigit() else 407
            http.writer.write(http.encode(_turned_away(status, secrets)))
        await http.writer.drain()

    async def _socks(self, http: HttpConnection, version: bytes) -> None:
        reader, writer = http.reader, http.writer
        if version == b"\5":
            (count,) = await reader.readexactly(1)
            await reader.readexactly(count)
            writer.write(b"\5\2")
            await reader.readexactly(1)
            for _ in range(2):
                (length,) = await reader.readexactly(1)
                said = (await reader.readexactly(length)).decode()
                self.arrived += bool(sent_secrets([("login", said)]))
            writer.write(b"\1\1" + said.encode())
        else:
            await reader.readexactly(7)
            said = (await reader.readuntil(b"\0")).decode()
            self.arrived += bool(sent_secrets([("login", said)]))
            writer.write(b"\0\x5b" + said.encode())
        await writer.drain()


async def never(_: Any = None) -> Any:
    """Hang until cancelled."""
    await asyncio.get_running_loop().create_future()
