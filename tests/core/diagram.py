"""Draws the state machine as the exploration found it: `python -m tests.core.diagram`.

An arrow from `Open` holds for each of its steps that has no arrow of its own for
the same event.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.core.exploration import POLICIES, Explore, explore
from tests.core.world import DEPARTING, WIDE

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"
BEGIN, END = "<!-- state diagram -->\n", "<!-- end -->"

STATES = ("Waiting", "Authorizing", "Dialing", "Greeting", "Open", "Stopped")
STEPS = ("Settled", "Asking", "InBand", "Succeeding", "Postponed", "Doomed")
NODES = (*STATES, *STEPS)

Edge = tuple[str, str, str]
"""From, by which event, to."""


def edges_of(explore: Explore) -> set[Edge]:
    """Every way from one state or step to another that the exploration has gone."""
    seen: set[Edge] = set()
    for name in POLICIES:
        seen |= explore(name, WIDE, 1).edges | explore(name, DEPARTING, 1).edges
    return {(_short(old), event, _short(new)) for old, event, new in seen if old != new}


def mermaid(edges: Iterable[Edge]) -> str:
    """Return the diagram as a fenced block."""
    edges = set(edges)
    anywhere = sorted(
        event
        for event in {event for _, event, _ in edges}
        if all(
            (node, event, "Stopped") in edges for node in NODES if node not in ("Stopped", "Open")
        )
    )
    edges = _hoisted({edge for edge in edges if edge[1] not in anywhere})
    inner = {edge for edge in edges if edge[0] in STEPS and edge[2] in STEPS}
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> Authorizing",
        *(f"    {line}" for line in _arrows(edges - inner)),
        "    state Open {",
        *(f"        {line}" for line in _arrows(inner)),
        "    }",
        "    Stopped --> [*]",
        f"    note right of Stopped : from anywhere by {' or '.join(anywhere)}",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _hoisted(edges: set[Edge]) -> set[Edge]:
    """Draw once, from `Open`, what most of its steps do."""
    ways: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for step in STEPS:
        for event in {event for old, event, _ in edges if old == step}:
            ways[event][step] = frozenset(
                new for old, by, new in edges if (old, by) == (step, event)
            )
    for event, by_step in ways.items():
        targets, steps = Counter(by_step.values()).most_common(1)[0]
        if steps > len(STEPS) / 2 and not targets & set(STEPS):
            same = {
                (step, event, new)
                for step in by_step
                for new in by_step[step]
                if by_step[step] == targets
            }
            edges = edges - same | {("Open", event, new) for new in targets}
    return edges


def _arrows(edges: set[Edge]) -> Iterator[str]:
    events: dict[tuple[str, str], list[str]] = defaultdict(list)
    for old, event, new in sorted(edges):
        events[old, new].append(event)
    for old, new in sorted(events, key=lambda pair: [NODES.index(node) for node in pair]):
        yield f"{old} --> {new} : {', '.join(events[old, new])}"


def _short(name: str) -> str:
    return name.removeprefix("Open.")


def committed() -> str:
    """The diagram as the document has it."""
    return DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Put the diagram into the document."""
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{DOCUMENT.name} has lost the mark {BEGIN!r}"
    assert end, f"{DOCUMENT.name} has lost the mark {END!r}"
    DOCUMENT.write_text(before + begin + mermaid(edges_of(explore)) + end + after)


if __name__ == "__main__":
    write()
