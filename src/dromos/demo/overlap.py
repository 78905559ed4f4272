"""One hand-over of the run: timed by the bridge's events, counted by the far side's record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dromos.demo.ledger import Ledger
from dromos.events import (
    AttemptStarted,
    BridgeEvent,
    HandedOver,
    LatencyMeasured,
    LinkLost,
    LinkOpened,
    TokenObtained,
)

__all__ = ["HandOver", "Record", "first_handover"]

E = TypeVar("E", AttemptStarted, LinkOpened, LinkLost)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """A hand-over whose old link we let go, and which has ended.

    All times are seconds since the beginning.

    Attributes:
        old: The link that served before.
        new: The link that serves now.
        old_token: Which token the old link was opened with.
        new_token: Which token the new link was opened with.
        token_at: When that was obtained; None if it is the token of both.
        old_opened: When the old link opened.
        dialled: When the dial of the new link began.
        opened: When the new link opened.
        ready: When the agent was ready on it, by the agent's word; None if it did not say.
        proven: When it answered a ping, before it took over; None if it did not.
        switched: When it took over.
        ended: When the old link ended.
        until: How far the record goes: what came later is not known here.
        on_old: When each message was written to the old link, by the far side's clock.
        on_new: When each message was written to the new link.
        lost: Messages published between the dial and the old link's end, never received.
    """

    old: int
    new: int
    old_token: int
    new_token: int
    token_at: float | None
    old_opened: float
    dialled: float
    opened: float
    ready: float | None
    proven: float | None
    switched: float
    ended: float
    until: float
    on_old: tuple[float, ...]
    on_new: tuple[float, ...]
    lost: int

    @property
    def overlap(self) -> float:
        """For how many seconds both links were open."""
        return max(0.0, self.ended - self.opened)

    def during(self, written: Iterable[float]) -> int:
        """Return how many of these times lie in the overlap."""
        return sum(1 for at in written if self.opened <= at <= self.ended)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, the messages as their counts in the overlap."""
        plain = {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
            if name not in ("until", "on_old", "on_new")
        }
        return plain | {
            "overlap_ms": round(self.overlap * 1000, 3),
            "messages_on_old": self.during(self.on_old),
            "messages_on_new": self.during(self.on_new),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known beside the bridge's events.

    Attributes:
        ledger: What the far side wrote, and the handler heard.
        carriers: The far side's number for each of the bridge's links.
        ready: When the agent was ready on each link, as Unix time.
        began: When the demonstration began, as Unix time.
        now: The Unix time.
    """

    ledger: Ledger
    carriers: Mapping[int, int]
    ready: Mapping[int, float]
    began: float
    now: float


def first_handover(journal: Sequence[BridgeEvent], record: Record) -> HandOver | None:
    """Return the first hand-over whose old link was let go and has ended, or None."""
    for switch in journal:
        if isinstance(switch, HandedOver):
            end = _of(LinkLost, switch.old, journal)
            if end is not None and end.released:
                return _told(journal, switch, end, record)
    return None


def _told(
    journal: Sequence[BridgeEvent], switch: HandedOver, end: LinkLost, record: Record
) -> HandOver | None:
    old, new, began, ledger = switch.old, switch.new, record.began, record.ledger
    dial, opened = _of(AttemptStarted, new, journal), _of(LinkOpened, new, journal)
    old_opened = _of(LinkOpened, old, journal)
    before, token = _token(old, journal), _token(new, journal)
    if not (dial and opened and old_opened and before and token):
        return None
    proof, after = _proof(switch, journal), _of(LinkLost, new, journal)
    return HandOver(
        old=old,
        new=new,
        old_token=before.generation,
        new_token=token.generation,
        token_at=None if token.generation == before.generation else token.at - began,
        old_opened=old_opened.at - began,
        dialled=dial.at - began,
        opened=opened.at - began,
        ready=record.ready[new] - began if new in record.ready else None,
        proven=None if proof is None else proof.at - began,
        switched=switch.at - began,
        ended=end.at - began,
        until=(record.now if after is None else after.at) - began,
        on_old=_written(record, old),
        on_new=_written(record, new),
        lost=sum(1 for number in ledger.lost if dial.at <= ledger.at[number] <= end.at),
    )


def _of(kind: type[E], link: int, journal: Iterable[BridgeEvent]) -> E | None:
    return next((e for e in journal if isinstance(e, kind) and e.link == link), None)


def _token(link: int, journal: Iterable[BridgeEvent]) -> TokenObtained | None:
    """Return the newest token when the link was dialled."""
    newest = None
    for event in journal:
        if isinstance(event, TokenObtained):
            newest = event
        elif isinstance(event, AttemptStarted) and event.link == link:
            return newest
    return None


def _proof(switch: HandedOver, journal: Iterable[BridgeEvent]) -> LatencyMeasured | None:
    """Return the new link's last answer to a ping before it took over."""
    answer = None
    for event in journal:
        if event is switch:
            break
        if isinstance(event, LatencyMeasured) and event.link == switch.new:
            answer = event
    return answer


def _written(record: Record, link: int) -> tuple[float, ...]:
    carrier = record.carriers.get(link)
    return tuple(
        record.ledger.at[number] - record.began
        for number, links in record.ledger.reached.items()
        if carrier in links
    )
