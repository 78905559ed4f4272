"""`cookie`: a credential beside the cookies that are there."""

from http.cookies import SimpleCookie
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.auth.support import CANARY, applied, refused

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# RFC 6265, 4.1.1: cookie-octet
OCTETS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\')


def test_a_session_is_presented():
    made = applied("cookie", {"session": "abc"}, {"cookie_name": "sid"})

    assert (("Cookie", "sid=abc"),) == made.headers


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ((("Cookie", "a=1"),), "a=1; sid=new"),
        ((("cookie", "a=1; b=2"), ("X", "1"), ("COOKIE", " c=3 ;")), "a=1; b=2; c=3; sid=new"),
        ((("Cookie", "sid=old; a=1; sid=older"),), "a=1; sid=new"),
        ((("Cookie", "sidx=1; SID=2; xsid=sid=3"),), "sidx=1; SID=2; xsid=sid=3; sid=new"),
        ((("Cookie", ""),), "sid=new"),
    ],
)
def test_it_joins_the_cookies_that_are_there(present: tuple[tuple[str, str], ...], expected: str):
    made = applied(
        "cookie",
        {"k": "new"},
        {"cookie_name": "sid", "credential_field": "k"},
        headers=present,
    )

    assert [expected] == [value for name, value in made.headers if name.lower() == "cookie"]
    assert made.headers[:-1] == tuple(pair for pair in present if pair[0].lower() != "cookie")


@pytest.mark.parametrize("absent", [None, "", 3, [], {}], ids=repr)
def test_the_name_is_required(absent: Any):
    assert "config 'cookie_name' is required for cookie strategy" == refused(
        "cookie", {"session": CANARY}, {"cookie_name": absent}
    )


@pytest.mark.parametrize("name", ["a b", "a=b", "a;b", "a,b", "a\r\nX", "é", 'a"', "a:b", "a/b"])
def test_21_a_name_that_is_no_token_is_refused(name: str):
    assert "config 'cookie_name' holds characters" in refused(
        "cookie", {"session": CANARY}, {"cookie_name": name}
    )


@pytest.mark.parametrize(
    "value",
    [f"{CANARY}{end}" for end in [" ", ";", "; a=1", ",", '"', "\\", "é"]]
    + [f'"{CANARY}', f'"{CANARY}"x"', '"'],
)
def test_4_a_value_that_no_cookie_may_hold_is_refused(value: str):
    assert "credential field 'session' holds characters that no cookie may hold" in refused(
        "cookie", {"session": value}, {"cookie_name": "sid"}
    )


@pytest.mark.parametrize("value", ['"quoted"', '""', "a=b", "a:b/c?[d]{e}<f>(g)@%41"])
def test_a_value_may_be_all_that_the_grammar_allows(value: str):
    made = applied("cookie", {"session": value}, {"cookie_name": "sid"})

    assert (("Cookie", f"sid={value}"),) == made.headers


@given(name=st.text(TOKEN, min_size=1), value=st.text(OCTETS, min_size=1))
def test_a_server_reads_what_was_presented(name: str, value: str):
    assume(not name.startswith("$"))  # this reader takes `$Version` and its like for something else
    made = applied(
        "cookie", {"session": value}, {"cookie_name": name}, headers=(("Cookie", "other=1"),)
    )

    read: SimpleCookie = SimpleCookie(made.headers[0][1])

    assert "1" == read["other"].value
    # It takes `path` and its like for attributes of a cookie.
    if name.lower() not in read["other"]:
        assert value == read[name].value
        assert {"other", name} == set(read)
