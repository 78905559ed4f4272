"""What the options take that click alone would let through."""

import pytest
from click.testing import CliRunner

from dromos.cli.commands import cli


@pytest.mark.parametrize(
    "words",
    [
        ["watch", "--interval", "nan"],
        ["doctor", "ws://127.0.0.1:1", "--timeout", "NaN"],
        ["demo", "--rate", "nan"],
    ],
    ids=lambda words: words[0],
)
def test_what_is_no_number_is_in_no_range(words):
    outcome = CliRunner().invoke(cli, words)

    assert 2 == outcome.exit_code
    assert "is not a number" in outcome.stderr
