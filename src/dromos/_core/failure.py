"""What a failure leads to: another attempt after a delay, or the end."""

from dataclasses import dataclass, replace

from dromos._core import backoff
from dromos._core.policy import Moment, Past, Policy
from dromos._core.schedule import Lease, is_expired
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos.errors import (
    BridgeError,
    ConnectionClosed,
    InteractionRequired,
    PermanentError,
    TokenError,
)
from dromos.model import Verdict, in_seconds

__all__ = ["FLAPPING", "SHORT", "Again", "Failure", "Over", "weigh"]

FLAPPING = 5
"""Links in a row that lived under `SHORT` seconds, after which the backoff goes to its cap."""

SHORT = 10.0
"""Seconds."""

FIRST_TOKEN_TRIES = 3
FIRST_TOKEN_BUDGET = 10.0
"""The specification ends the session if it gets no token on its first attempt;
transient failures get this many tries, none of which starts after this many seconds."""

_PATIENCE = 'initial_token="retry" goes on trying'
"""What to do about it, so that it reads the same in a program and in a file."""

LIMITED_FIRST = 3
LIMITED_LATER = 5
LIMITED_SPAN = 600.0
BOUNDED_TRIES = 5
BOUNDED_SPAN = 300.0

GOING_AWAY_SPREAD = 5.0
"""Seconds over which agents come back to a far side that restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt or a link that ended.

    Attributes:
        error: Why.
        stage: Where.
        override: The verdict that the user's own mapping gives, or None.
        lease: The token that was in use, if there was one.
        lived: Seconds that the link was open; None if it never was.
        stable: Whether an open link had proven stability before this.
    """

    error: Exception
    stage: Stage
    override: Verdict | None = None
    lease: Lease | None = None
    lived: float | None = None
    stable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Try again.

    Attributes:
        delay: After this many seconds.
        past: What to remember.
        verdict: How the failure was judged.
        refused: The generation of the token that was refused, or None.
        counted: False for a token's plain expiry, which is no failure.
    """

    delay: float
    past: Past
    verdict: Verdict
    refused: int | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """Do not try again."""

    error: PermanentError
    verdict: Verdict


def weigh(policy: Policy, past: Past, failure: Failure, moment: Moment) -> Again | Over:
    """Return what follows from a failure, given what came before it."""
    if failure.stable:
        past = past.after_stability()
    if failure.override is None and _is_plain_expiry(failure, moment):
        delay = backoff.delay(policy.retry, failures=1, roll=moment.roll)
        past = replace(past, last_delay=delay)
        return Again(delay=delay, past=past, verdict=Verdict.TRANSIENT, counted=False)
    verdict = failure.override or judge(
        failure.error, stage=failure.stage, worked=past.had_token, rejected=past.rejected
    )
    past = _counted(past, failure, verdict, moment)
    if hopeless := _hopeless(policy, past, failure, verdict, moment):
        return Over(error=_final(failure.error, hopeless, verdict), verdict=verdict)
    delay = _delay(policy, past, failure, verdict, moment)
    if late := _too_late(policy, past, failure, moment.now + delay):
        return Over(error=_final(failure.error, late, verdict), verdict=verdict)
    refused = None
    if verdict is Verdict.AUTHENTICATION and failure.lease is not None:
        refused = failure.lease.generation
        past = replace(past, rejected=True)
    past = replace(past, last_delay=delay)
    return Again(delay=delay, past=past, verdict=verdict, refused=refused)


def _is_plain_expiry(failure: Failure, moment: Moment) -> bool:
    """Whether the far side closed the link because the link's own token had run out."""
    return (
        isinstance(failure.error, ConnectionClosed)
        and failure.error.by_peer
        and failure.lease is not None
        and is_expired(failure.lease, now=moment.now, wall=moment.wall)
    )


def _counted(past: Past, failure: Failure, verdict: Verdict, moment: Moment) -> Past:
    now = moment.now
    if not failure.stable:
        # The loss of a stable link is not a failed attempt.
        first = now if past.first_failure is None else past.first_failure
        past = replace(past, failures=past.failures + 1, first_failure=first)
    if failure.lived is not None:
        past = replace(past, short_links=past.short_links + 1 if failure.lived < SHORT else 0)
    if verdict is Verdict.LIMITED:
        since = now if past.limited_since is None else past.limited_since
        past = replace(past, limited=past.limited + 1, limited_since=since)
    else:
        past = replace(past, limited=0, limited_since=None)
    if verdict is Verdict.BOUNDED:
        since = now if past.bounded_since is None else past.bounded_since
        past = replace(past, bounded=past.bounded + 1, bounded_since=since)
    return past


