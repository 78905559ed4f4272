"""websocket-client: blocking calls, no event loop.

Without its own check of UTF-8, which is in Python, a byte at a time: `decode` checks as well.
"""

import ssl
import time

import websocket

from benchmarks.clients import Where
from benchmarks.far import text
from benchmarks.lap import Laps


def _open(where: Where) -> websocket.WebSocket:
    options = {"ca_certs": where.trust, "cert_reqs": ssl.CERT_REQUIRED}
    return websocket.create_connection(where.url, sslopt=options, skip_utf8_validation=True)


def receive(where: Where, laps: Laps) -> None:
    link = _open(where)
    for count in laps:
        with laps.lap():
            link.send(f"!{count}")
            for _ in range(count):
                link.recv()
    link.close()


def send(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    link = _open(where)
    for count in laps:
        with laps.lap():
            link.send(f"!{count}")
            for _ in range(count):
                link.send(message)
            link.recv()
    link.close()


def echo(where: Where, laps: Laps, size: int) -> None:
    message = text(size)
    link = _open(where)
    for count in laps:
        with laps.lap():
            at = time.perf_counter()
            for _ in range(count):
                link.send(message)
                link.recv()
                now = time.perf_counter()
                laps.trips.append(now - at)
                at = now
    link.close()
