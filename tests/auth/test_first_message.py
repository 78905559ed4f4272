"""`first_message`: credentials in a message, and nothing else of theirs."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dromos.errors import PermanentError
from tests.auth.support import CANARY, URL, applied, refused, shows_nothing

SAFE = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"), min_size=1
)
EVIL = '","admin":true,"x":"'


def sent(template: Any, credentials: dict[str, Any]) -> str:
    made = applied("first_message", credentials, {"template": template})
    assert () == made.headers
    assert URL == made.url
    assert made.first_message is not None
    return made.first_message


@pytest.mark.parametrize("absent", [None, "", 3, [], {}, True, "{}", "[]"], ids=repr)
def test_by_default_it_is_what_home_assistant_wants(absent: Any):
    message = sent(absent, {"access_token": "tok"})

    assert '{"type": "auth", "access_token": "tok"}' == message


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"op": 1, "args": ["{k}", None, True]}, '{"op": 1, "args": ["k-1", null, true]}'),
        (["auth", {"{k}": "a {k} {{b}}"}], '["auth", {"{k}": "a k-1 {b}"}]'),
        ('{"op": "auth", "key": "{k}"}', '{"op": "auth", "key": "k-1"}'),
        (' ["auth","{k}"] ', '["auth", "k-1"]'),
        ('{"n": 1.50, "k": "\\u007bk\\u007d"}', '{"n": 1.5, "k": "k-1"}'),
        ("AUTH {k}", "AUTH k-1"),
        ("{k}", "k-1"),
        ('"{k}"', '"k-1"'),
        ('40{{"token":"{k}"}}', '40{"token":"k-1"}'),
        ("hello", "hello"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_template_is_filled(template: Any, expected: str):
    assert expected == sent(template, {"k": "k-1"})


@pytest.mark.parametrize(
    "template",
    [{"t": "{k}"}, '{"t": "{k}"}', '40{{"t":"{k}"}}', '40{{"\\"":0,"t":"{k}"}}'],
    ids=repr,
)
@given(value=SAFE)
def test_a_value_can_t_get_out_of_its_string(template: Any, value: str):
    message = sent(template, {"k": value})

    assert value == json.loads(message.removeprefix("40"))["t"]
    assert {"t", '"'} >= json.loads(message.removeprefix("40")).keys()


STRUCTURES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just("{k}") | st.just("a{k}b{{k}}"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def by_hand(value: Any, credential: str) -> Any:
    if isinstance(value, str):
        return {"{k}": credential, "a{k}b{{k}}": f"a{credential}b{{k}}"}[value]
    if isinstance(value, dict):
        return {key: by_hand(one, credential) for key, one in value.items()}
    if isinstance(value, list):
        return [by_hand(one, credential) for one in value]
    return value


@given(structure=STRUCTURES, value=SAFE, as_text=st.booleans())
def test_a_structure_keeps_its_shape(structure: Any, value: str, as_text: bool):
    assume(isinstance(structure, dict | list) and structure)

    message = sent(json.dumps(structure) if as_text else structure, {"k": value})

    assert by_hand(structure, value) == json.loads(message)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{", "holds a brace that encloses no credential field"),
        ('{"a": "{k}"', "holds a brace that encloses no credential field"),
        ({"a": "{"}, "holds a brace that encloses no credential field"),
        ({"a": ["{k!r}"]}, "holds a brace that encloses no credential field"),
        ("{{{k}}}", "has a field outside of double quotes, beside braces"),
        ('{{"a":{k}}}', "has a field outside of double quotes, beside braces"),
        ('x"a\\{k}"', "has a field after a backslash"),
        ({"a": float("nan")}, "can't be written as JSON"),
        ({"a": b"x"}, "can't be written as JSON"),
        ('{"a": 1e999}', "can't be written as JSON"),
    ],
    ids=repr,
)
def test_a_template_that_can_t_be_read_is_refused(template: Any, problem: str):
    message = refused("first_message", {"k": EVIL + CANARY}, {"template": template})

    assert message.startswith(f"config 'template' {problem}")


def test_a_template_too_deep_is_refused():
    template: list[Any] = []
    for _ in range(5_000):
        template = ["{k}", template]

    with pytest.raises(PermanentError, match="can't be written as JSON"):
        applied("first_message", {"k": CANARY}, {"template": template})


@pytest.mark.parametrize("template", [{"a": "{b}"}, '{"a": "{b}"}', "{b}"], ids=repr)
def test_a_missing_credential_is_named(template: Any):
    assert "credential field 'b' is missing" == refused(
        "first_message", {"k": CANARY}, {"template": template}
    )


@given(template=st.text(), value=st.text())
def test_whatever_the_template_it_is_filled_or_refused(template: str, value: str):
    try:
        applied("first_message", {"k": value, "access_token": CANARY}, {"template": template})
    except PermanentError as error:
        refusal = error
    else:
        return
    assert shows_nothing(refusal)


def test_it_does_not_show_itself():
    made = applied("first_message", {"access_token": CANARY})

    assert CANARY not in repr(made)
