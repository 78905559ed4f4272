"""What takes each frame that picows has read: the hot path of receiving, in Python."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from dromos.interfaces import LinkListener
from dromos.model import Message

__all__ = ["PythonListener"]

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY


class PythonListener(WSListener):
    """Delivers whole messages; whoever inherits it takes the rest, and ends the link.

    `_compiled.pyx` is the same in C, line by line: a change here is one there.
    """

    __slots__ = ("_deliver", "_in_messages", "_listener", "received")

    received: int
    _deliver: Callable[[Message], Any]
    _in_messages: bool
    _listener: LinkListener

    if TYPE_CHECKING:  # what `Conduct` and the link have

        def _fail(self, code: int, reason: str) -> None: ...

        def _tell(self, method: Callable[..., None], *args: object) -> None: ...

        def _on_rare_frame(self, frame: WSFrame) -> None: ...

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Deliver a whole message; leave everything else to `_on_rare_frame`.

        This runs for every message: no clock, no allocation but the message, and the end of
        it written out here, as in `Conduct._hand_over`, for the sake of one call less.
        """
        if frame.fin and self._in_messages and not (frame.rsv1 or frame.rsv2 or frame.rsv3):
            kind = frame.msg_type
            if kind is _TEXT:
                try:
                    message: Message = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError:
                    self._fail(1007, "text is not UTF-8")
                    return
            elif kind is _BINARY:
                message = frame.get_payload_as_bytes()
            else:
                self._on_rare_frame(frame)
                return
            self.received += 1
            try:
                result = self._deliver(message)
            except (Exception, asyncio.CancelledError) as error:
                self._tell(self._listener.on_deliver_failed, error)
            else:
                if result is not None:
                    self._tell(self._listener.on_result, result)
        else:
            self._on_rare_frame(frame)
