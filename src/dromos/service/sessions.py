"""The sessions of a bridge as JSON, for `dromos watch`, the page, and whoever asks."""

from collections.abc import Sequence
from typing import Any

from dromos import __version__
from dromos.snapshot import Counters, Snapshot, Vitals
from dromos.telemetry.facts import text_of

__all__ = ["is_ready", "sessions"]


def sessions(
    snapshots: Sequence[Snapshot], vitals: Vitals, *, now: float, offset: int
) -> dict[str, Any]:
    """Return a page of sessions as JSON values.

    Args:
        snapshots: The sessions of this page.
        vitals: What is true of all of them.
        now: Unix time, to which the times in it compare.
        offset: How many sessions come before this page.
    """
    return {
        "version": __version__,
        "now": now,
        "ready": is_ready(vitals),
        "draining": vitals.draining,
        "total": vitals.sessions,
        "open": vitals.open,
        "offset": offset,
        "sessions": [_session(snapshot) for snapshot in snapshots],
    }


def is_ready(vitals: Vitals) -> bool:
    """Whether every session has had its first token, and none is being drained.

    The far side has no say in it: while it is down there is nothing that another process
    could do better, and a roll-out should not stop for it.
    """
    return 0 < vitals.sessions == vitals.with_token and not vitals.draining


def _session(snapshot: Snapshot) -> dict[str, Any]:
    error = snapshot.last_error
    return {
        **{name: getattr(snapshot, name) for name in _AS_THEY_ARE},
        "last_error": None if error is None else text_of(error),
        "last_error_type": None if error is None else type(error).__name__,
        "counters": {name: getattr(snapshot.counters, name) for name in _COUNTERS},
    }


_AS_THEY_ARE = tuple(
    name for name in Snapshot.__dataclass_fields__ if name not in ("last_error", "counters")
)
"""The fields of a snapshot that are JSON values already."""

_COUNTERS = tuple(Counters.__dataclass_fields__)
