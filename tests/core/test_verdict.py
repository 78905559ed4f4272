"""The three tables of verdicts, row by row as their sources have them."""

import itertools

import pytest

from dromos._core import verdict
from dromos._core.verdict import Stage, asked_to_wait, judge
from dromos.errors import (
    BridgeError,
    ConnectionClosed,
    HandshakeError,
    InteractionRequired,
    PermanentError,
    TokenError,
)


def judged(
    error: Exception, *, stage: Stage = Stage.DIAL, worked: bool = True, rejected: bool = False
) -> str:
    """The verdict's letter."""
    return judge(error, stage=stage, worked=worked, rejected=rejected).value


def rows(table: dict[str, list[int] | list[str]]) -> list[tuple[int | str, str]]:
    return [(key, letter) for letter, keys in table.items() for key in keys]


# --- Closes: DESIGN 6; peers.md 5.2 ---------------------------------------------------------------

CLOSES = {
    "T": [
        *(1000, 1001, 1004, 1005, 1006, 1011, 1012, 1013, 1014, 3008),
        *(4008, 4408, 4429, 4499, 4500, 4503, 4504),
    ],
    "L": [1002, 1007, 1009, 1015, 4409],
    "A": [3000, 4001, 4401],
    "P": [1003, 1008, 1010, 3003, 4003, 4004, 4400, 4403, 4404, 4406, 4422],
}
UNKNOWN_CLOSES = [1016, 2999, 3001, 3500, 3999, 4000, 4002, 4999]


@pytest.mark.parametrize(("code", "letter"), rows(CLOSES))
def test_each_close_code_has_its_verdict(code: int, letter: str) -> None:
    assert letter == judged(ConnectionClosed(code=code), stage=Stage.LINK)


def test_there_is_no_close_code_that_these_rows_leave_out() -> None:
    assert {code for code, _ in rows(CLOSES)} == set(verdict.CLOSE_CODES)


@pytest.mark.parametrize("code", UNKNOWN_CLOSES)
def test_an_unknown_close_code_is_transient(code: int) -> None:
    assert "T" == judged(ConnectionClosed(code=code), stage=Stage.LINK)


@pytest.mark.parametrize(
    "reason",
    [
        *("token invalid", "Session EXPIRED", "Unauthorized", "unauthenticated"),
        *("bad credentials", "JWT malformed", "authentication failed"),
    ],
)
def test_a_policy_violation_that_speaks_of_the_token_is_about_the_token(reason: str) -> None:
    assert "A" == judged(ConnectionClosed(code=1008, reason=reason))


@pytest.mark.parametrize("reason", ["", "spam", "rate exceeded", "message rejected"])
def test_another_policy_violation_is_permanent(reason: str) -> None:
    assert "P" == judged(ConnectionClosed(code=1008, reason=reason))


def test_only_a_policy_violation_is_read_for_its_reason() -> None:
    assert "P" == judged(ConnectionClosed(code=1003, reason="token expired"))
    assert "T" == judged(ConnectionClosed(code=1011, reason="token expired"))


# --- Upgrades: DESIGN 6; peers.md 5.3 -------------------------------------------------------------

UPGRADES = {
    "T": [408, 421, 425, 429, 500, 502, 503, 504, 507, 509, 511, 520, 524, 527, 530, 599],
    "L": [101, 200, 204, 301, 302, 307, 308, 400, 404, 409, 423],
    "A": [401, 403],
    "P": [402, 405, 406, 407, 410, 411, 415, 426, 431, 451, 501, 505, 412, 413, 418, 422, 499],
}


@pytest.mark.parametrize(("status", "letter"), rows(UPGRADES))
def test_each_status_of_an_upgrade_has_its_verdict(status: int, letter: str) -> None:
    assert letter == judged(HandshakeError("", status=status))


def test_there_is_no_status_of_an_upgrade_that_these_rows_leave_out() -> None:
    assert {status for status, _ in rows(UPGRADES)} >= set(verdict.UPGRADE_STATUSES)


def test_a_second_forbidden_upgrade_is_limited() -> None:
    assert "L" == judged(HandshakeError("", status=403), rejected=True)
    assert "A" == judged(HandshakeError("", status=401), rejected=True)


