"""`aws_sigv4`, by vectors that AWS's Go signer made, and what is sent in the end."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from picows.url import parse_url
from websockets.headers import build_host
from websockets.uri import parse_uri

from dromos.auth._sigv4 import Signer, canonical_query, signed_headers
from dromos.dialers._request import Request
from dromos.dialers.picows import PicowsDialer
from dromos.dialers.websockets import WebsocketsDialer
from dromos.errors import HandshakeError
from dromos.interfaces import Limits
from tests.auth.support import CANARY, applied, refused
from tests.dialers.loopback import Peer, serving
from tests.dialers.recorder import Recorder

NOW = 1767323045.9  # 2026-01-02T03:04:05Z, and most of a second
KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
GATEWAY = "wss://abc.execute-api.us-east-1.amazonaws.com"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

VECTORS = [
    (
        f"{GATEWAY}/prod", "execute-api", "us-east-1", "", "",
        "47729851acadd117fc18adcaaa80d50ec53801373b968ffbca64f5948c3a0e47",
    ),
    (
        f"{GATEWAY}/prod", "execute-api", "us-east-1", "SESSION", "",
        "3d2e422f0ffdec84c7cbaff6ac1d0d07b204a5990752bed2124fa6263d0df8d1",
    ),
    (
        f"{GATEWAY}:443/prod?b=2&a=1&a=0", "execute-api", "us-east-1", "", "a=0&a=1&b=2",
        "f9fce82809398cc715c1aaf73752bb08610dfb2a70ae4f9ba754f7017c743805",
    ),
    (
        "ws://127.0.0.1:28100/p%20a/x+y/~z?q=a%20b&e=", "execute-api", "eu-west-1", "",
        "e=&q=a%20b",
        "624d66610aebd40cb68a5a30566854c6654ea7647f523ef7bea7ca15e4c172db",
    ),
    (
        "ws://127.0.0.1:28100", "s3", "us-west-2", "", "",
        "d01e68bf66b2fe7bd7cc892f58e5ac458b90c10ddd8d64cd2828db03077469d6",
    ),
]  # fmt: skip


def signed(url: str, config: dict[str, Any], **more: str) -> dict[str, str]:
    """Return the headers of a signed handshake, the URL among them as `url`."""
    made = applied("aws_sigv4", KEYS | more, config, url=url, now=NOW)
    return {"url": made.url, **dict(made.headers)}


@pytest.mark.parametrize(("url", "service", "region", "session", "query", "expected"), VECTORS)
def test_the_vectors_of_the_go_library(
    url: str, service: str, region: str, session: str, query: str, expected: str
):
    """On the pure function, which signs the `Host` that it is told: Go's has the port `:443`."""
    parts = urlsplit(url)
    signer = Signer(
        access_key=KEYS["access_key"],
        secret_key=KEYS["secret_key"],
        session_token=session,
        region=region,
        service=service,
        single_encoding=service == "s3",
        now=NOW,
    )
    assert query == canonical_query(parts.query)

    made = signed_headers(signer, host=parts.netloc, path=parts.path, query=query)

    names = "host;x-amz-content-sha256;x-amz-date" + (";x-amz-security-token" if session else "")
    assert made.pop("Authorization") == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/{region}/{service}/aws4_request, "
        f"SignedHeaders={names}, Signature={expected}"
    )
    assert ("SESSION" if session else None) == made.pop("X-Amz-Security-Token", None)
    assert {"X-Amz-Content-Sha256": EMPTY, "X-Amz-Date": "20260102T030405Z"} == made
    assert KEYS["secret_key"] not in repr(signer)


@pytest.mark.parametrize("vector", [0, 1, 3, 4])
def test_the_strategy_makes_them_too(vector: int):
    url, service, region, session, query, expected = VECTORS[vector]
    more = {"session_token": session} if session else {}

    made = signed(url, {"service": service, "region": region}, **more)

    assert made["Authorization"].endswith(f"Signature={expected}")
    assert query == urlsplit(made["url"]).query


def test_row_aws_sigv4_success():
    """The row's body, and its hash, have no counterpart: an upgrade request has none."""
    made = signed("wss://bucket.example/", {"service": "s3", "region": "us-west-2"})

    assert made["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/")
    assert "/us-west-2/s3/aws4_request, SignedHeaders=" in made["Authorization"]
    assert re.search("Signature=[0-9a-f]{64}$", made["Authorization"])
    assert "20260102T030405Z" == made["X-Amz-Date"]
    assert EMPTY == made["X-Amz-Content-Sha256"]


