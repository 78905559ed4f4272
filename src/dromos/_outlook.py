"""How much hope a failure leaves to programs, which may try once, or be started again."""

from dromos._core.verdict import Stage, judge
from dromos.errors import (
    BridgeError,
    ConnectionClosed,
    HandshakeError,
    PermanentError,
    TokenError,
)
from dromos.model import Verdict

__all__ = ["is_hopeless", "is_hopeless_dial", "may_heal", "verdict_on_end"]


def is_hopeless(error: TokenError) -> bool:
    """Whether a source that never gave a token should not be asked again."""
    verdict = judge(error, stage=Stage.TOKEN, worked=False, rejected=False)
    return verdict is not Verdict.TRANSIENT


def is_hopeless_dial(error: Exception) -> bool:
    """Whether a session would end with this failure of its first dial."""
    if isinstance(error, PermanentError):
        return True
    verdict = judge(error, stage=Stage.DIAL, worked=False, rejected=False)
    return verdict in (Verdict.PERMANENT, Verdict.INTERACTION)


def verdict_on_end(error: ConnectionClosed) -> Verdict:
    """Return what a session makes of a link that ended like this."""
    return judge(error, stage=Stage.LINK, worked=True, rejected=False)


def may_heal(error: PermanentError) -> bool:
    """Whether what has ended a session may be gone when the program is started again.

    So it is with a failure that is transient, and was only not waited for: the first token,
    or `max_attempts`.  Nobody can tell of what is not ours.
    """
    match error.__cause__:
        case None:
            return False
        case PermanentError() as cause:
            return may_heal(cause)
        case TokenError() as cause:
            return not is_hopeless(cause)
        case BridgeError() as cause:
            stage = Stage.DIAL if isinstance(cause, HandshakeError) else Stage.LINK
            verdict = judge(cause, stage=stage, worked=True, rejected=False)
            return verdict is Verdict.TRANSIENT
        case _:
            return True
