"""Recordings, made line by line."""

import io
import json

from dromos.timeline.fold import fold
from dromos.timeline.read import Problems, entries

START = 1_795_500_000.0


def line(name, at=0.0, *, connection="c-1", session=1, **members):
    """Return a line as `dromos.telemetry.json_lines` writes it, `at` seconds after the start."""
    return {
        "event": name if name == "mark" else f"bridge.{name}",
        "at": START + at,
        "connection_id": connection,
        "session": session,
        **members,
    }


def told(*lines):
    """Return the story that lines tell, and the problems; text and bytes are lines as they are."""
    raw = b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )
    problems = Problems()
    story = fold(entries(io.BytesIO(raw), "run.jsonl", problems), problems.note)
    return story, problems


def opened(link, at, *, handover=False, took=0.1):
    """Return the lines of a link that opens, and serves."""
    first = line("attempt_started", at - took, link=link, handover=handover)
    second = line("link_opened", at, link=link, handover=handover, took=took)
    served = (
        line("handed_over", at + 0.05, old=link - 1, new=link)
        if handover
        else line("connected", at, link=link, gap=None)
    )
    return [first, second, served]


def lost(link, at, *, released=False, lived=1.0, code=1006):
    return line("link_lost", at, link=link, released=released, error="gone", code=code, lived=lived)


RUN = [
    line("session_started", endpoint="wss://far.example/ws"),
    line("token_obtained", 0.1, generation=1, strategy="oauth2", expires_in=8.0),
    *opened(1, 0.3),
    line("sampled", 1, received=0, sent=0),
    line("sampled", 2, received=100, sent=10),
    line("refresh_started", 5),
    line("token_obtained", 5.1, generation=2, strategy="oauth2", expires_in=8.0),
    *opened(2, 5.3, handover=True),
    lost(1, 5.5, released=True, code=1000),
    line("mark", 6, text="far side killed"),
    lost(2, 6.1),
    line("disconnected", 6.1, error="gone"),
    line("retry_scheduled", 6.1, delay=0.5, failures=1, error="gone"),
    line("attempt_started", 6.6, link=3, handover=False),
    line("attempt_failed", 6.7, link=3, error="refused", status=503, verdict="T"),
    line("retry_scheduled", 6.7, delay=0.9, failures=2, error="refused"),
    *opened(4, 7.7),
    line("handler_failed", 8, method="on_message", error="boom", error_type="ValueError"),
    line("sampled", 8, received=130, sent=11),
    lost(4, 9, released=True, code=1000),
    line("disconnected", 9),
    line("session_ended", 9, cancelled=False),
]
