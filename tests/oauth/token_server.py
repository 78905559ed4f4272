"""An authorization server of our own, for what a real one can't be made to say."""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from dromos.testing._loopback import HttpConnection, Loopback, Reply, Request

Answer = Reply | Mapping[str, Any]


class TokenServer(Loopback):
    """Issues `at-1`, `at-2`, ... to whoever asks, with `rt-1`, `rt-2`, ...; notes what was asked.

    `answers` are given in place of that, one by one.
    """

    _schemes = ("http", "https")

    def __init__(self, *, tls: ssl.SSLContext | None = None, lifetime: float = 3600) -> None:
        host = "localhost" if tls else "127.0.0.1"
        super().__init__(host=host, port=0, ssl=tls, clock=time.time)
        self.lifetime = lifetime
        self.requests: list[Request] = []
        self.forms: list[dict[str, str]] = []
        self.answers: list[Answer | Callable[[dict[str, str]], Answer]] = []
        self.pending = 0  # how often a device is told to wait
        self.clock_ahead = 0.0  # seconds

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
        }

    async def _serve(self, http: HttpConnection) -> None:
        while (request := await http.read_request(self.clock)) is not None:
            self.requests.append(request)
            answer = self._answer(request)
            if not isinstance(answer, Reply):
                date = formatdate(self.clock() + self.clock_ahead, usegmt=True)
                headers = (("Content-Type", "application/json"), ("Date", date))
                answer = Reply(status=200, headers=headers, body=json.dumps(answer).encode())
            http.writer.write(http.encode(answer))
            await http.writer.drain()
            if not http.next_cycle():
                return

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith("/.well-known/"):
            return self.metadata
        form = dict(parse_qsl(request.body.decode()))
        self.forms.append(form)
        if self.answers:
            answer = self.answers.pop(0)
            return answer(form) if callable(answer) else answer
        if request.path == "/device":
            return {
                "device_code": "dc",
                "user_code": "ABCD-EFGH",
                "verification_uri": f"{self.url}/go",
                "expires_in": 600,
                "interval": 0.01,
            }
        if form.get("grant_type", "").endswith("device_code") and self.pending:
            self.pending -= 1
            return refusal("authorization_pending")
        number = len(self.forms)
        return {
            "access_token": f"at-{number}",
            "refresh_token": f"rt-{number}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }


def refusal(code: str, *, status: int = 400, **more: Any) -> Reply:
    body = json.dumps({"error": code, **more}).encode()
    return Reply(status=status, headers=(("Content-Type", "application/json"),), body=body)