def _hopeless(
    policy: Policy, past: Past, failure: Failure, verdict: Verdict, moment: Moment
) -> str | None:
    """Why no further attempt makes sense, or None."""
    now = moment.now
    match verdict:
        case Verdict.PERMANENT:
            return "trying again would not help"
        case Verdict.INTERACTION:
            return "only a person can help"
        case Verdict.BOUNDED if not past.had_token and policy.patient:
            return None
        case Verdict.BOUNDED if not past.had_token:
            return "there was never a token"
        case Verdict.BOUNDED if past.bounded > BOUNDED_TRIES and (
            now - (past.bounded_since or 0.0) >= BOUNDED_SPAN
        ):
            return f"it failed {past.bounded} times over {BOUNDED_SPAN:g} s"
        case Verdict.LIMITED if not past.ever_stable and past.limited >= LIMITED_FIRST:
            return f"it failed {past.limited} times in a row, and no link was ever stable"
        case Verdict.LIMITED if past.limited >= LIMITED_LATER and (
            now - (past.limited_since or 0.0) >= LIMITED_SPAN
        ):
            return f"it failed {past.limited} times in a row over {LIMITED_SPAN:g} s"
        case Verdict.AUTHENTICATION if _refused_afresh(past, failure, moment):
            return "a fresh token was refused as well"
        case _:
            pass
    attempts = policy.retry.max_attempts
    if attempts is not None and past.failures >= attempts and not failure.stable:
        return f"max_attempts is {attempts}"
    if _is_first_token(policy, past, failure) and past.failures >= FIRST_TOKEN_TRIES:
        return f"no token in {past.failures} tries at the start; {_PATIENCE}"
    return None


def _too_late(policy: Policy, past: Past, failure: Failure, at: float) -> str | None:
    """Why an attempt at this time would come too late, or None."""
    elapsed = policy.retry.max_elapsed
    first = past.first_failure
    if elapsed is not None and first is not None and at - first > in_seconds(elapsed):
        return f"max_elapsed is {in_seconds(elapsed):g} s"
    if _is_first_token(policy, past, failure) and at - past.started > FIRST_TOKEN_BUDGET:
        return f"no token within {FIRST_TOKEN_BUDGET:g} s at the start; {_PATIENCE}"
    return None


def _is_first_token(policy: Policy, past: Past, failure: Failure) -> bool:
    return failure.stage is Stage.TOKEN and not past.had_token and not policy.patient


def _refused_afresh(past: Past, failure: Failure, moment: Moment) -> bool:
    """Whether the token was got because of a refusal, and is refused while unexpired."""
    held = failure.lease
    return (
        held is not None
        and held.generation == past.fresh
        and not is_expired(held, now=moment.now, wall=moment.wall)
    )


def _delay(policy: Policy, past: Past, failure: Failure, verdict: Verdict, moment: Moment) -> float:
    retry, roll = policy.retry, moment.roll
    if verdict is Verdict.AUTHENTICATION:
        delay = backoff.delay(retry, failures=1, roll=roll)
    elif verdict is Verdict.LIMITED or past.short_links >= FLAPPING:
        delay = backoff.spread(in_seconds(retry.max_backoff), roll)
    elif failure.stable and _is_going_away(failure.error):
        delay = backoff.spread(GOING_AWAY_SPREAD, roll)
    else:
        # The loss of a stable link counts as no failure, and waits like the first.
        delay = backoff.delay(retry, failures=past.failures, roll=roll)
    return backoff.lengthened(delay, least=asked_to_wait(failure.error), roll=roll)


def _is_going_away(error: Exception) -> bool:
    return isinstance(error, ConnectionClosed) and error.code in (1001, 1012)


def _in_words(error: Exception) -> str:
    """What an error says; of a stranger's also what it is, since a KeyError is only a key."""
    kind, text = type(error).__name__, str(error)
    return text if text and isinstance(error, BridgeError) else f"{kind}: {text}" if text else kind


def _final(error: Exception, why: str, verdict: Verdict) -> PermanentError:
    if isinstance(error, PermanentError):
        return error
    message = f"{_in_words(error)}; {why}"
    final = PermanentError(message)
    if verdict is Verdict.INTERACTION:
        code = error.code if isinstance(error, TokenError) else None
        final = InteractionRequired(message, code=code)
    final.__cause__ = error
    return final