@pytest.mark.parametrize("absent", [None, "", 3, [], {}], ids=repr)
def test_row_error_aws_sigv4_missing_service(absent: Any):
    assert "config 'service' is required for aws_sigv4 strategy" == refused(
        "aws_sigv4", {}, {"service": absent}
    )


@pytest.mark.parametrize("field", KEYS)
def test_row_error_aws_sigv4_missing_credentials(field: str):
    given = {"access_key": CANARY, "secret_key": CANARY}

    for value in (None, "", 3, [CANARY]):
        problem = "missing" if value is None else "empty or not a string"
        assert f"credential field {field!r} is {problem}" == refused(
            "aws_sigv4", given | {field: value}, {"service": "s3"}
        )


@pytest.mark.parametrize("absent", [None, "", 3, [CANARY], {}], ids=repr)
def test_a_session_token_of_the_wrong_type_counts_as_absent(absent: Any):
    made = applied(
        "aws_sigv4", KEYS | {"session_token": absent}, {"service": "execute-api"},
        url=f"{GATEWAY}/prod", now=NOW,
    )  # fmt: skip

    assert dict(made.headers)["Authorization"].endswith(f"Signature={VECTORS[0][-1]}")


@pytest.mark.parametrize("absent", [None, "", 3, [], {}], ids=repr)
def test_the_region_has_a_default(absent: Any):
    made = signed(f"{GATEWAY}/prod", {"service": "execute-api", "region": absent})

    assert made["Authorization"].endswith(f"Signature={VECTORS[0][-1]}")


@pytest.mark.parametrize("field", ["access_key", "secret_key", "session_token"])
@pytest.mark.parametrize("end", [" ", "é"])
def test_4_a_key_with_a_space_or_beyond_ascii_is_refused(field: str, end: str):
    assert f"credential field {field!r} holds a space or is beyond ASCII" == refused(
        "aws_sigv4", KEYS | {field: f"{CANARY}{end}"}, {"service": "s3"}
    )


@pytest.mark.parametrize("name", ["service", "region"])
@pytest.mark.parametrize("value", ["a/b", "a b", "a\r\nX: 1", "a,b", "é", "x" * 129], ids=ascii)
def test_21_a_name_that_changes_the_scope_is_refused(name: str, value: str):
    config = {"service": "s3"} | {name: value}

    assert f"config {name!r} holds characters that no {name} has" == refused(
        "aws_sigv4", {"access_key": CANARY, "secret_key": CANARY}, config
    )


# --- The `Host` that is signed is the one that is sent --------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("wss://Far.Example:443/", "far.example"),
        ("wss://far.example:80/", "far.example:80"),
        ("wss://far.example:/", "far.example"),
        ("ws://far.example:80", "far.example"),
        ("ws://far.example:443/", "far.example:443"),
        ("ws://[::1]:80/", "[::1]"),
        ("ws://[2001:DB8::1]:8443/", "[2001:db8::1]:8443"),
        ("wss://bücher.example:443/ä", "xn--bcher-kva.example"),
        ("wss://far.example.:0443/", "far.example."),
    ],
)
@pytest.mark.parametrize("presign", [False, True])
def test_every_engine_sends_the_host_that_was_signed(url: str, host: str, presign: bool):
    made = applied("aws_sigv4", KEYS, {"service": "x", "presign": presign}, url=url, now=NOW)

    dialled = Request.of(made).url

    uri = parse_uri(dialled)
    assert dialled == made.url
    assert host == urlsplit(made.url).netloc
    assert host == parse_url(dialled).netloc
    assert host == build_host(uri.host, uri.port, uri.secure)


@pytest.mark.parametrize("dialer", [PicowsDialer, WebsocketsDialer])
@pytest.mark.parametrize("path", ["/p%20a/x+y/ä//~z/../w?q=a+b&é=ü&e", "", "//a;b/.?%ff&=1&&"])
async def test_the_request_line_and_headers_on_the_wire_are_those_signed(dialer: Any, path: str):
    heads: list[bytes] = []

    async def far_side(peer: Peer) -> None:
        heads.append(await peer.read_request())
        peer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(far_side) as port:
        url = f"ws://localhost:{port}{path}"
        made = applied("aws_sigv4", KEYS, {"service": "x"}, url=url, now=NOW)
        with pytest.raises(HandshakeError):
            await dialer().dial(made, Recorder(), Limits())

    lines = heads[0].decode("ascii").split("\r\n")
    assert f"GET {made.url.removeprefix(f'ws://localhost:{port}')} HTTP/1.1" == lines[0]
    sent = dict(line.split(": ", 1) for line in lines[1:] if line)
    assert f"localhost:{port}" == sent["Host"]
    assert dict(made.headers).items() <= sent.items()


