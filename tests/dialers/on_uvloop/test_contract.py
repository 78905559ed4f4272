"""Links on uvloop, which `dromos.run` takes where it is there: the contract, and TLS."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from tests.dialers.cancelling import cancel_a_dial, never_answer
from tests.dialers.contract import LinkContract, ReadsContract
from tests.dialers.loopback import CLOSE, TEXT, Peer, close_frame, frame, serving
from tests.dialers.recorder import Recorder
from tests.dialers.socket_far import Far
from tests.dialers.test_picows import client_context, server_context
from tests.dialers.test_picows_link import PicowsWorld
from tests.dialers.test_websockets import WebsocketsWorld

from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.interfaces import Limits
from dromos.model import Handshake

uvloop = pytest.importorskip("uvloop", reason="needs the extra uvloop")

DIALERS: Any = pytest.mark.parametrize("dialer", [PicowsDialer, WebsocketsDialer])


class TestPicowsLink(ReadsContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[PicowsWorld]:
        far = Far()
        async with serving(far.serve) as port:
            yield PicowsWorld(far, port)


class TestWebsocketsLink(LinkContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[WebsocketsWorld]:
        far = Far()
        async with serving(far.serve) as port:
            yield WebsocketsWorld(far, port)


async def test_this_is_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


@DIALERS
async def test_a_link_over_tls_works_as_any_other(dialer: Any) -> None:
    authority = trustme.CA()

    async def serve(peer: Peer) -> None:
        await peer.accept()
        peer.write(frame(TEXT, b"hello"))
        _, payload, _ = await peer.read_frame()
        peer.write(frame(TEXT, payload[:4]) + close_frame(4000, b"bye"))
        opcode, _, _ = await peer.read_frame()
        assert CLOSE == opcode
        await peer.ended()

    recorder = Recorder()
    async with serving(serve, tls=server_context(authority, "localhost")) as port:
        handshake = Handshake(url=f"wss://localhost:{port}")
        link = await dialer(ssl=client_context(authority)).dial(handshake, recorder, Limits())
        link.send("x" * 100_000)
        assert (4000, "bye", True) == await recorder.closed()
        assert ["hello", "xxxx"] == recorder.messages


@DIALERS
@pytest.mark.parametrize("turns", [*range(8), 12, 20])
async def test_a_cancelled_dial_leaves_no_socket(dialer: Any, turns: int) -> None:
    async with serving(never_answer) as port:
        await cancel_a_dial(dialer(), f"ws://127.0.0.1:{port}", turns)
