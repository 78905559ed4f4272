"""Answers of the real gateway, captured byte by byte, and of its older and stranger kin."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dromos.errors import InteractionRequired, TokenError
from dromos.oauth._answers import Asked, Reading, read_token, refusal
from dromos.oauth._expiry import duration, http_date, moment, retry_after, to_local
from dromos.oauth._http import Answer
from dromos.oauth._text import clean, origin_of

NOW = 1_795_402_541.0  # 2026-11-23T02:55:41Z
DATE = "Mon, 23 Nov 2026 02:55:41 GMT"
ASKED = Asked(step="token", subject="the token request", connection_id="c", origin="http://g:1")
REFRESH = dataclasses.replace(ASKED, step="refresh")


def named(value: object) -> str:
    """Name a parameter, however long it is."""
    return f"{type(value).__name__} {value!a:.40}"


def answer(
    body: str | bytes = b"", *, status: int = 200, at: float = NOW, **headers: str
) -> Answer:
    return Answer(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body.encode() if isinstance(body, str) else body,
        started=at,
        at=at,
    )


def read(body: str | bytes, **more: Any) -> Reading:
    found = read_token(answer(body, **more), ASKED)
    assert isinstance(found, Reading), found
    return found


def unread(body: str | bytes, **more: Any) -> TokenError:
    found = read_token(answer(body, **more), ASKED)
    assert isinstance(found, TokenError)
    assert found.malformed
    assert found.source == "gateway"
    return found


ACTIVE = (
    '{"access_token":"at-1","refresh_token":"rt-1","token_type":"Bearer",'
    '"strategy":{"type":"oauth2"},"credentials":{"access_token":"at-1","custom_extra":{"k":1},'
    '"expired":false,"expires_at":"2026-11-23T03:55:41Z","expires_in":3600,'
    '"refresh_token":"rt-1","scope":"a b","token_type":"Bearer"}}'
)


# --- Captured successes ---------------------------------------------------------------------------


def test_an_active_oauth2_token_has_its_expiry_and_its_lifetime_as_issued():
    found = read(ACTIVE)

    assert {"access_token": "at-1"} == dict(found.token.credentials)
    assert "oauth2" == found.token.strategy.type
    assert NOW + 3600 == found.token.expires_at
    assert 3600 == found.token.lifetime
    assert found.refreshable


def test_nothing_of_a_token_is_kept_that_its_strategy_does_not_need():
    assert "rt-1" not in repr(dict(read(ACTIVE).token.credentials))
    assert "custom_extra" not in read(ACTIVE).token.credentials


def test_an_expired_token_is_read_and_has_expired():
    found = read(
        '{"access_token":"at-15","refresh_token":"rt-15","token_type":"Bearer",'
        '"strategy":{"type":"oauth2"},"credentials":{"access_token":"at-15",'
        '"custom_extra":{"k":1},"expired":true,"expires_at":"2026-11-23T02:56:24Z",'
        '"expires_in":2,"refresh_token":"rt-15","scope":"a b","token_type":"Bearer"}}'
    )

    assert NOW == found.token.expires_at  # "expired" outweighs a date 43 s ahead
    assert 2 == found.token.lifetime


def test_a_token_without_any_expiry_never_expires():
    found = read(
        '{"access_token":"at-12","refresh_token":"rt-12","token_type":"Bearer",'
        '"strategy":{"type":"oauth2"},"credentials":{"access_token":"at-12",'
        '"custom_extra":{"k":1},"refresh_token":"rt-12","scope":"a b","token_type":"Bearer"}}'
    )

    assert found.token.expires_at is None
    assert found.token.lifetime is None


def test_a_lifetime_in_a_string_is_no_expiry_because_nobody_knows_since_when():
    found = read(
        '{"access_token":"at-13","token_type":"Bearer","strategy":{"type":"oauth2"},'
        '"credentials":{"access_token":"at-13","custom_extra":{"k":1},"expires_in":"3600",'
        '"refresh_token":"rt-13","scope":"a b","token_type":"Bearer"}}'
    )

    assert found.token.expires_at is None
    assert 3600 == found.token.lifetime


def test_a_numeric_expiry_of_the_provider_is_understood():
    found = read(
        '{"access_token":"at-14","token_type":"Bearer","strategy":{"type":"oauth2"},'
        '"credentials":{"access_token":"at-14","custom_extra":{"k":1},"expires_at":1893456000,'
        '"refresh_token":"rt-14","scope":"a b","token_type":"Bearer"}}'
    )

    assert 1893456000 == found.token.expires_at


def test_a_static_key_comes_with_its_strategy():
    found = read(
        '{"strategy":{"config":{"credential_field":"api_key","header_name":"X-Sig-Key",'
        '"value_prefix":"Tok "},"type":"header"},"credentials":{"api_key":"k-123"}}'
    )

    assert "header" == found.token.strategy.type
    assert "X-Sig-Key" == found.token.strategy.config["header_name"]
    assert {"api_key": "k-123"} == dict(found.token.credentials)
    assert not found.refreshable


def test_a_static_key_without_a_strategy_of_its_own_goes_into_x_api_key():
    found = read(
        '{"strategy":{"config":{"credential_field":"api_key","header_name":"X-API-Key"},'
        '"type":"header"},"credentials":{"api_key":"k-123"}}'
    )

    assert "X-API-Key" == found.token.strategy.config["header_name"]


@pytest.mark.parametrize(
    "body",
    [
        '{"access_token":"at-2","refresh_token":"rt-2","token_type":"Bearer"}',
        '{"access_token":"at-5","token_type":"Bearer"}',
    ],
)
def test_the_answer_to_a_refresh_is_a_token_without_an_expiry(body: str):
    found = read(body)

    assert "oauth2" == found.token.strategy.type
    assert found.token.expires_at is None


def test_a_direct_broker_tells_the_lifetime_with_the_refresh():
    found = read(
        '{"access_token":"at-3","custom_extra":{"k":1},"expires_in":3600,'
        '"refresh_token":"rt-3","scope":"a b","token_type":"Bearer"}'
    )

    assert 3600 == found.lifetime


# --- Older and stranger shapes --------------------------------------------------------------------


def test_the_grpc_gateway_wraps_the_token():
    assert "at-1" == read(f'{{"token": {ACTIVE}}}').token.access_token


@pytest.mark.parametrize(
    "body",
    [
        '{"strategy":{"type":"oauth2"}}',
        '{"strategy":{"type":"header"},"credentials":{}}',
        '{"strategy":"header","credentials":{"api_key":"k"}}',
        '{"strategy":{"type":7},"credentials":{"api_key":"k"}}',
    ],
)
def test_a_strategy_without_credentials_or_credentials_without_one_are_malformed(body: str):
    assert "k" not in str(unread(body)).split("used:")[1].split()


@pytest.mark.parametrize("status", ["null", "502", "true", '"400"'])
def test_a_502_that_tells_no_refusal_stays_a_502(status: str):
    error = refusal(
        answer(f'{{"error":"broker_error","status":{status}}}', status=502),
        dataclasses.replace(ASKED, step="request"),
    )

    assert isinstance(error, TokenError)
    assert 502 == error.status


@pytest.mark.parametrize("body", ['{"token":{}}', '{"token":null}', "{}", "[]", '"x"', "", " \n"])
def test_an_answer_without_a_token_is_malformed(body: str):
    assert 200 == unread(body).status


def test_the_flat_answer_of_an_old_gateway_is_read():
    found = read(
        '{"access_token":"a","token_type":"bearer","expires_in":60,"scope":"s",'
        '"expires_at":"2026-11-23T02:56:41+00:00","expired":false}'
    )

    assert NOW + 60 == found.token.expires_at
    assert {"access_token": "a"} == dict(found.token.credentials)


def test_credentials_are_built_from_the_root_where_they_are_absent():
    found = read('{"strategy":{"type":"basic_auth"},"username":"u","password":"p"}')

    assert {"username": "u", "password": "p"} == dict(found.token.credentials)


def test_an_unknown_strategy_keeps_its_credentials_but_no_refresh_token():
    found = read(
        '{"strategy":{"type":"mine"},"credentials":{"a":1,"refresh_token":"r","id_token":"i",'
        '"expired":false,"expires_at":"2026-11-23T03:55:41Z"}}'
    )

    assert {"a": 1} == dict(found.token.credentials)
    assert NOW + 3600 == found.token.expires_at


def test_the_fields_that_the_settings_name_are_kept():
    found = read(
        '{"strategy":{"type":"basic_auth","config":{"username_field":"u"}},'
        '"credentials":{"u":"bob","password":"pw","other":"x"}}'
    )

    assert {"u": "bob", "password": "pw"} == dict(found.token.credentials)


def test_a_missing_field_is_left_for_the_strategy_to_complain_about():
    found = read('{"strategy":{"type":"header"},"credentials":{"key":"x"}}')

    assert {"api_key": None} == dict(found.token.credentials)


def test_the_same_credentials_have_the_same_mark_whatever_surrounds_them():
    one, two = read(ACTIVE), read('{"access_token":"at-1"}')

    assert one.mark == two.mark
    assert one.mark != read('{"access_token":"at-2"}').mark


def test_row_get_token_decodes_access_token_with_numeric_expires_in():
    """nexus-sdk `TestGetToken`."""
    found = read('{"access_token":"abc","expires_in":3600}')

    assert "abc" == found.token.access_token
    assert 3600 == found.token.lifetime


# --- 4, 27: illegal tokens ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["CANARY\n", "CAN\r\nX-Evil: ARY", "CAN ARY", "CAN\0ARY", "CÄNARY", "CANARY" * 200_000, "\t"],
    ids=named,
)
def test_4_an_illegal_token_is_a_clean_error_that_does_not_show_it(token: str):
    error = unread(json.dumps({"access_token": token}))

    assert "CAN" not in str(error) + repr(error)
    assert "access_token" in str(error)


@pytest.mark.parametrize("token", [17, True, ["a"], {"a": "b"}])
def test_4_a_token_that_is_no_string_is_refused(token: object):
    assert "access_token" in str(unread(json.dumps({"access_token": token})))


@pytest.mark.parametrize("kind", ["mac", "N_A", "DPoP", "", 3, ["bearer"]])
def test_27_a_token_type_that_is_not_bearer_is_refused(kind: object):
    assert "token_type" in str(unread(json.dumps({"access_token": "a", "token_type": kind})))


@pytest.mark.parametrize("more", [{}, {"token_type": None}, {"token_type": "bearer"}])
def test_27_bearer_in_any_case_or_no_type_at_all_is_accepted(more: dict[str, object]):
    assert "a" == read(json.dumps({"access_token": "a", **more})).token.access_token


# --- 12: expiry in every form ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-23T02:55:41Z", NOW),
        ("2026-11-23T05:55:41+03:00", NOW),
        ("2026-11-22T21:55:41-05:00", NOW),
        ("2026-11-23T02:55:41.5Z", NOW + 0.5),
        ("2026-11-23T02:55:41.500000001Z", NOW + 0.5),
        ("2026-11-23t02:55:41z", NOW),
        ("2026-11-23 02:55:41", NOW),
        (NOW, NOW),
        (int(NOW), NOW),
        (str(int(NOW)), NOW),
        (f" {NOW} ", NOW),
        (NOW * 1000, NOW),
        (str(int(NOW * 1000)), NOW),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+03:00", None),
        (0, None),
        (-1, None),
        ("-62135596800", None),
        ("", None),
        ("soon", None),
        ("2026-13-99T99:99:99Z", None),
        ("9" * 400, None),
        (10**400, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e9999", None),
        ("nan", None),
        ([], None),
        ({}, None),
        (None, None),
    ],
    ids=named,
)
def test_12_an_expiry_is_understood_or_ignored(value: object, expected: float | None):
    assert expected == moment(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3600, 3600.0), ("3600", 3600.0), (3600.5, 3600.5), (3.6e3, 3600.0), ("3600.5", 3600.5),
        (0, None), (-1, None), (True, None), ([], None), (float("nan"), None), ("1e9999", None),
        (None, None), ("1_000", None), ("٣", None),
    ],
    ids=named,
)  # fmt: skip
def test_12_a_lifetime_is_understood_or_ignored(value: object, expected: float | None):
    assert expected == duration(value)


@pytest.mark.parametrize("life", ["0", "-1", '"3600"', "3600.5", "1e9999", "NaN", "true", "[]"])
def test_12_no_lifetime_breaks_the_reading_of_a_token(life: str):
    assert "a" == read(f'{{"access_token":"a","expires_in":{life}}}').token.access_token


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.binary() | st.none())
def test_12_nothing_at_all_breaks_the_reading_of_an_expiry(value: object):
    found = moment(value)

    assert found is None or found > 0


def test_the_first_place_that_tells_an_expiry_wins():
    body = {
        "access_token": "a",
        "expiry": NOW + 3,
        "expires_at": NOW + 2,
        "credentials": {"access_token": "a", "expires_at": NOW + 1},
    }
    assert NOW + 1 == read(json.dumps(body)).token.expires_at

    body["credentials"] = {"access_token": "a", "expires_at": 0}
    assert NOW + 2 == read(json.dumps(body)).token.expires_at

    body["expires_at"] = "0001-01-01T00:00:00Z"
    assert NOW + 3 == read(json.dumps(body)).token.expires_at


@pytest.mark.parametrize("skew", [-600.0, 0.0, 600.0, 86_400.0])
def test_14_a_clock_that_is_wrong_on_either_side_cancels_out(skew: float):
    assert NOW + skew + 3600 == read(ACTIVE, at=NOW + skew, date=DATE).token.expires_at


def test_14_without_a_date_the_local_clock_counts():
    assert NOW + 3600 == read(ACTIVE, at=NOW + 600).token.expires_at
    assert NOW == to_local(NOW, {"date": "yesterday"}, at=5.0)


# --- Captured refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500, 502, 503])
@pytest.mark.parametrize("asked", [ASKED, REFRESH])
def test_an_empty_refusal_keeps_its_status(status: int, asked: Asked):
    error = refusal(answer(status=status), asked)

    assert isinstance(error, TokenError)
    assert (status, asked.step, "gateway", "http://g:1", None) == (
        error.status,
        error.step,
        error.source,
        error.origin,
        error.code,
    )
    assert not error.malformed


@pytest.mark.parametrize("asked", [ASKED, REFRESH])
@pytest.mark.parametrize(
    ("status", "body", "doubt"),
    [
        (400, "", " (does it know that connection id?)"),
        (404, "", " (does it know that connection id?)"),
        (400, "<html>", " (is this the gateway's address, and does it know that connection id?)"),
        (404, "nothing\n", " (nothing) (is this the gateway's address, and does it know that "),
        (404, "<html>", " (is this the gateway's address, and does it know that connection id?)"),
        (426, "", " (is this the gateway's address?)"),
        (405, "", " (is this the gateway's address?)"),
    ],
)
def test_a_refusal_that_says_nothing_asks_what_to_look_at(
    asked: Asked, status: int, body: str, doubt: str
):
    error = refusal(answer(body, status=status), asked)

    assert f"{asked.subject}{doubt}" in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, '{"error":"no_refresh_token"}'), (401, ""), (503, ""), (404, '{"error":"x"}')],
)
def test_a_refusal_that_says_enough_raises_no_doubt(status: int, body: str):
    assert "?" not in str(refusal(answer(body, status=status), ASKED))


@pytest.mark.parametrize("asked", [ASKED, REFRESH])
def test_409_needs_a_person(asked: Asked):
    error = refusal(answer(status=409), asked)

    assert isinstance(error, InteractionRequired)
    assert "c" == error.connection_id


def test_409_to_another_question_needs_nobody():
    error = refusal(
        answer('{"error":"provider_ambiguous"}', status=409),
        dataclasses.replace(ASKED, step="request"),
    )

    assert isinstance(error, TokenError)
    assert "provider_ambiguous" == error.code


def test_go_s_own_404_means_that_the_base_url_is_wrong():
    error = refusal(answer("404 page not found\n", status=404, content_type="text/plain"), ASKED)

    assert isinstance(error, TokenError)
    assert "wrong_url" == error.code


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (
            502,
            '{"error":"broker_unavailable","message":"broker request failed"}',
            "broker_unavailable",
            "broker request failed",
        ),
        (403, '{"error":"connection_not_active","message":"Connection not active"}',
         "connection_not_active", "Connection not active"),
        (400, '{"error":"no_refresh_token","message":"No refresh_token available"}',
         "no_refresh_token", "No refresh_token available"),
        (401, '{"code":"unauthorized","message":"no"}', "unauthorized", "no"),
        (500, '{"code":13,"message":"internal","details":[]}', None, "internal"),
        (404, "Connection not found\n", None, "Connection not found"),
        (502, "<html><body>Bad Gateway</body></html>", None, ""),
        (500, '{"error":', None, ""),
    ],
)  # fmt: skip
def test_what_an_error_body_says_is_read(status: int, body: str, code: str | None, text: str):
    error = refusal(answer(body, status=status), ASKED)

    assert isinstance(error, TokenError)
    assert code == error.code
    assert text in str(error)
    assert "html" not in str(error)


def test_the_text_of_a_409_is_read_from_detail():
    error = refusal(
        answer(
            '{"detail":"The user must re-authenticate.","error":"attention_required"}', status=409
        ),
        ASKED,
    )

    assert isinstance(error, InteractionRequired)
    assert "attention_required" == error.code


def test_a_502_that_hides_the_broker_s_refusal_shows_it():
    error = refusal(
        answer('{"error":"broker_error","message":"x","status":400}', status=502),
        dataclasses.replace(ASKED, step="request"),
    )

    assert isinstance(error, TokenError)
    assert 400 == error.status


def test_5_a_redirect_names_the_origin_it_leads_to_and_nothing_else():
    error = refusal(
        answer(status=307, location="https://user:CANARY@evil.example:8443/a?t=CANARY"), ASKED
    )

    assert isinstance(error, TokenError)
    assert 307 == error.status
    assert "https://evil.example:8443" in str(error)
    assert "CANARY" not in str(error)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/elsewhere", "another path of the same origin"),
        ("", "another path of the same origin"),
        ("//evil.example/x", "same scheme://evil.example"),
        ("http://[::1]:7/x", "http://[::1]:7"),
        ("http://[bad", "an unreadable place"),
        ("http://h:99999/", "an unreadable place"),
    ],
)
def test_5_any_location_can_be_named(location: str, shown: str):
    assert shown == origin_of(location)


# --- 15: Retry-After ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Mon, 23 Nov 2026 02:56:41 GMT", 60.0),
        ("Mon, 23 Nov 2026 01:00:00 GMT", None),
        ("1000000000", 3600.0),
        ("9" * 5000, 3600.0),
        ("-5", None),
        ("0", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("", None),
        ("Mon, 99 Nov 2026 99:56:41 GMT", None),
    ],
    ids=named,
)
def test_15_retry_after_is_respected_capped_or_ignored(value: str, expected: float | None):
    error = refusal(answer(status=429, retry_after=value, date=DATE, at=NOW + 999), ASKED)

    assert isinstance(error, TokenError)
    assert expected == error.retry_after


def test_15_a_retry_date_without_a_date_is_measured_on_the_local_clock():
    headers = {"retry-after": "Mon, 23 Nov 2026 02:56:41 GMT"}

    assert 60.0 == retry_after(headers, at=NOW)


def test_15_no_retry_after_is_none():
    assert retry_after({}, at=NOW) is None
    assert http_date(None) is None


# --- 16, 17: hostile bodies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"\xff\xfe\xfa", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\0"],
    ids=named,
)
def test_16_a_hostile_body_is_classed_by_its_status(body: bytes):
    assert 200 == unread(body).status
    error = refusal(answer(body, status=503), ASKED)
    assert isinstance(error, TokenError)
    assert 503 == error.status


def test_16_a_body_that_was_cut_short_is_malformed():
    cut = dataclasses.replace(answer(ACTIVE), flaw="it was over 1 MiB")

    error = read_token(cut, ASKED)

    assert isinstance(error, TokenError)
    assert "1 MiB" in str(error)


def test_17_a_server_s_text_is_cleaned():
    hostile = "token \x1b[31mCANARY-9f8e7d\n2026 INFO forged https://x/?t=CANARY1 was Bad."
    asked = dataclasses.replace(ASKED, secrets=("opensesame",))

    error = refusal(
        answer(json.dumps({"error": "bad\nline", "message": hostile + " opensesame"}), status=400),
        asked,
    )

    assert isinstance(error, TokenError)
    shown = str(error)
    assert shown.isprintable()
    assert "CANARY" not in shown
    assert "opensesame" not in shown
    assert error.code is None
    assert "was Bad." in shown


def test_17_a_code_that_repeats_what_we_sent_is_dropped():
    asked = dataclasses.replace(ASKED, secrets=("opensesame",))

    error = refusal(answer('{"error":"opensesame"}', status=400), asked)

    assert isinstance(error, TokenError)
    assert error.code is None


@given(st.text(max_size=500))
def test_17_whatever_a_server_says_is_one_short_printable_line(text: str):
    shown = clean(text)

    assert len(shown) <= 200
    assert shown.isprintable()
    assert shown.isascii()


def test_no_answer_shows_itself():
    shown = repr(answer(ACTIVE, set_cookie="CANARY"))

    assert "at-1" not in shown
    assert "CANARY" not in shown
