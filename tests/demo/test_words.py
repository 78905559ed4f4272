"""Every event has words, and no words can steer a terminal."""

import pytest

from dromos import events
from dromos.demo.words import describe, escape
from dromos.errors import HandshakeError

SAMPLES = {
    "endpoint": "ws://x",
    "error": HandshakeError("refused", status=401),
    "expires_in": 7.25,
    "strategy": "oauth2",
    "method": "on_message",
    "verdict": "T",
    "cancelled": False,
    "released": False,
    "handover": True,
}
KINDS = [getattr(events, name) for name in events.__all__ if name != "BridgeEvent"]


def sample(kind, **given):
    known = {name: SAMPLES.get(name, 1) for name in kind.__dataclass_fields__}
    return kind(**(known | {"connection_id": "c-1"} | given))


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_words(kind):
    assert describe(sample(kind))


def test_what_is_absent_is_said_in_words():
    assert "never expires" in describe(sample(events.TokenObtained, expires_in=None))
    assert "no further try" in describe(sample(events.RenewalFailed, retry_in=None))
    assert describe(sample(events.Connected, gap=None)) == "connected, on link 1"
    assert describe(sample(events.Disconnected, error=None)) == "disconnected"
    assert describe(sample(events.SessionEnded, error=None)) == "session closed"
    ended = sample(events.SessionEnded, error=None, cancelled=True)
    assert describe(ended) == "session cancelled"
    assert "released" in describe(sample(events.LinkLost, released=True))


def test_an_event_of_the_future_has_no_words_yet():
    assert describe(events.BridgeEvent(connection_id="c", session=1, at=0.0)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text\twith tab", "plain text\twith tab"),
        ("größer 日本 🎉", "größer 日本 🎉"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r", "a\\nb\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x00\x7f", "\\x00\\x7f"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text, shown):
    assert escape(text) == shown
