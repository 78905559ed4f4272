"""The sessions of a bridge as JSON, for `dromos watch`, the page, and whoever asks."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dromos import __version__
from dromos.snapshot import Census, Snapshot

__all__ = ["is_ready", "sessions"]


def sessions(
    snapshots: Sequence[Snapshot], census: Census, *, now: float, offset: int
) -> dict[str, Any]:
    """Return a page of sessions as JSON values.

    Args:
        snapshots: The sessions of this page.
        census: What is true of all of them.
        now: Unix time, to which the times in it compare.
        offset: How many sessions come before this page.
    """
    return {
        "version": __version__,
        "now": now,
        "ready": is_ready(census),
        "draining": census.draining,
        "total": census.sessions,
        "open": census.open,
        "offset": offset,
        "sessions": [_session(snapshot) for snapshot in snapshots],
    }


def is_ready(census: Census) -> bool:
    """Whether every session has had its first token, and none is being drained.

    The far side has no say in it: while it is down there is nothing that another process
    could do better, and a roll-out should not stop for it.
    """
    return 0 < census.sessions == census.with_token and not census.draining


def _session(snapshot: Snapshot) -> dict[str, Any]:
    error = snapshot.last_error
    return {
        **{name: getattr(snapshot, name) for name in _AS_THEY_ARE},
        # What an error of ours says is fit to be logged; a foreign one may quote anything.
        "last_error": None if error is None else str(error) or type(error).__name__,
        "last_error_type": None if error is None else type(error).__name__,
        "counters": asdict(snapshot.counters),
    }


_AS_THEY_ARE = tuple(
    name for name in Snapshot.__dataclass_fields__ if name not in ("last_error", "counters")
)
"""The fields of a snapshot that are JSON values already."""
