"""What the gateway client keeps of an answer is what the strategies need."""

from typing import Any

import pytest

from dromos.model import AuthStrategy
from dromos.oauth._answers import _needed
from tests.auth.support import CANARY, applied
from tests.auth.test_bad_input import GOOD

NEVER = {"refresh_token": CANARY, "id_token": CANARY, "expires_in": 3600, "expired": False}


@pytest.mark.parametrize(("kind", "credentials", "config"), GOOD)
def test_a_strategy_works_with_what_is_kept_and_no_more_is_kept(
    kind: str, credentials: dict[str, Any], config: dict[str, Any]
):
    answer = credentials | NEVER | {"other": CANARY}

    kept = _needed(AuthStrategy(kind, config), answer)

    assert credentials == kept
    assert applied(kind, kept, config) == applied(kind, credentials, config)


@pytest.mark.parametrize(
    ("kind", "config", "kept"),
    [
        ("first_message", {"template": {"a": [{"b": "{a} {b}"}]}}, {"a", "b"}),
        ("first_message", {"template": '{"x": "{a}"}'}, {"a"}),
        ("first_message", {"template": 3}, {"a", "b", "access_token"}),
        ("first_message", {"template": "hello {other}"}, {"a", "b", "access_token"}),
        ("first_message", {"template": None}, {"access_token"}),
        ("first_message", {}, {"access_token"}),
        ("first_message", {"template": "{id_token}"}, {"id_token"}),
        ("headers", {"headers": {"A": "{a}", "B": ["{b}"]}}, {"a", "b"}),
        ("headers", {"headers": {"A": "text"}}, {"a", "b", "access_token"}),
        ("headers", {}, {"a", "b", "access_token"}),
        ("unknown", {"headers": {"A": "{a}"}}, {"a", "b", "access_token"}),
    ],
    ids=repr,
)
def test_templates_name_what_is_kept(kind: str, config: dict[str, Any], kept: set[str]):
    answer = {"a": "1", "b": "2", "access_token": "t"} | NEVER

    assert kept == set(_needed(AuthStrategy(kind, config), answer))


def test_a_template_of_any_depth_is_read():
    template: list[Any] = ["{a}"]
    for _ in range(5_000):
        template = [template]

    assert {"a": "1"} == _needed(
        AuthStrategy("first_message", {"template": template}), {"a": "1", "b": "2"}
    )


def test_a_field_that_is_missing_is_the_strategy_s_to_name():
    assert {"session": None} == _needed(AuthStrategy("cookie", {}), {"api_key": CANARY})
