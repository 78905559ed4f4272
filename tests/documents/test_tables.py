"""The tables of the reference say what the code does, and a row without a source is refused."""

import json
import logging
import re
from typing import Any

import pytest

from dromos import errors, events
from dromos._core import verdict
from dromos.cli.commands import cli
from dromos.telemetry.logs import NAMES, level_of
from tests.documents.pages import PAGES, load
from tests.telemetry.examples import example

tables = load("tables")


def cells(lines: list[str]) -> list[list[str]]:
    """The rows of a table, without its head."""
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("table", "mapping"),
    [
        ("close-codes", verdict.CLOSE_CODES),
        ("upgrade-statuses", verdict.UPGRADE_STATUSES),
        ("gateway-statuses", verdict.GATEWAY_STATUSES),
        ("grant-statuses", verdict.GRANT_STATUSES),
        ("grant-codes", verdict.GRANT_CODES),
    ],
)
def test_a_verdict_table_is_the_mapping_and_names_each_source(table: str, mapping: Any):
    rows = cells(tables.TABLES[table]())

    assert {f"`{key}`": tables.WORDS[value] for key, value in mapping.items()} == {
        row[0]: row[1] for row in rows
    }
    assert all(row[-1] for row in rows)


def test_a_verdict_without_a_source_is_refused():
    with pytest.raises(ValueError, match="without a source"):
        tables._source("a peer that restarts")
    with pytest.raises(ValueError, match="nobody says"):
        tables._source("[hearsay] a peer that restarts")


def test_an_rfc_is_a_link_to_its_section():
    source, reason = tables._source("[rfc 6455 7.4.1] going away: a deploy")

    assert ("[RFC 6455, 7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1)") == source
    assert "going away: a deploy" == reason


def test_every_event_is_listed_with_its_name_and_its_fields():
    text = "\n".join(tables.TABLES["events"]())

    for kind, name in NAMES.items():
        section = text.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0]
        assert f"`{name}`" in section
        own = set(kind.__dataclass_fields__) - set(events.BridgeEvent.__dataclass_fields__)
        assert own == set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))


def test_every_event_is_listed_with_each_level_that_it_may_be_logged_at():
    text = "\n".join(tables.TABLES["events"]())
    listed = dict(
        re.findall(r"^## (\w+)\n\nIn logs: `[^`]+`, ([A-Z]+(?: or [A-Z]+)*)\.$", text, re.M)
    )

    assert {kind.__name__ for kind in NAMES} == set(listed)
    assert "INFO or ERROR" == listed["SessionEnded"]
    assert "INFO or WARNING" == listed["Disconnected"]
    assert "WARNING or ERROR" == listed["RenewalFailed"]
    assert {"DEBUG"} == {listed["LatencyMeasured"]}
    for kind in NAMES:
        assert logging.getLevelName(level_of(example(kind))) in listed[kind.__name__].split(" or ")


def test_every_error_is_listed_below_its_base():
    text = "\n".join(tables.TABLES["errors"]())

    listed = re.findall(r"^## (\w+)", text, re.MULTILINE)
    assert set(errors.__all__) == set(listed)
    for name in listed[1:]:
        base = getattr(errors, name).__mro__[1].__name__
        assert listed.index(base) < listed.index(name)


def test_every_option_has_a_default_and_a_sentence():
    rows = cells(tables.TABLES["bridge-options"]())

    assert ["`tokens`", ""] == rows[0][:2]
    assert all(len(row) == 3 and row[1] and row[2] for row in rows[1:])
    assert ["`refresh_buffer`", "`300`"] == next(r[:2] for r in rows if "refresh_buffer" in r[0])


def test_every_command_is_listed_with_its_options_and_what_it_ends_with():
    text = "\n".join(tables.TABLES["commands"]())
    ends = {row[0]: row[1] for row in cells(tables.TABLES["exit-statuses"]())}

    assert {f"`dromos {name}`" for name in cli.commands} == set(ends)
    assert all(re.search(r"\b0\b", told) for told in ends.values())
    for name, command in cli.commands.items():
        section = text.partition(f"## dromos {name}\n")[2].partition("\n## ")[0]
        options = [option for option in command.params if option.opts[0].startswith("-")]
        assert all(f"`{option.opts[0]}`" in section for option in options)


def test_the_tables_are_the_same_each_time():
    assert all(table() == table() for table in tables.TABLES.values())


def test_every_table_is_on_a_page():
    asked = {name for page in PAGES for name in re.findall(r"```\{from-code\} (\S+)", page.text)}

    assert set(tables.TABLES) == asked


def test_the_options_of_a_configuration_are_those_that_the_command_lists():
    from dromos.cli.config import as_json

    text = "\n".join(tables.TABLES["config-options"]())
    told = json.loads(as_json())

    assert all(f"| `{each['name']}`" in text for each in told)
    assert {each["section"] for each in told} == set(re.findall(r"^## `\[+(\w+)", text, re.M))
