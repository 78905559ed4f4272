"""One frame after the other: what each listener makes of it, and that both do the same."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picows import WSMsgType
from picows.picows import _make_test_ws_frame

from dromos.dialers._choice import COMPILED, Listener
from dromos.dialers._listener import PythonListener

LISTENERS = [PythonListener, Listener] if COMPILED else [PythonListener]
NOBODY: Any = None


def recording(kind: type[PythonListener]) -> Any:
    """Return a listener of that kind that remembers what it did."""

    class Probe(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.calls: list[tuple[object, ...]] = []
            self.received, self._in_messages = 0, True
            self._deliver, self._listener = self.deliver, self
            self.outcome: object = None
            self.on_deliver_failed, self.on_result = "on_deliver_failed", "on_result"

        def deliver(self, message: str | bytes) -> object:
            self.calls.append(("deliver", message))
            if isinstance(self.outcome, BaseException):
                raise self.outcome
            return self.outcome

        def _tell(self, *told: object) -> None:
            self.calls.append(("tell", *told))

        def _fail(self, *why: object) -> None:
            self.calls.append(("fail", *why))
            self._in_messages = False

        def _on_rare_frame(self, frame: Any) -> None:
            self.calls.append(("rare", int(frame.msg_type), frame.get_payload_as_bytes()))

        def hear(
            self, kind: WSMsgType, payload: bytes, *, fin: bool = True, rsv1: bool = False
        ) -> None:
            self.on_ws_frame(NOBODY, _make_test_ws_frame(kind, payload, fin, rsv1))

    return Probe()


@pytest.fixture(params=LISTENERS, ids=lambda kind: kind.__module__.rpartition(".")[2])
def probe(request: pytest.FixtureRequest) -> Any:
    return recording(request.param)


def test_whole_messages_are_delivered_and_counted(probe: Any) -> None:
    probe.hear(WSMsgType.TEXT, "grüß".encode())
    probe.hear(WSMsgType.BINARY, b"\xff")
    probe.hear(WSMsgType.TEXT, b"")

    assert [("deliver", "grüß"), ("deliver", b"\xff"), ("deliver", "")] == probe.calls
    assert 3 == probe.received
    assert type(probe.received) is int


def test_text_that_is_not_utf_8_fails_the_link_and_is_not_counted(probe: Any) -> None:
    probe.hear(WSMsgType.TEXT, b"a\xc3")

    assert [("fail", 1007, "text is not UTF-8")] == probe.calls
    assert 0 == probe.received


@pytest.mark.parametrize("kind", [WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE])
def test_control_frames_are_left_to_the_link(probe: Any, kind: WSMsgType) -> None:
    probe.hear(kind, b"x")

    assert [("rare", int(kind), b"x")] == probe.calls


def test_fragments_and_reserved_bits_are_left_to_the_link(probe: Any) -> None:
    probe.hear(WSMsgType.TEXT, b"part", fin=False)
    probe.hear(WSMsgType.CONTINUATION, b"rest")
    probe.hear(WSMsgType.BINARY, b"odd", rsv1=True)

    assert [("rare", 1, b"part"), ("rare", 0, b"rest"), ("rare", 2, b"odd")] == probe.calls
    assert 0 == probe.received


def test_nothing_is_delivered_unless_a_frame_may_be_a_message(probe: Any) -> None:
    probe._in_messages = False

    probe.hear(WSMsgType.TEXT, b"inside another")

    assert [("rare", 1, b"inside another")] == probe.calls


@pytest.mark.parametrize("outcome", [False, "an awaitable"])
def test_what_a_delivery_returns_is_told(probe: Any, outcome: object) -> None:
    probe.outcome = outcome

    probe.hear(WSMsgType.TEXT, b"x")

    assert [("deliver", "x"), ("tell", "on_result", outcome)] == probe.calls


@pytest.mark.parametrize("error", [LookupError("no"), asyncio.CancelledError()])
def test_what_a_delivery_raises_is_told(probe: Any, error: BaseException) -> None:
    probe.outcome = error

    probe.hear(WSMsgType.TEXT, b"x")

    assert [("deliver", "x"), ("tell", "on_deliver_failed", error)] == probe.calls
    assert 1 == probe.received


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_ends_more_than_a_delivery_passes(probe: Any, error: BaseException) -> None:
    probe.outcome = error

    with pytest.raises(type(error)) as raised:
        probe.hear(WSMsgType.TEXT, b"x")

    assert error is raised.value


def test_a_delivery_may_put_another_in_its_place(probe: Any) -> None:
    def first(message: object) -> None:
        probe._deliver = probe.deliver

    probe._deliver = first
    probe.hear(WSMsgType.TEXT, b"1")
    probe.hear(WSMsgType.TEXT, b"2")

    assert [("deliver", "2")] == probe.calls


@pytest.mark.skipif(not COMPILED, reason="no compiled listener: make compiled-test")
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(WSMsgType)),
            st.one_of(st.binary(max_size=20), st.text(max_size=10).map(str.encode)),
            st.sampled_from([True, True, False]),
            st.sampled_from([False, False, True]),
            st.sampled_from([None, None, "left", ValueError("x"), asyncio.CancelledError()]),
        ),
        max_size=8,
    )
)
def test_both_listeners_do_the_same(frames: list[tuple[Any, bytes, bool, bool, Any]]) -> None:
    heard = []
    for kind in (PythonListener, Listener):
        probe = recording(kind)
        for opcode, payload, fin, rsv1, outcome in frames:
            probe.outcome = outcome
            probe.hear(opcode, payload, fin=fin, rsv1=rsv1)
        heard.append((probe.calls, probe.received, probe._in_messages))

    assert heard[0] == heard[1]
