# cython: language_level=3, auto_pickle=False
"""What takes each frame that picows has read, in C: `_listener.py`, which says more, line by line.

It is compiled against the structures of one version of picows, whose number is in the
compiled module's name: see `_choice.py`.
"""

from asyncio import CancelledError

from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

__all__ = ["Listener"]


cdef class Listener(WSListener):
    """Delivers whole messages; whoever inherits it takes the rest, and ends the link."""

    cdef public long long received
    cdef public bint _in_messages
    cdef public object _deliver
    cdef public object _listener

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        """Deliver a whole message; leave everything else to `_on_rare_frame`."""
        cdef object message, result
        if frame.fin and self._in_messages and not (frame.rsv1 or frame.rsv2 or frame.rsv3):
            if frame.msg_type == WSMsgType.TEXT:
                try:
                    message = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError:
                    self._fail(1007, "text is not UTF-8")
                    return
            elif frame.msg_type == WSMsgType.BINARY:
                message = frame.get_payload_as_bytes()
            else:
                self._on_rare_frame(frame)
                return
            self.received += 1
            try:
                result = self._deliver(message)
            except (Exception, CancelledError) as error:
                self._tell(self._listener.on_deliver_failed, error)
            else:
                if result is not None:
                    self._tell(self._listener.on_result, result)
        else:
            self._on_rare_frame(frame)
