"""Who was told which number, who heard it, and what a missing one is due to."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Fault", "Ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A gap that the script caused.

    Attributes:
        step: The step that caused it.
        after: The last number published before it.
        until: The last number published when the session was connected again.
        links: The links that it ended.
        seconds: From the fault until the session was connected again.
        without_link: How much of that no link was open, by the bridge's clock.
    """

    step: str
    after: int
    until: int
    links: frozenset[int]
    seconds: float
    without_link: float


class Ledger:
    """Who was told which number, and who heard it."""

    def __init__(self) -> None:
        self.reached: dict[int, tuple[int, ...]] = {}
        self.at: dict[int, float] = {}
        self.heard: Counter[int] = Counter()
        self.out_of_order = 0
        self._highest = 0

    def publish(self, number: int, links: Iterable[int], at: float = 0.0) -> None:
        """The far side wrote this number to these links, at this Unix time."""
        self.reached[number] = tuple(links)
        self.at[number] = at

    def hear(self, number: int) -> None:
        """The handler was called with this number."""
        if not self.heard[number] and number < self._highest:
            self.out_of_order += 1
        self._highest = max(self._highest, number)
        self.heard[number] += 1

    @property
    def handled(self) -> int:
        """How often the handler was called."""
        return self.heard.total()

    @property
    def span(self) -> range:
        """The numbers from the first to the last that was written to a link."""
        written = [number for number, links in self.reached.items() if links]
        return range(min(written), max(written) + 1) if written else range(0)

    @property
    def lost(self) -> list[int]:
        """The numbers of the span that were never heard."""
        return [number for number in self.span if not self.heard[number]]

    @property
    def invented(self) -> int:
        """Copies that were heard and never written."""
        return sum(
            max(0, copies - len(self.reached.get(number, ())))
            for number, copies in self.heard.items()
        )

    def blame(self, number: int, faults: Iterable[Fault]) -> Fault | None:
        """Return the fault that a lost number is due to, or None."""
        links = self.reached[number]
        for fault in faults:
            if links and fault.links.intersection(links):
                return fault
            if not links and fault.after < number <= fault.until:
                return fault
        return None
