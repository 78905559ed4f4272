"""What the demonstration counted, and what it adds up to."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from dromos.demo.ledger import Fault, Ledger

__all__ = ["Gap", "Step", "Summary", "add_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the script.

    Attributes:
        name: Its key.
        title: What it shows, in a few words.
        passed: Whether everything went as scripted.
        outcome: What happened, or what went wrong.
        took: Seconds.
    """

    name: str
    title: str
    passed: bool
    outcome: str
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One gap, and the messages that it cost.

    Attributes:
        step: The scripted cause.
        seconds: From the fault until the session was connected again.
        without_link: How much of that no link was open, by the bridge's clock.
        unheard: Messages published while there was no link to carry them, or a silent one.
        in_flight: Messages written to a link that was destroyed before they arrived.
    """

    step: str
    seconds: float
    without_link: float
    unheard: int
    in_flight: int

    @property
    def lost(self) -> int:
        """Messages that this gap cost."""
        return self.unheard + self.in_flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result.  Everything is counted, on the far side or in the handler.

    Attributes:
        took: Seconds.
        steps: The steps that ran, in order.
        published: Numbers that the far side published, from the first to the last
            that it wrote to a link.
        written: Messages that it wrote, over all links: overlapping links both get one.
        handled: Calls of the handler's `on_message`.
        received: Different numbers among them.
        duplicates: Further copies of those, from overlapping links.
        lost: Numbers never received.
        unexplained: Lost numbers that no scripted fault accounts for.
        invented: Copies received that were never written.
        out_of_order: First copies that came after a higher number.
        links: Links that were opened.
        handovers: How many of them took over from an open one.
        lost_in_handovers: Numbers lost between such a link's dial and the old one's end.
        reconnects: How many ended a gap.
        refreshes: Refreshes that the gateway granted.
        longest_gap: In seconds, from the fault until the session was connected again.
        gaps: One for each scripted fault.
        expired_links: Links that the far side closed because their token had expired.
        errors: What else went wrong.
    """

    took: float
    steps: tuple[Step, ...]
    published: int
    written: int
    handled: int
    received: int
    duplicates: int
    lost: int
    unexplained: int
    invented: int
    out_of_order: int
    links: int
    handovers: int
    lost_in_handovers: int
    reconnects: int
    refreshes: int
    longest_gap: float
    gaps: tuple[Gap, ...]
    expired_links: int
    errors: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What did not go as scripted."""
        wrong = [f"{step.name}: {step.outcome}" for step in self.steps if not step.passed]
        claims = {
            f"{self.unexplained} messages were lost and no fault accounts for them": (
                self.unexplained
            ),
            f"{self.lost_in_handovers} messages were lost in hand-overs": self.lost_in_handovers,
            f"{self.invented} messages arrived that were never written": self.invented,
            f"{self.out_of_order} messages arrived out of order": self.out_of_order,
            f"{self.expired_links} links were still open when their token expired": (
                self.expired_links
            ),
            f"{self.reconnects} gaps, and the script caused {len(self.gaps)}": (
                self.reconnects != len(self.gaps)
            ),
            "nothing was received": self.received == 0,
        }
        return (*wrong, *(text for text, is_so in claims.items() if is_so), *self.errors)

    @property
    def passed(self) -> bool:
        """Whether everything went as scripted."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {
            "gaps": [asdict(gap) | {"lost": gap.lost} for gap in self.gaps],
            "passed": self.passed,
            "problems": list(self.problems),
        }


def add_up(
    ledger: Ledger,
    *,
    steps: Iterable[Step],
    faults: Iterable[Fault],
    handovers: Iterable[range],
    gaps: Iterable[float],
    took: float,
    links: int,
    refreshes: int,
    expired_links: int,
    errors: Iterable[str] = (),
) -> Summary:
    """Return the summary of a ledger.

    Args:
        ledger: What was written and heard.
        steps: The steps that ran.
        faults: The gaps that the script caused.
        handovers: The numbers published during each hand-over.
        gaps: How long no link was open, in seconds, for each time, scripted or not.
        took: Seconds.
        links: Links that were opened.
        refreshes: Refreshes that the gateway granted.
        expired_links: Links that the far side closed because their token had expired.
        errors: What else went wrong.
    """
    faults, handovers, gaps = tuple(faults), tuple(handovers), tuple(gaps)
    span, lost = ledger.span, ledger.lost
    blamed = {number: ledger.blame(number, faults) for number in lost}
    unexplained = [number for number, fault in blamed.items() if fault is None]
    return Summary(
        took=took,
        steps=tuple(steps),
        published=len(span),
        written=sum(len(reached) for reached in ledger.reached.values()),
        handled=ledger.handled,
        received=len(span) - len(lost),
        duplicates=ledger.handled - len(ledger.heard),
        lost=len(lost),
        unexplained=len(unexplained),
        invented=ledger.invented,
        out_of_order=ledger.out_of_order,
        links=links,
        handovers=len(handovers),
        lost_in_handovers=sum(1 for n in unexplained if any(n in period for period in handovers)),
        reconnects=len(gaps),
        refreshes=refreshes,
        longest_gap=max((*gaps, *(fault.seconds for fault in faults)), default=0.0),
        gaps=tuple(_gap(fault, blamed, ledger) for fault in faults),
        expired_links=expired_links,
        errors=tuple(errors),
    )


def _gap(fault: Fault, blamed: dict[int, Fault | None], ledger: Ledger) -> Gap:
    numbers = [number for number, cause in blamed.items() if cause is fault]
    in_flight = sum(1 for number in numbers if ledger.reached[number])
    return Gap(
        step=fault.step,
        seconds=fault.seconds,
        without_link=fault.without_link,
        unheard=len(numbers) - in_flight,
        in_flight=in_flight,
    )
