"""What Autobahn's results mean: each case passes, or is an exception that was listed before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.cases import Engine

__all__ = ["PASSED", "Judgement", "Results", "behaviour", "judge", "unfit"]

Results = Mapping[str, Mapping[str, Any]]
"""What the server says of each case."""

PASSED: Final = ("OK", "NON-STRICT", "INFORMATIONAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be said of one engine.

    Attributes:
        excepted: The cases that failed as the list says.
        failed: Those that failed and are not on the list, with what the server said.
        spared: Those on the list that passed: it claims too little.
    """

    excepted: Sequence[str]
    failed: Mapping[str, str]
    spared: Sequence[str]

    @property
    def holds(self) -> bool:
        """Whether the engine does what we say of it, no less and no more."""
        return not self.failed and not self.spared


def judge(engine: Engine, cases: Sequence[str], results: Results) -> Judgement:
    """Judge what came of an engine's cases."""
    said = {case: behaviour(results.get(case)) for case in cases}
    bad = {case: what for case, what in said.items() if what not in PASSED}
    return Judgement(
        excepted=[case for case in bad if case in engine.exceptions],
        failed={case: what for case, what in bad.items() if case not in engine.exceptions},
        spared=[case for case in cases if case in engine.exceptions and case not in bad],
    )


def behaviour(result: Mapping[str, Any] | None) -> str:
    """Return what the server says of a case, in one word: the worse of frames and closing."""
    if result is None:
        return "NOT PLAYED"
    both = (str(result["behavior"]), str(result["behaviorClose"]))
    order = ("OK", "INFORMATIONAL", "NON-STRICT")
    return max(both, key=lambda word: order.index(word) if word in order else len(order))


def unfit(result: Mapping[str, Any] | None) -> bool:
    """Whether a case did not pass."""
    return behaviour(result) not in PASSED
