"""The state diagram in ARCHITECTURE.md is what the exploration found."""

import pytest

from tests.core.diagram import committed, edges_of, mermaid
from tests.core.exploration import Explore


@pytest.mark.slow  # explores a hundred thousand worlds, unless they were seen already
def test_the_diagram_in_the_document_is_the_one_that_was_explored(explored: Explore) -> None:
    """If it isn't: `make diagram`."""
    assert mermaid(edges_of(explored)) == committed()


def test_the_same_way_out_of_most_steps_is_drawn_once() -> None:
    edges = {(step, "LinkLost", "Waiting") for step in ("Settled", "Asking", "InBand", "Postponed")}

    drawn = mermaid({*edges, ("Doomed", "LinkLost", "Stopped")})

    assert "    Open --> Waiting : LinkLost\n    Doomed --> Stopped : LinkLost\n" in drawn
    assert "Asking" not in drawn
