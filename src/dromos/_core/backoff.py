"""The delay before the next attempt, as arithmetic."""

from dromos.model import RetryPolicy, in_seconds

__all__ = ["FLOOR", "delay", "lengthened", "spread"]

FLOOR = 0.2
"""Seconds that every wait takes at least, whatever the policy says: a zero delay
is how clients take a recovering server down again."""

RETRY_AFTER_CAP = 3600.0


def spread(most: float, roll: float) -> float:
    """Seconds between the floor and `most`, as `roll`, uniform in [0, 1), decides."""
    return FLOOR + max(0.0, most - FLOOR) * roll


def delay(retry: RetryPolicy, *, failures: int, roll: float) -> float:
    """Seconds to wait after this many failures in a row (one, for the first).

    Args:
        retry: The user's policy.
        failures: Failures in a row, this one included.
        roll: Uniform in [0, 1).
    """
    least, most = in_seconds(retry.min_backoff), in_seconds(retry.max_backoff)
    # 2.0 ** 1024 overflows; long before that the cap has won.
    step = min(most, least * 2.0 ** min(max(failures - 1, 0), 60))
    if isinstance(retry.jitter, str):
        return spread(step, roll)
    jitter = in_seconds(retry.jitter)
    # Jitter is taken below the cap: above it, every agent that has reached the
    # cap would come back in step after an outage.
    step = min(step, max(least, most - jitter))
    return max(FLOOR, min(most, step + jitter * roll))


def lengthened(wait: float, *, least: float | None, roll: float) -> float:
    """Return `wait`, or what the server asked for where that is longer, up to an hour.

    Up to a tenth is added at random, because everybody was told the same.
    """
    if least is None:
        return wait
    return max(wait, min(RETRY_AFTER_CAP, least * (1 + 0.1 * roll)))
