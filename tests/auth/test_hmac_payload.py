"""`hmac_payload`, by the vectors of the Go library.

An upgrade request has no body: the rows that sign one are about the pure function.
"""

from typing import Any

import pytest

from dromos.auth.hmac_payload import signature
from tests.auth.support import CANARY, applied, refused

HEX = {
    "sha256": "4dbd2292025f21bd07ca900059e19286df5ad14c05c4f00f19a2959f2d1ac56b",
    "sha1": "c47cd0bd8a706ad8100b2afcfede327050236ee0",
}
BASE64 = {
    "sha256": "Tb0ikgJfIb0HypAAWeGSht9a0UwFxPAPGaKVny0axWs=",
    "sha1": "xHzQvYpwatgQCyr8/t4ycFAjbuA=",
}


@pytest.mark.parametrize("kind", ["hmac_payload", "hmac"])
@pytest.mark.parametrize("algorithm", HEX)
@pytest.mark.parametrize(("encoding", "expected"), [("hex", HEX), ("base64", BASE64)])
def test_row_hmac_payload(kind: str, algorithm: str, encoding: str, expected: dict[str, str]):
    made = applied(
        kind,
        {"secret": "hmac-secret"},
        {
            "header_name": "X-Signature",
            "secret_field": "secret",
            "algo": algorithm,
            "encoding": encoding,
        },
    )

    assert (("X-Signature", expected[algorithm]),) == made.headers


@pytest.mark.parametrize(
    ("secret", "body", "expected"),
    [
        (
            "my-secret",
            b"payload data",
            "5a0eab71eaedd19789267409862516c51c271971070d7bf2862498003ada6ae5",
        ),
        (
            "default-secret",
            b"data",
            "f8e42c8dd1667c4227b5d5443376e6f47748240fdd53f2e82ad47f4aebb5cc71",
        ),
    ],
)
def test_row_hmac_of_a_body(secret: str, body: bytes, expected: str):
    assert expected == signature(secret, body, algorithm="sha256", encoding="hex")


@pytest.mark.parametrize("absent", [None, "", 3, [], {}], ids=repr)
def test_row_hmac_payload_default_config(absent: Any):
    config = {"header_name": "X-Sig", "secret_field": absent, "algo": absent, "encoding": absent}

    made = applied("hmac_payload", {"api_secret": "hmac-secret"}, config)

    assert (("X-Sig", HEX["sha256"]),) == made.headers


@pytest.mark.parametrize("kind", ["hmac_payload", "hmac"])
@pytest.mark.parametrize("absent", [None, "", 3, [], {}], ids=repr)
def test_row_error_hmac_missing_header_name(kind: str, absent: Any):
    assert "config 'header_name' is required for hmac_payload strategy" == refused(
        kind, {"api_secret": CANARY}, {"header_name": absent}
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"algo": "md5"}, "unsupported hmac algorithm: md5"),
        ({"algo": "SHA256"}, "unsupported hmac algorithm: SHA256"),
        ({"algo": "a\nb"}, r"unsupported hmac algorithm: 'a\nb'"),
        ({"encoding": "base64url"}, "unsupported encoding: base64url"),
        # in the Go library's order
        ({"algo": "x", "encoding": "y"}, "unsupported hmac algorithm: x"),
        ({"algo": "x", "secret_field": "s"}, "credential field 's' is missing"),
        ({"header_name": "Host"}, "hmac_payload auth strategy: header 'Host' belongs to"),
    ],
    ids=repr,
)
def test_a_setting_that_is_unknown_is_named(config: dict[str, Any], message: str):
    config = {"header_name": "X-Sig"} | config

    assert refused("hmac_payload", {"api_secret": CANARY}, config).startswith(message)


def test_a_secret_is_taken_in_utf_8():
    config = {"header_name": "X-Sig", "algo": "sha1"}

    made = applied("hmac_payload", {"api_secret": "gehéim"}, config)

    # printf '' | openssl dgst -sha1 -hmac gehéim
    assert "ac6f103400e6bfc2559b724b2e435259a97d2a6b" == made.headers[0][1]
