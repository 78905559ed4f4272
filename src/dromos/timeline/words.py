"""Times and counts as people read them."""

import math
from datetime import UTC, datetime

__all__ = ["counted", "date", "duration", "rate"]


def duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return _two(minutes // 60, "h", minutes % 60, "min")
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large:,} {unit} {small} {small_unit}" if small else f"{large:,} {unit}"


def date(moment: float) -> str:
    """Return a Unix time as a date and a time of day, in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def counted(count: int, thing: str, things: str = "") -> str:
    """Return a count with its noun, whose plural may be given."""
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


def rate(value: float, *, digits: int = 3) -> str:
    """Return a rate with so many digits that count."""
    if value == 0 or value >= 99.5:
        return f"{value:,.0f}"
    decimals = max(0, digits - 1 - math.floor(math.log10(value)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
