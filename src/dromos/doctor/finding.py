"""What one step of an examination found, and what all of them come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

__all__ = ["NAME_A_SOURCE", "Finding", "Outcome", "Report", "failed", "passed", "skipped", "warned"]

NAME_A_SOURCE: Final = (
    "say where tokens come from, to go on from here: --gateway, --token-env, --token-file, "
    "--issuer or --provider"
)
"""What to do about a far side that wants a token, where no source of them was named."""

Outcome: TypeAlias = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one step found.

    Attributes:
        step: The step.
        outcome: What came of it; `"warn"`: it works, and somebody should know more.
        said: What was found, in a sentence without its full stop.
        advice: What to do, or an empty text.
        hopeless: Whether trying again can't mend it.
        facts: The same for machines: JSON values, none of them secret.
        took: Seconds, or None for a step that did nothing.
    """

    step: str
    outcome: Outcome
    said: str
    advice: str = ""
    hopeless: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    took: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found, step by step."""

    target: str
    findings: Sequence[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return not any(finding.outcome == "fail" for finding in self.findings)

    @property
    def hopeless(self) -> bool:
        """Whether something failed that trying again can't mend."""
        return any(finding.hopeless for finding in self.findings if finding.outcome == "fail")


def passed(step: str, said: str, **facts: Any) -> Finding:
    """Return that a step passed."""
    return Finding(step=step, outcome="pass", said=said, facts=facts)


def warned(step: str, said: str, advice: str, **facts: Any) -> Finding:
    """Return that a step passed, with something to be known."""
    return Finding(step=step, outcome="warn", said=said, advice=advice, facts=facts)


def failed(step: str, said: str, advice: str, *, hopeless: bool = False, **facts: Any) -> Finding:
    """Return that a step failed."""
    return Finding(
        step=step, outcome="fail", said=said, advice=advice, hopeless=hopeless, facts=facts
    )


def skipped(step: str, why: str) -> Finding:
    """Return that a step was left out."""
    return Finding(step=step, outcome="skip", said=why)
