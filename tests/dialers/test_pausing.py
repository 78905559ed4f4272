"""Reading that pauses in the middle of a burst: the rest arrives without another byte from afar."""

import asyncio

import pytest
import trustme
from tests.dialers.loopback import TEXT, Peer, frame, serving
from tests.dialers.recorder import Recorder
from tests.dialers.test_picows import client_context, server_context

from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.interfaces import Limits
from dromos.model import Handshake

BURST = 1000
EACH = 64
"""Messages after which reading pauses, as the driver does."""


@pytest.mark.parametrize("engine", [PicowsDialer, WebsocketsDialer])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [10, 300, 5_000])
async def test_what_came_before_a_pause_is_delivered_after_it(
    engine: type[PicowsDialer | WebsocketsDialer], tls: bool, size: int
) -> None:
    authority = trustme.CA()

    async def serve(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frame()
        peer.write(b"".join(frame(TEXT, b"%0*d" % (size, n)) for n in range(BURST)))
        await peer.ended()

    context = server_context(authority, "localhost") if tls else None
    async with serving(serve, tls=context) as port:
        recorder, due = Recorder(), EACH
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/"
        dialer = engine(ssl=client_context(authority) if tls else None)
        link = await dialer.dial(Handshake(url=url), recorder, Limits())

        def pause_now_and_then() -> None:
            nonlocal due
            if link.received >= due:
                due = link.received + EACH
                link.pause_reading()
                asyncio.get_running_loop().call_soon(link.resume_reading)

        recorder.then("message", pause_now_and_then)
        link.send("begin")
        await recorder.until(lambda: link.received == BURST)
        link.abort()
        await recorder.closed()

    assert [f"{n:0{size}d}" for n in range(BURST)] == recorder.messages
