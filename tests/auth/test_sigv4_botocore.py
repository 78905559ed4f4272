"""SigV4 against botocore, on a thousand URLs that nobody would write.

botocore signs what it would send: it gets the URL that the strategy returns,
which is what goes over the wire, with `http` for `ws`.  So that the returned
URL means what the given one did, both are read back and compared.

Left out, because botocore is no oracle there:

* Presigning with a name twice in the query: botocore keeps the first value
  only (`{k: v[0] …}`), and loses the others.
* Presigning bytes that are no UTF-8: botocore reads them as U+FFFD.
* An empty path for S3: botocore leaves it empty, and AWS, as Go's signer,
  wants `/`, which is also what is sent; the dialled URL has it.

Go's signer neither removes dot segments nor empty ones, and sorts a query as it
reads, not as it is spelled.  There we follow AWS's text and botocore.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

import pytest

from tests.auth.support import applied

botocore_auth = pytest.importorskip("botocore.auth")
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
S3 = ("s3", "s3-object-lambda", "s3-outposts")
SERVICES = (*S3, "execute-api", "transcribe", "iotdevicegateway", "kinesisvideo", "neptune-db")
REGIONS = ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1")
HOSTS = (
    "far.example", "FAR.Example", "bücher.example", "127.0.0.1", "[::1]", "[2001:DB8::a]",
    "a.execute-api.us-east-1.amazonaws.com", "localhost", "far.example.",
)  # fmt: skip
PORTS = ("", "", ":", ":80", ":443", ":8443", ":28100")
SEGMENTS = (
    "a", "prod", "x+y", "~z", "b-c_d.e", "%20", "%2F", "%c3%a9", "%C3%A9", "%ff", "%zz", "%",
    "%25", "%2e%2e", "é", "日本", "😀", ".", "..", "...", "", "", "a.b", ";p=1", "@", ":", "a:b",
    "!$&'()*,=", "\"<>", "^`{|}", "\\", "%7E", "%2B",
)  # fmt: skip
WORDS = (
    "a", "b", "A", "a-", "a_", "a.", "aa", "a b", "a+b", "~", "é", "z", "日", "%", "/", "?",
    "=", "&", "x=y", ";", "'", "(", "*", "", "X-Amz-Target", "0", "😀", "a\"", "@", ":", ",",
)  # fmt: skip


def spelled(word: str, roll: random.Random) -> str:
    """Spell a word of a query in one of the ways that mean the same."""
    safe = roll.choice(["", "/:@,;'()*", "éü日😀/?:"])
    made = "".join(char if char in safe else quote(char, safe="") for char in word)
    made = made.replace("~", "%7e") if roll.random() < 0.5 else made
    return made.replace("%20", "+") if roll.random() < 0.5 else made


Pairs: TypeAlias = list[tuple[str, str]]


def generated(count: int, *, seed: int) -> Iterator[tuple[random.Random, str, Pairs]]:
    """Yield chance, a URL, and the pairs of its query."""
    for number in range(count):
        roll = random.Random(seed * 1_000_000 + number)
        path = "".join(f"/{roll.choice(SEGMENTS)}" for _ in range(roll.randrange(6)))
        pairs = [(roll.choice(WORDS), roll.choice(WORDS)) for _ in range(roll.randrange(5))]
        texts = [written(name, value, roll) for name, value in pairs]
        # A pair without name, sign and value is not there.
        pairs = [pair for pair, text in zip(pairs, texts, strict=True) if text]
        origin = f"{roll.choice(['ws', 'wss'])}://{roll.choice(HOSTS)}{roll.choice(PORTS)}"
        yield roll, f"{origin}{path}{'?' * bool(texts)}{'&'.join(texts)}", pairs


def written(name: str, value: str, roll: random.Random) -> str:
    has_sign = value or roll.random() < 0.5
    return spelled(name, roll) + (f"={spelled(value, roll)}" if has_sign else "")


def keys(roll: random.Random, *, session: bool) -> dict[str, str]:
    held = {
        "access_key": "".join(roll.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=20)),
        "secret_key": "".join(roll.choices("abcXYZ019/+=", k=40)),
    }
    if session:
        held["session_token"] = "".join(roll.choices("abcXYZ019/+=%&", k=200))
    return held


def lowered(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """botocore spells one name in two ways."""
    return {name.lower(): value for name, value in headers}


def http(url: str) -> str:
    return url.replace("ws", "http", 1)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_clock(now: int) -> None:
        monkeypatch.setattr(
            botocore_auth, "get_current_datetime", lambda: datetime.fromtimestamp(now, UTC)
        )

    return set_clock


def same_path(given: str, dialled: str) -> bool:
    def read(url: str) -> list[bytes]:
        return [unquote_to_bytes(one) for one in (urlsplit(url).path or "/").split("/")]

    return read(given) == read(dialled)


def test_headers_are_those_of_botocore(at: Callable[[int], None]) -> None:
    for roll, url, pairs in generated(1000, seed=1):
        now, session = roll.randrange(2**31), roll.random() < 0.5
        held = keys(roll, session=session)
        service, region = roll.choice(SERVICES), roll.choice(REGIONS)
        single = roll.choice([None, None, True, False])
        at(now)

        made = applied(
            "aws_sigv4",
            held,
            {"service": service, "region": region, "single_encoding": single},
            url=url,
            now=now,
        )

        is_s3 = service in S3 if single is None else single
        kind = botocore_auth.S3SigV4Auth if is_s3 else botocore_auth.SigV4Auth
        # botocore sends the hash as a header for S3 only, the Go library always.
        who = Credentials(held["access_key"], held["secret_key"], held.get("session_token"))
        request = AWSRequest("GET", http(made.url), headers={"X-Amz-Content-Sha256": EMPTY})
        signer = kind(who, service, region)
        signer.add_auth(request)
        assert lowered(request.headers.items()) == lowered(made.headers), url
        assert same_path(url, made.url), url
        asked = AWSRequest("GET", "http://h/", params=pairs)
        assert signer.canonical_query_string(asked) == urlsplit(made.url).query, url


def test_a_query_with_bytes_that_are_no_utf_8_is_sent_as_it_was(at: Callable[[int], None]) -> None:
    at(0)
    held = keys(random.Random(1), session=False)
    made = applied("aws_sigv4", held, {"service": "x"}, url="wss://h/?b=%ff%C3%A9é&%fe&a=+", now=0)

    request = AWSRequest("GET", http(made.url), headers={"X-Amz-Content-Sha256": EMPTY})
    who = Credentials(held["access_key"], held["secret_key"])
    botocore_auth.SigV4Auth(who, "x", "us-east-1").add_auth(request)
    assert "%FE=&a=%20&b=%FF%C3%A9%C3%A9" == urlsplit(made.url).query
    assert request.headers["Authorization"] == dict(made.headers)["Authorization"]


def test_presigned_urls_are_those_of_botocore(at: Callable[[int], None]) -> None:
    for roll, url, pairs in generated(1000, seed=2):
        if len(dict(pairs)) < len(pairs):
            continue
        now, session = roll.randrange(2**31), roll.random() < 0.5
        held = keys(roll, session=session)
        service, region = roll.choice(SERVICES), roll.choice(REGIONS)
        expires = roll.randrange(1, 604801)
        is_last = service == "iotdevicegateway"
        at(now)

        made = applied(
            "aws_sigv4",
            held,
            {"service": service, "region": region, "presign": True, "expires": expires},
            url=url,
            now=now,
        )

        kind = botocore_auth.S3SigV4QueryAuth if service in S3 else botocore_auth.SigV4QueryAuth
        token = None if is_last else held.get("session_token")
        who = Credentials(held["access_key"], held["secret_key"], token)
        # The query as it was given, on the scheme, host and path that are sent.
        base = made.url.partition("?")[0]
        request = AWSRequest("GET", f"{http(base)}?{urlsplit(url).query}")
        kind(who, service, region, expires=expires).add_auth(request)
        expected = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
        if is_last and session:
            expected.append(("X-Amz-Security-Token", held["session_token"]))
        query = parse_qsl(urlsplit(made.url).query, keep_blank_values=True)
        assert sorted(expected) == sorted(query), url
        assert set(pairs) <= set(query), url
        assert same_path(url, made.url), url
        assert () == made.headers
        if is_last and session:
            assert "X-Amz-Security-Token" == query[-1][0]