@pytest.mark.parametrize("rejected", [False, True])
def test_a_scope_that_is_too_small_is_permanent(rejected: bool) -> None:
    headers = {"www-authenticate": 'Bearer error="insufficient_scope", scope="x"'}

    assert "P" == judged(HandshakeError("", status=403, headers=headers), rejected=rejected)


def test_another_challenge_is_about_the_token() -> None:
    headers = {"www-authenticate": 'Bearer error="invalid_token"'}

    assert "A" == judged(HandshakeError("", status=403, headers=headers))


def test_an_upgrade_without_an_answer_is_transient() -> None:
    assert "T" == judged(HandshakeError("no route"))


# --- Token endpoints: nexus.md 1.12; oauth.md 2.2 -------------------------------------------------

GATEWAY = {
    "T": [401, 408, 421, 425, 429, 500, 502, 503, 504, 511],
    "B": [403, 404],
    "U": [409],
    "P": [400, 405, 410, 422, 302, 501, 505],
}
GRANTS = {
    "T": [408, 421, 425, 429, 500, 502, 503, 504, 511, 522],
    "B": [401, 404, 405, 410],
    "P": [400, 403, 407, 409, 422, 302, 501, 505],
}
CODES = {
    "P": [
        *("invalid_request", "unsupported_grant_type", "unauthorized_client", "invalid_scope"),
        *("invalid_target", "unsupported_token_type", "access_denied", "same_token_returned"),
        *("wrong_url", "insufficient_scope", "issuer_mismatch", "endpoint_refused", "no_endpoint"),
    ],
    "B": ["invalid_client", "invalid_grant", "invalid_dpop_proof"],
    "U": [
        *("interaction_required", "login_required", "consent_required", "mfa_required"),
        *("account_selection_required", "invalid_rapt", "rapt_required", "expired_token"),
        "no_refresh_token",
    ],
    "T": ["server_error", "temporarily_unavailable", "internal_failure", "expired_token_returned"],
}


@pytest.mark.parametrize(("status", "letter"), rows(GATEWAY))
def test_each_status_of_the_gateway_has_its_verdict(status: int, letter: str) -> None:
    error = TokenError("", status=status, source="gateway")

    assert letter == judged(error, stage=Stage.TOKEN, worked=False)


def test_there_is_no_status_of_the_gateway_that_these_rows_leave_out() -> None:
    assert {status for status, _ in rows(GATEWAY)} >= set(verdict.GATEWAY_STATUSES)


def test_a_connection_that_worked_before_may_be_forbidden_for_a_while() -> None:
    assert "T" == judged(TokenError("", status=403, source="gateway"), worked=True)
    assert "B" == judged(TokenError("", status=404, source="gateway"), worked=True)


@pytest.mark.parametrize(("status", "letter"), rows(GRANTS))
def test_each_status_of_a_token_endpoint_has_its_verdict(status: int, letter: str) -> None:
    assert letter == judged(TokenError("", status=status), stage=Stage.TOKEN)


def test_there_is_no_status_of_a_token_endpoint_that_these_rows_leave_out() -> None:
    assert {status for status, _ in rows(GRANTS)} >= set(verdict.GRANT_STATUSES)


def test_a_forbidden_grant_that_says_when_to_come_back_is_transient() -> None:
    assert "T" == judged(TokenError("", status=403, retry_after=0.0))
    assert "B" == judged(TokenError("", status=401, retry_after=5.0))


@pytest.mark.parametrize(("code", "letter"), rows(CODES))
@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_each_error_code_has_its_verdict_at_any_status(code: str, letter: str, status: int) -> None:
    assert letter == judged(TokenError("", status=status, code=code), stage=Stage.TOKEN)


def test_a_person_who_refuses_a_device_is_the_only_one_who_can_help() -> None:
    refused = TokenError("", status=400, code="access_denied", step="device")

    assert "U" == judged(refused, stage=Stage.TOKEN)


def test_there_is_no_error_code_that_these_rows_leave_out() -> None:
    assert {code for code, _ in rows(CODES)} == set(verdict.GRANT_CODES)


def test_a_refresh_token_that_is_gone_needs_a_person() -> None:
    gone = TokenError("", status=400, code="invalid_grant", step="refresh")

    assert "U" == judged(gone)
    assert "P" == judged(TokenError("", status=400, code="access_denied", step="refresh"))


