"""A whole recording, read line by line, with an account of what could not be used."""

from collections import Counter
from collections.abc import Iterator
from typing import IO, Final

from dromos.timeline.entry import Entry, Unusable, parse

__all__ = ["Problems", "entries"]

LONGEST_LINE: Final = 2**20
"""Bytes; a longer line is passed over."""

MOST_LINES: Final = 5_000_000
"""Lines of one file that are looked at: some weeks of one session's, or a day of many."""

GZIP: Final = b"\x1f\x8b"
"""What every file of gzip's begins with (RFC 1952, 2.3.1)."""

SHOWN: Final = 5
"""Problems that are told one by one; of the others only the number."""


class Problems:
    """What could not be used, with the place where it is.

    Attributes:
        used: Lines that were used.
        others: Lines of JSON that are about something else.
    """

    def __init__(self) -> None:
        self.used = 0
        self.others = 0
        self._told: list[str] = []
        self._more: Counter[str] = Counter()

    def note(self, place: str, why: str) -> None:
        """Keep a problem."""
        if len(self._told) < SHOWN:
            self._told.append(f"{place}: {why}")
        else:
            self._more[why] += 1

    def __iter__(self) -> Iterator[str]:
        yield from self._told
        for why, count in self._more.most_common(SHOWN):
            yield f"{count} more: {why}"

    def __bool__(self) -> bool:
        return bool(self._told)


def entries(stream: IO[bytes], name: str, problems: Problems) -> Iterator[tuple[str, Entry]]:
    """Yield what the lines say, each with its place, such as `run.jsonl:12`.

    Args:
        stream: The recording.
        name: What to call it in a problem.
        problems: Is told of the lines that can't be used.
    """
    for number, line in enumerate(_lines(stream), 1):
        if number == 1 and line is not None and line.startswith(GZIP):
            problems.note(name, "it is compressed; unpack it first, such as with zcat")
            return
        place = f"{name}:{number}"
        if number > MOST_LINES:
            problems.note(place, f"not looked at, like all after line {MOST_LINES}")
            return
        if line is None:
            problems.note(place, f"passed over: it is longer than {LONGEST_LINE} bytes")
            continue
        if not line.strip():
            continue
        told = parse(line)
        if isinstance(told, Unusable):
            problems.note(place, f"passed over: {told.why}")
        elif told is None:
            problems.others += 1
        else:
            problems.used += 1
            yield place, told


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield lines, and None for one that is too long, of which no more is kept than that."""
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)
        yield None
