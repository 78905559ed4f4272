"""`headers`: several at once, from templates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos.errors import PermanentError
from tests.auth.support import CANARY, applied, refused

HELD = {"access_token": "tok", "tenant": "t-1", "odd name": "o", "braces": "{tenant}"}


def test_several_headers_are_set():
    made = applied(
        "headers",
        HELD,
        {"headers": {"Authorization": "Bearer {access_token}", "X-Tenant": "{tenant}", "X-A": "b"}},
    )

    assert (
        ("Authorization", "Bearer tok"),
        ("X-Tenant", "t-1"),
        ("X-A", "b"),
    ) == made.headers


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{tenant}{access_token}", "t-1tok"),
        ("{odd name}", "o"),
        ("{{tenant}}", "{tenant}"),
        ("{{{tenant}}}", "{t-1}"),
        ("{{", "{"),
        ("{braces}", "{tenant}"),  # what was filled in is not looked at again
    ],
)
def test_a_template_is_filled(template: str, expected: str):
    assert (("X", expected),) == applied("headers", HELD, {"headers": {"X": template}}).headers


@pytest.mark.parametrize("template", ["{", "}", "{tenant", "a}", "{}", "{tenant!r}", "{tenant:>9}"])
def test_a_brace_that_encloses_no_field_is_refused(template: str):
    message = refused("headers", {"tenant": CANARY}, {"headers": {"X": template}})

    assert message.startswith("config 'headers', header 'X', holds a brace that encloses no")


@pytest.mark.parametrize("field", ["tenant.x", "tenant[0]", "0", "__class__"])
def test_a_field_is_a_plain_name(field: str):
    assert f"credential field {field!r} is missing" == refused(
        "headers", {"tenant": CANARY}, {"headers": {"X": f"{{{field}}}"}}
    )


@pytest.mark.parametrize("absent", [None, "", "X: 1", 3, [], {}, [["X", "1"]]], ids=repr)
def test_the_headers_are_required(absent: Any):
    assert "config 'headers' is required for headers strategy" == refused(
        "headers", {"access_token": CANARY}, {"headers": absent}
    )


@pytest.mark.parametrize("template", [None, "", 3, ["{tenant}"]], ids=repr)
def test_a_header_without_text_is_refused(template: Any):
    assert "config 'headers' has no text for header 'X'" == refused(
        "headers", {"tenant": CANARY}, {"headers": {"X": template}}
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Host", "'Host' belongs to the protocol"),
        ("Sec-WebSocket-Key", "'Sec-WebSocket-Key' belongs to the protocol"),
        ("X\r\nEvil", r"'X\r\nEvil' is not an HTTP field name"),
        ("", "'' is not an HTTP field name"),
        ("x" * 300, f"'{'x' * 64}' is not an HTTP field name"),
    ],
)
def test_21_each_name_is_checked(name: str, problem: str):
    assert f"headers auth strategy: header {problem}" == refused(
        "headers", {"tenant": CANARY}, {"headers": {"X-A": "1", name: "{tenant}"}}
    )


@given(value=st.text(min_size=1))
def test_a_value_can_t_get_out_of_its_header(value: str):
    try:
        made = applied("headers", {"tenant": value}, {"headers": {"X": "a {tenant} b", "Y": "1"}})
    except PermanentError:
        return

    assert (("X", f"a {value} b"), ("Y", "1")) == made.headers
    assert value.isascii()
    assert not any(control in value for control in "\r\n\0")