# --- Settings of ours -----------------------------------------------------------------------------

PATH = f"{GATEWAY}/a%20b//c"


def test_a_path_is_encoded_twice_but_for_s3():
    def signature(**config: Any) -> str:
        return signed(PATH, {"service": "s3"} | config)["Authorization"][-64:]

    once, twice = signature(single_encoding=True), signature(single_encoding=False)
    assert once != twice
    for value in (None, 0, 1, "true", []):
        assert once == signature(single_encoding=value)
    for service in ("s3", "s3express", "s3-outposts", "s3-object-lambda"):
        assert signature(service=service, single_encoding=True) == signature(service=service)
    for service in ("execute-api", "s3vectors", "S3"):
        assert signature(service=service, single_encoding=False) == signature(service=service)


def test_a_presigned_url_has_no_headers():
    made = applied(
        "aws_sigv4", KEYS | {"session_token": f"{CANARY}/+="},
        {"service": "transcribe", "presign": True},
        url="wss://far.example:8443/s?language-code=en-US&b", now=NOW,
    )  # fmt: skip

    assert () == made.headers
    pairs = dict(parse_qsl(urlsplit(made.url).query, keep_blank_values=True))
    assert re.fullmatch("[0-9a-f]{64}", pairs.pop("X-Amz-Signature"))
    assert {
        "language-code": "en-US",
        "b": "",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIDEXAMPLE/20260102/us-east-1/transcribe/aws4_request",
        "X-Amz-Date": "20260102T030405Z",
        "X-Amz-Expires": "300",
        "X-Amz-Security-Token": f"{CANARY}/+=",
        "X-Amz-SignedHeaders": "host",
    } == pairs
    assert CANARY not in repr(made)


def test_a_url_signed_before_is_signed_anew():
    config = {"service": "x", "presign": True}
    first = signed("wss://h/?a=1&X-Amz-ChannelARN=2", config, session_token="old")["url"]

    assert signed("wss://h/?a=1&X-Amz-ChannelARN=2", config)["url"] == signed(first, config)["url"]


@pytest.mark.parametrize(
    ("config", "is_last"),
    [
        ({"service": "iotdevicegateway"}, True),
        ({"service": "iotdevicegateway", "sign_session_token": True}, False),
        ({"service": "transcribe"}, False),
        ({"service": "transcribe", "sign_session_token": False}, True),
        ({"service": "transcribe", "sign_session_token": 0}, False),
    ],
    ids=repr,
)
def test_a_session_token_may_follow_the_signature(config: dict[str, Any], is_last: bool):
    config = config | {"presign": True}
    with_token = signed("wss://h/?z=1", config, session_token="t/1")["url"]
    without = signed("wss://h/?z=1", config)["url"]

    assert is_last == (f"{without}&X-Amz-Security-Token=t%2F1" == with_token)


@pytest.mark.parametrize("value", [None, 0, 1, "true", "false", [], {}], ids=repr)
def test_presign_of_the_wrong_type_counts_as_absent(value: Any):
    assert "Authorization" in signed("wss://h/", {"service": "x", "presign": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, "1"), (604800, "604800"), (None, "300"), ("60", "300"), (True, "300"), (60.0, "300")],
)
def test_a_presigned_url_expires(value: Any, expected: str):
    url = signed("wss://h/", {"service": "x", "presign": True, "expires": value})["url"]

    assert f"&X-Amz-Expires={expected}&" in url


@pytest.mark.parametrize("value", [0, -1, 604801, 10**18])
def test_an_expiry_out_of_range_is_refused(value: int):
    credentials = {"access_key": CANARY, "secret_key": CANARY}
    config = {"service": "x", "presign": True, "expires": value}

    assert "config 'expires' must be from 1 to 604800 seconds" == refused(
        "aws_sigv4", credentials, config
    )
