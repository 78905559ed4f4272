"""The table of options and the classes that take them: neither knows what the other does not."""

import inspect

import pytest

from dromos import Bridge, Outbox, RetryPolicy
from dromos._options import SessionOptions
from dromos.config.table import CONNECTION, SECTIONS
from dromos.dialers import PicowsDialer
from dromos.service.launch import RunOptions

ONLY_IN_PROGRAMS = {"tokens", "logger", "metrics", "on_event", "dialer", "dedupe"}
"""What only a program can give: objects of Python."""

OF_OTHER_TABLES = {"retry_policy": "retry", "outbox": "outbox", "verdicts": "verdicts"}

OPTIONS = [option for section in (*SECTIONS, CONNECTION) for option in section.options()]


@pytest.mark.parametrize("section", [*SECTIONS, CONNECTION], ids=lambda section: section.name)
def test_a_table_has_every_option_that_its_class_takes(section):
    takes = set(inspect.signature(section.takes).parameters)
    if section.takes is Bridge:
        takes -= ONLY_IN_PROGRAMS | set(OF_OTHER_TABLES)
    if section is CONNECTION:
        takes -= {"options"}

    assert takes == set(section.kinds)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_is_described_once_with_its_default(option):
    assert option.text, "its class's docstring says nothing of it"
    if not option.is_required:
        assert "efault" in option.text, "the docstring does not say what it is by default"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_default_can_be_written(option):
    default = None if option.is_required else option.default
    if default is None or default == {}:
        return
    written = list(default) if isinstance(default, tuple) else default

    assert default == option.kind.read(written)
    if option.variable("X_") and isinstance(default, int | float | str):
        assert default == option.kind.read(str(default))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_a_docstring_says_the_default_that_the_signature_has(option):
    default = None if option.is_required else option.default
    if isinstance(default, bool) or not isinstance(default, int | float):
        return
    shown = {2**20: "1 MiB", 4 * 2**20: "4 MiB", 2 * 2**20: "2 MiB"}.get(default, f"{default:g}")

    assert f"efault {shown}" in option.text


def test_no_two_options_of_a_table_share_a_variable():
    names = [option.variable("X_") for option in OPTIONS if option.variable("X_")]
    twice = {name for name in names if names.count(name) > 1}

    assert {"X_ALLOW_INSECURE_TRANSPORT"} == twice, "which is meant for both at once"


def test_run_takes_every_option_of_a_bridge_and_of_a_service():
    service = next(section for section in SECTIONS if section.name == "service")
    bridge = set(inspect.signature(Bridge).parameters) - {"tokens"}

    assert bridge | set(service.kinds) == set(RunOptions.__optional_keys__)


def test_the_dialer_s_table_has_what_the_dialer_takes():
    dialer = next(section for section in SECTIONS if section.name == "dialer")

    taken = set(inspect.signature(PicowsDialer).parameters)
    assert (taken - {"ssl"}) | {"engine", "ca_file"} == set(dialer.kinds)


def test_what_a_session_may_override_a_connection_may_as_well():
    from dromos.config.connections import _ENTRY

    assert set(SessionOptions.__optional_keys__) - {"retry_policy", "outbox", "dedupe"} == set(
        _ENTRY.kinds
    ) - set(CONNECTION.kinds)


def test_the_classes_are_those_that_are_documented():
    assert {Bridge, RetryPolicy, Outbox} < {section.takes for section in SECTIONS}