def test_an_unknown_error_code_leaves_it_to_the_status() -> None:
    assert "P" == judged(TokenError("", status=400, code="strange"))
    assert "T" == judged(TokenError("", status=503, code="strange"))


def test_a_success_without_a_token_is_bounded_and_at_the_start_the_gateways_is_not() -> None:
    for source, worked in itertools.product(("gateway", "oauth"), (False, True)):
        error = TokenError("", status=200, malformed=True, source=source)

        letter = "T" if (source, worked) == ("gateway", False) else "B"
        assert letter == judged(error, worked=worked)


@pytest.mark.parametrize("source", ["gateway", "oauth"])
def test_a_source_that_did_not_answer_is_transient(source: str) -> None:
    assert "T" == judged(TokenError("", source=source), worked=False)


# --- Certificates ---------------------------------------------------------------------------------


class SSLCertVerificationError(OSError):
    """Known by its name: the core can't import ssl."""


def _because(error: Exception, *causes: Exception) -> Exception:
    last: BaseException = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


def test_a_refused_certificate_is_limited_however_deep_the_cause_lies() -> None:
    refused = SSLCertVerificationError("self-signed")

    assert "L" == judged(_because(HandshakeError("tls"), refused))
    assert "L" == judged(_because(HandshakeError("tls"), OSError("proxy"), refused))


def test_a_refused_certificate_of_a_token_endpoint_is_bounded() -> None:
    refused = SSLCertVerificationError("self-signed")

    assert "B" == judged(_because(TokenError("tls"), refused))
    assert "B" == judged(_because(TokenError("tls", source="gateway"), refused))


def test_another_cause_is_transient() -> None:
    assert "T" == judged(_because(HandshakeError("tls"), ConnectionResetError("reset")))


def test_causes_that_go_in_a_circle_are_followed_once() -> None:
    error, other = HandshakeError("tls"), OSError("tls")
    _because(error, other, error)

    assert "T" == judged(error)


# --- Other exceptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [PermanentError("no"), InteractionRequired("consent")])
@pytest.mark.parametrize("stage", Stage)
def test_an_error_that_says_it_is_permanent_is_permanent(error: Exception, stage: Stage) -> None:
    letter = "U" if isinstance(error, InteractionRequired) else "P"

    assert letter == judged(error, stage=stage)


@pytest.mark.parametrize("error", [OSError("x"), ConnectionResetError("x"), TimeoutError()])
@pytest.mark.parametrize("stage", Stage)
def test_the_network_is_transient_wherever_it_fails(error: Exception, stage: Stage) -> None:
    assert "T" == judged(error, stage=stage)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(), BridgeError("x")])
@pytest.mark.parametrize(
    ("stage", "letter"),
    [(Stage.TOKEN, "B"), (Stage.DIAL, "L"), (Stage.LINK, "T"), (Stage.GREETING, "T")],
)
def test_a_foreign_exception_is_judged_by_its_place(
    error: Exception, stage: Stage, letter: str
) -> None:
    assert letter == judged(error, stage=stage)


# --- Waits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (HandshakeError("", status=503, retry_after=7.0), 7.0),
        (HandshakeError("", status=429, retry_after=0.0), 0.0),
        (HandshakeError("", status=429), 10.0),
        (HandshakeError("", status=503), None),
        (TokenError("", status=403, retry_after=7.0), 7.0),
        (TokenError("", status=429), 10.0),
        (TokenError("", status=500), None),
        (ConnectionClosed(code=1013), 10.0),
        (ConnectionClosed(code=1013, reason="busy"), 10.0),
        (ConnectionClosed(code=1013, reason=" 30 "), 30.0),
        (ConnectionClosed(code=1013, reason="3"), 10.0),
        (ConnectionClosed(code=1013, reason="12345678901"), 123456.0),
        (ConnectionClosed(code=1013, reason="-5"), 10.0),
        (ConnectionClosed(code=4008), 10.0),
        (ConnectionClosed(code=4429, reason="30"), 10.0),
        (ConnectionClosed(code=1012, reason="30"), None),
        (OSError("x"), None),
    ],
    ids=repr,
)
def test_the_far_side_may_ask_for_a_wait(error: Exception, wait: float | None) -> None:
    assert wait == asked_to_wait(error)
