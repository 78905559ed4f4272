"""What a decision is made from beside the state: the rules, the past, and the moment."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from dromos.model import RetryPolicy

__all__ = ["Moment", "Past", "Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The three impurities, as arguments, and what others leave us.

    Attributes:
        now: Monotonic seconds.
        wall: Unix time.  A suspend or a clock step shows as a drift between the two.
        roll: Uniform in [0, 1).
        link: A link number that was never used before.
        ticket: A number for a question to the token cache, never used before.
        turn: When an attempt may begin, for a session that takes turns with others; None
            for any other, whose attempts begin when they are due.
    """

    now: float
    wall: float
    roll: float
    link: int
    ticket: int
    turn: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the user asked for, in seconds where it is a duration.

    Attributes:
        retry: Backoff, and when to give up.
        refresh_buffer: How early a token is renewed.
        renewal: `"handover"` opens the next link first, `"keep"` renews in memory only.
        in_band: Whether the handler renews the token on the live link.
        patient: Whether the first token may take for ever.
        max_link_age: After which a link is handed over; None never.
        connect_timeout: For `on_connect`.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    refresh_buffer: float = 300.0
    renewal: Literal["handover", "keep"] = "handover"
    in_band: bool = False
    patient: bool = False
    max_link_age: float | None = None
    connect_timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a session remembers of its failures.  A stable link clears most of it.

    Attributes:
        started: When the session began.
        had_token: Whether it ever had one.
        ever_stable: Whether it ever had a stable link.
        failures: Failed attempts in a row.
        first_failure: When the first of them failed.
        short_links: Links in a row that lived only briefly.
        limited: Limited verdicts in a row.
        limited_since: When the first of them fell.
        bounded: Bounded verdicts since the last token.
        bounded_since: When the first of them fell.
        rejected: Whether a token was refused.
        fresh: The generation that was obtained because of that.
        last_delay: The last wait; stability takes at least as long.
        asked: When a newer token was last asked for.
    """

    started: float = 0.0
    had_token: bool = False
    ever_stable: bool = False
    failures: int = 0
    first_failure: float | None = None
    short_links: int = 0
    limited: int = 0
    limited_since: float | None = None
    bounded: int = 0
    bounded_since: float | None = None
    rejected: bool = False
    fresh: int | None = None
    last_delay: float = 0.0
    asked: float | None = None

    def after_line(self, seconds: float) -> Self:
        """Forget the time that it stands in line: budgets are for what others do."""
        first = None if self.first_failure is None else self.first_failure + seconds
        return replace(self, started=self.started + seconds, first_failure=first)

    def after_stability(self) -> Self:
        """Forget the failures: a link has proven stable."""
        return replace(
            self,
            ever_stable=True,
            failures=0,
            first_failure=None,
            short_links=0,
            limited=0,
            limited_since=None,
            rejected=False,
            fresh=None,
            last_delay=0.0,
        )

    def with_token(self, generation: int, *, replaced: bool) -> Self:
        """Remember that a token was obtained; `replaced` if because of a refusal."""
        past = replace(self, had_token=True, bounded=0, bounded_since=None)
        return replace(past, fresh=generation) if replaced else past
