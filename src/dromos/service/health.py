"""What the health port answers to each path."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from dromos._http_server import Reply, Request
from dromos.bridge import Bridge
from dromos.service.page import page
from dromos.service.sessions import is_ready, sessions

__all__ = ["Health"]

PAGE: Final = 100
LARGEST_PAGE: Final = 1000
"""Sessions in an answer, unless asked for fewer or more: the event loop waits while it is made."""

_log: Final = logging.getLogger("dromos")

_TEXT: Final = "text/plain; charset=utf-8"

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:"
)
"""What a page of ours may do: nothing but ask this port (W3C, Content Security Policy 3)."""


class Health:
    """Answers the questions of probes, scrapers and people about one bridge.

    `/livez` fails only if a restart would help: if a session has died without a word.  A loop
    that does not turn fails it by not answering.  The far side and the gateway have no say in
    it: restarting an agent because they are down would only add to their trouble.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._paths: Mapping[str, Callable[[Request], Reply]] = {
            "/": self._page,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": _metrics,
            "/sessions": self._sessions,
        }

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request; never raises."""
        if request.method not in ("GET", "HEAD"):
            return _text(405, "only GET and HEAD are answered here", Allow="GET, HEAD")
        path = request.path
        answer = self._paths.get(path)
        if answer is None:
            return _text(404, f"there is nothing here; try {', '.join(sorted(self._paths))}")
        try:
            return answer(request)
        except Exception:
            _log.exception("the health port failed to answer %s", path)
            return _text(500, "this answer could not be made; the log says why")

    def _livez(self, _: Request) -> Reply:
        vitals = self._bridge.vitals()
        if vitals.stalled:
            return _text(503, f"{vitals.stalled} of {vitals.sessions} sessions have stalled")
        return _text(200, "alive")

    def _readyz(self, _: Request) -> Reply:
        vitals = self._bridge.vitals()
        if is_ready(vitals):
            return _text(200, f"ready: {vitals.open} of {vitals.sessions} sessions are open")
        if vitals.draining:
            return _text(503, "draining")
        if not vitals.sessions:
            return _text(503, "no session runs")
        waiting = vitals.sessions - vitals.with_token
        return _text(503, f"{waiting} of {vitals.sessions} sessions wait for their first token")

    def _sessions(self, request: Request) -> Reply:
        try:
            offset, limit = _numbers(request)
        except ValueError as error:
            return _text(400, str(error))
        chosen = self._bridge.snapshots(offset=offset, limit=limit)
        body = sessions(chosen, self._bridge.vitals(), now=time.time(), offset=offset)
        return _reply(200, "application/json", json.dumps(body).encode())

    def _page(self, _: Request) -> Reply:
        policy = {"Content-Security-Policy": _POLICY}
        return _reply(200, "text/html; charset=utf-8", page(), **policy)


def _numbers(request: Request) -> tuple[int, int]:
    """Return the offset and the limit that a request asks for.

    Raises:
        ValueError: If they are no numbers that can be served; the message is for the client.
    """
    query = dict(request.query)
    offset, limit = (query.get(name, str(usual)) for name, usual in _USUAL)
    for name, value in (("offset", offset), ("limit", limit)):
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise ValueError(f"{name} must be a whole number")
    return int(offset), min(int(limit), LARGEST_PAGE)


_USUAL: Final = (("offset", 0), ("limit", PAGE))


def _metrics(request: Request) -> Reply:
    """What Prometheus scrapes, from its client's own registry."""
    try:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import choose_encoder
    except ModuleNotFoundError:
        return _text(404, 'there are no metrics without: pip install "dromos[prometheus]"')
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return _reply(200, content_type, encode(REGISTRY))


def _text(status: int, sentence: str, **headers: str) -> Reply:
    return _reply(status, _TEXT, f"{sentence}\n".encode(), **headers)


def _reply(status: int, content_type: str, body: bytes, **headers: str) -> Reply:
    usual = {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    return Reply(status=status, headers=tuple({**usual, **headers}.items()), body=body)
