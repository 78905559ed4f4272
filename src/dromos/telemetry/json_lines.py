"""Renders bridge events as JSON, one object a line."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from dromos.events import BridgeEvent
from dromos.snapshot import Snapshot
from dromos.telemetry.facts import NAMES, SAMPLED, facts, plain

__all__ = ["TextOut", "as_line", "as_record", "sample", "write_events"]


class TextOut(Protocol):
    """Where lines go: a text file, standard output, or an `io.StringIO`."""

    def write(self, text: str, /) -> object:
        """Take a line, with its line break."""

    def flush(self) -> object:
        """Pass on what was taken."""


def write_events(out: TextOut) -> Callable[[BridgeEvent], None]:
    """Return an observer that writes each event as one line, at once.

        with open("run.jsonl", "w") as out:
            bridge = Bridge(tokens, on_event=write_events(out))
            await bridge.maintain_websocket("connection-id", "wss://host/ws", Agent())

    Args:
        out: Where to.  Whoever opened it closes it.
    """

    def write(event: BridgeEvent) -> None:
        # In one piece, so that threads that share a file do not tear each other's lines.
        out.write(as_line(as_record(event)) + "\n")
        out.flush()

    return write


def as_record(event: BridgeEvent) -> dict[str, Any]:
    """Return an event as plain values: `event`, `at`, `connection_id`, `session`, and its own.

    An error is its text; `error_type` is its class, and `code`, `by_peer`, `status` and
    `retry_after` are there where it has them.
    """
    return {"event": NAMES[type(event)], "at": plain(event.at), **facts(event)}


def sample(snapshots: Iterable[Snapshot], *, at: float) -> list[dict[str, Any]]:
    """Return a record for each session: how many messages it has received and sent so far.

    Messages make no events.  Whoever owns a timer takes samples, and the difference of
    two of them is a rate.

    Args:
        snapshots: What `Bridge.snapshots` returns.
        at: Unix time at which it did.
    """
    return [
        {
            "event": SAMPLED,
            "at": plain(at),
            "connection_id": snapshot.connection_id,
            "session": snapshot.session,
            "received": snapshot.counters.received,
            "sent": snapshot.counters.sent,
        }
        for snapshot in snapshots
    ]


def as_line(record: Mapping[str, Any]) -> str:
    """Return a record as one line of JSON, without the line break.

    Raises:
        ValueError: If it holds a number that JSON does not have.
        TypeError: If it holds anything else that JSON does not have.
    """
    # ASCII only: a line separator in a text would be another line to some readers.
    return json.dumps(record, allow_nan=False)
