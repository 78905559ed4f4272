"""Each step of an examination, against each fault that it is there to find, on real sockets."""

import asyncio

import pytest
import trustme

from dromos.doctor.talk import answered
from dromos.errors import InteractionRequired, TokenError
from dromos.model import Token
from dromos.oauth import EnvToken, FileToken
from dromos.testing import FarSide, Gateway
from tests.doctor.support import (
    CANARY,
    examined,
    outcomes,
    serving,
    tls,
)

LOCAL = "localhost"


def at_localhost(url):
    return url.replace("127.0.0.1", LOCAL)


# --- All is well ----------------------------------------------------------------------------------


async def test_all_steps_pass_and_none_shows_the_token():
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)

        report, found = await examined(f"{far.url}?key={CANARY}", gateway=gateway.url)

        assert "ppssp" + "ppp" == outcomes(found)
        assert (report.healthy, report.hopeless) == (True, False)
        assert far.url == report.target
        assert "strategy oauth2" in found["token"].said
        assert gateway.access_token("c-1") not in repr(report)
        assert gateway.refreshes == 0
        assert [link.close_code for link in far.links] == [1000]


async def test_the_certificate_is_named_with_its_days():
    async with FarSide(ssl=tls(LOCAL)) as far:
        _, found = await examined(at_localhost(far.url))

    assert "ppsppppp" == outcomes(found)
    assert (90, [LOCAL]) == (found["TLS"].facts["days_left"], found["TLS"].facts["names"])


# --- The way there --------------------------------------------------------------------------------


async def test_a_name_without_an_address_fails_and_what_needs_it_is_skipped():
    _, found = await examined("wss://no-such-host.invalid/ws")

    assert "fsss" + "p" + "sss" == outcomes(found)
    assert "no-such-host.invalid has no address" in found["DNS"].said
    assert "needs DNS, which failed" == found["handshake"].said


async def test_a_port_that_refuses_says_so(unused_tcp_port):
    report, found = await examined(f"ws://127.0.0.1:{unused_tcp_port}/ws")

    assert "pfss" + "p" + "sss" == outcomes(found)
    assert "ECONNREFUSED" in found["TCP"].said
    assert not report.hopeless


@pytest.mark.parametrize(
    ("context", "said", "advice", "hopeless"),
    [
        (lambda: tls(LOCAL, since=-60, days=-3), "expired 3 days ago", "renewed", False),
        (lambda: tls(LOCAL, since=3), "holds only in 3 days", "this machine's clock", False),
        (lambda: tls("other.example"), "it is for other.example", "one of the names", True),
        (lambda: tls(LOCAL, authority=trustme.CA()), "is refused", "--ca", True),
    ],
    ids=["expired", "not yet valid", "another name", "unknown authority"],
)
async def test_a_certificate_that_is_refused_is_described(context, said, advice, hopeless):
    async with FarSide(ssl=context()) as far:
        report, found = await examined(at_localhost(far.url))

    assert "ppsf" + "p" + "sss" == outcomes(found)
    assert said in found["TLS"].said
    assert "trustme" in found["TLS"].said
    assert advice in found["TLS"].advice
    assert hopeless == report.hopeless


async def test_a_certificate_that_expires_soon_is_a_warning():
    async with FarSide(ssl=tls(LOCAL, days=13)) as far:
        report, found = await examined(at_localhost(far.url))

    assert "ppsw" + "pppp" == outcomes(found)
    assert "13 days left" in found["TLS"].said
    assert report.healthy


async def test_a_port_without_tls_is_told_from_a_bad_certificate():
    async with FarSide() as far:
        _, found = await examined(far.url.replace("ws://", "wss://"))

    assert "ppsf" + "p" + "sss" == outcomes(found)


# --- Through a proxy ------------------------------------------------------------------------------


async def tunnel(peer, status="200 OK"):
    request = (await peer.read_request()).decode()
    peer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
    if not status.startswith("200"):
        return
    host, port = request.split()[1].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def copy(source, target):
        while data := await source.read(65536):
            target.write(data)
        target.close()

    await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))


async def test_a_proxy_is_passed_and_the_far_side_examined_behind_it():
    async with FarSide(ssl=tls(LOCAL)) as far, serving(tunnel) as port:
        _, found = await examined(at_localhost(far.url), proxy=f"http://127.0.0.1:{port}")

    assert "pppp" + "pppp" == outcomes(found)
    assert "the proxy leads to localhost" in found["proxy"].said


@pytest.mark.parametrize(
    ("status", "advice", "hopeless"),
    [
        ("407 No", "user name", True),
        ("403 No", "does not allow", False),
        ("502 No", "known", False),
    ],
)
async def test_a_proxy_that_refuses_is_told_from_the_far_side(status, advice, hopeless):
    async def refuse(peer):
        await tunnel(peer, status)

    async with serving(refuse) as port:
        proxy = f"http://agent:{CANARY}@127.0.0.1:{port}"
        report, found = await examined("ws://127.0.0.1:9/ws", proxy=proxy)

    assert "ppfs" + "p" + "sss" == outcomes(found)
    assert advice in found["proxy"].advice
    assert hopeless == report.hopeless


async def test_a_proxy_in_the_environment_is_spoken_of_since_no_dialer_looks_there():
    async with FarSide() as far:
        environment = {"HTTPS_PROXY": f"http://agent:{CANARY}@proxy.example:3128"}
        report, found = await examined(far.url, environment=environment)

    assert "ppws" + "pppp" == outcomes(found)
    assert "HTTPS_PROXY is set" in found["proxy"].said
    assert report.healthy


# --- The token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "hopeless", "advice"),
    [
        (404, True, "--connection-id"),
        (426, True, "--gateway"),
        (409, True, "person"),
        (503, False, "up, and reachable"),
    ],
)
async def test_a_gateway_that_gives_no_token_says_why(status, hopeless, advice):
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        gateway.fail("token", next=None, status=status, body={"error": "no"})
        report, found = await examined(far.url, gateway=gateway.url)

        assert "ppss" + "f" + "sss" == outcomes(found)
        assert advice in found["token"].advice
        assert hopeless == report.hopeless
        assert not far.attempts


async def test_a_gateway_that_is_down_says_so(unused_tcp_port):
    async with FarSide() as far:
        report, found = await examined(far.url, gateway=f"http://127.0.0.1:{unused_tcp_port}")

    assert "ppss" + "f" + "sss" == outcomes(found)
    assert not report.hopeless


async def test_an_expired_token_is_not_refreshed_behind_somebodys_back():
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        gateway.expire("c-1", ago=60)
        _, found = await examined(far.url, gateway=gateway.url)

        assert "f" == found["token"].outcome[0]
        assert "expired 6" in found["token"].said
        assert "--fresh" in found["token"].advice
        assert gateway.refreshes == 0


class Source:
    def __init__(self, outcome):
        self.outcome = outcome

    async def get_token(self, connection_id):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Slow:
    async def get_token(self, connection_id):
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("outcome", "result", "said"),
    [
        (Token({"access_token": CANARY}, clock_skew=90.0), "warn", "90 s ahead"),
        (Token({"access_token": CANARY}, clock_skew=0.1), "pass", "clocks agree"),
        (InteractionRequired("log in again"), "fail", "log in again"),
        (TokenError("busy", status=429), "fail", "busy"),
        (OSError("unplugged"), "fail", "unplugged"),
    ],
)
async def test_whatever_a_source_does_is_a_finding(outcome, result, said):
    async with FarSide() as far:
        _, found = await examined(far.url, source=Source(outcome))

    assert result == found["token"].outcome
    assert said in found["token"].said


@pytest.mark.parametrize("outcome", [KeyError("k"), {"access_token": CANARY}, None])
async def test_a_source_that_breaks_its_contract_is_a_finding(outcome):
    async with FarSide() as far:
        _, found = await examined(far.url, source=Source(outcome))

    assert "ppss" + "f" + "sss" == outcomes(found)
    assert "no token: the token" in found["token"].said
    assert "the source itself" in found["token"].advice


@pytest.mark.parametrize(
    "source",
    [
        EnvToken("NO_SUCH_VARIABLE_HERE"),
        FileToken("/nonexistent/token"),
        FileToken("/"),
        Source(FileNotFoundError(2, "No such file or directory", "/nonexistent/key")),
        Source(PermissionError(13, "Permission denied", "/nonexistent/key")),
    ],
    ids=["variable", "file", "folder", "provider's file", "provider's rights"],
)
async def test_nobody_is_asked_whether_a_source_on_this_machine_is_up(source):
    async with FarSide() as far:
        _, found = await examined(far.url, source=source)

    assert "ppss" + "f" + "sss" == outcomes(found)
    assert "on this machine" in found["token"].advice


async def test_a_gateway_that_answers_without_a_token_is_up():
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        gateway.fail("token", next=None, status=200, body={})
        _, found = await examined(far.url, gateway=gateway.url)

    assert "f" == found["token"].outcome[0]
    assert "it answers, and with no token" in found["token"].advice


# --- Without a source of tokens -------------------------------------------------------------------


async def test_without_a_source_the_rest_is_examined_and_the_reason_told():
    async with FarSide() as far:
        report, found = await examined(far.url, source=None)

    assert "ppss" + "s" + "ppp" == outcomes(found)
    assert "no source of tokens is named" in found["token"].said
    assert "the far side upgraded without a token" == found["handshake"].said
    assert [None] == [link.request.headers.get("authorization") for link in far.links]
    assert report.healthy


@pytest.mark.parametrize("status", [401, 403])
async def test_a_far_side_that_asks_for_the_token_we_lack_is_no_failure(status):
    async with FarSide() as far:
        far.refuse(status=status)
        report, found = await examined(far.url, source=None)

    assert "ppss" + "s" + "wss" == outcomes(found)
    assert f"{status}" in found["handshake"].said
    assert "--token-env" in found["handshake"].advice
    assert "needs a token" in found["ping"].said
    assert "needs a token" in found["close"].said
    assert report.healthy


@pytest.mark.parametrize(("code", "reason"), [(1008, "no"), (4401, "who are you?")])
async def test_a_far_side_that_hangs_up_for_want_of_a_token_is_no_failure(code, reason):
    async with FarSide() as far:
        far.accept_then_close(code, reason)
        report, found = await examined(far.url, source=None)

    assert "ppss" + "s" + "pws" == outcomes(found)
    assert f"{code}" in found["ping"].said
    assert "--token-env" in found["ping"].advice
    assert (report.healthy, report.hopeless) == (True, False)


@pytest.mark.parametrize(
    ("query", "headers"),
    [("", [("Authorization", f"Bearer {CANARY}")]), (f"?api_key={CANARY}", [])],
    ids=["in a header", "in the URL"],
)
async def test_a_secret_that_was_given_otherwise_and_is_refused_is_a_failure(query, headers):
    async with FarSide() as far:
        far.refuse(status=401)
        _, found = await examined(f"{far.url}{query}", source=None, headers=headers)

    assert "ppss" + "s" + "fss" == outcomes(found)
    assert "does not take" in found["handshake"].advice


@pytest.mark.parametrize("code", [1003, 4404])
async def test_an_end_that_is_not_for_want_of_a_token_fails_without_one(code):
    async with FarSide() as far:
        far.accept_then_close(code, "no")
        report, found = await examined(far.url, source=None)

    assert "ppss" + "s" + "pfs" == outcomes(found)
    assert report.hopeless


async def test_what_no_token_would_mend_fails_without_one_as_well():
    async with FarSide() as far:
        far.refuse(status=503)
        report, found = await examined(far.url, source=None)

    assert "ppss" + "s" + "fss" == outcomes(found)
    assert "tries again" in found["handshake"].advice
    assert not report.healthy


# --- The link -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "advice", "hopeless"),
    [
        (401, "does not take this token", False),
        (403, "scopes", False),
        (404, "nothing at this path", False),
        (407, "proxy", True),
        (503, "tries again", False),
        (301, "redirects are not followed", False),
    ],
)
async def test_a_refused_upgrade_says_what_to_do(status, advice, hopeless):
    async with FarSide() as far:
        far.refuse(status=status)
        report, found = await examined(far.url)

    assert "ppss" + "p" + "fss" == outcomes(found)
    assert status == found["handshake"].facts["status"]
    assert f"{status}" in found["handshake"].said
    assert advice in found["handshake"].advice
    assert hopeless == report.hopeless


async def test_what_is_no_websocket_is_told():
    async with FarSide() as far:
        far.garbage(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        _, found = await examined(far.url)

    assert "ppss" + "p" + "fss" == outcomes(found)
    assert "did not answer in HTTP/1.1" in found["handshake"].said


async def test_a_silent_far_side_meets_the_limit_for_everything():
    async with FarSide() as far:
        far.hang()
        _, found = await examined(far.url, within=1.0)

    assert "ppss" + "p" + "fss" == outcomes(found)
    assert "the 1 s for everything" in found["handshake"].said


@pytest.mark.parametrize("what", ["TLS", "proxy"])
async def test_a_silent_way_there_leaves_time_for_the_token(what):
    async def silent(peer):
        await asyncio.Event().wait()

    async with serving(silent) as port, Gateway() as gateway:
        gateway.add("c-1", lifetime=3600)
        url = f"wss://127.0.0.1:{port}/ws"
        proxy = f"http://127.0.0.1:{port}" if what == "proxy" else None
        _, found = await examined(url, gateway=gateway.url, proxy=proxy, within=1.0)

    assert "fail" == found[what].outcome
    assert "no end of it within 0.5 s" in found[what].said
    assert f"needs {what}, which failed" == found["handshake"].said
    assert "pass" == found["token"].outcome
    assert "speak TLS" in found[what].advice or "the proxy's port" in found[what].advice


async def test_a_source_that_does_not_answer_meets_the_limit_for_everything():
    async with FarSide() as far:
        _, found = await examined(far.url, source=Slow(), within=1.0)

    assert "ppss" + "f" + "sss" == outcomes(found)
    assert "the 1 s for everything" in found["token"].said
    assert "up, and reachable" in found["token"].advice


@pytest.mark.parametrize(("asked", "said"), [("120", "wait 120 s"), (None, "503 Service Unav")])
async def test_how_long_a_far_side_asks_us_to_wait_is_told(asked, said):
    async with FarSide() as far:
        far.refuse(status=503, headers={} if asked is None else {"Retry-After": asked})
        _, found = await examined(far.url)

    assert said in found["handshake"].said
    assert (asked is not None) == ("wait" in found["handshake"].said)


async def test_a_far_side_that_answers_no_ping_fails():
    async with FarSide(answer_pings=False) as far:
        _, found = await examined(far.url, ping_timeout=0.1)

    assert "ppss" + "p" + "pfs" == outcomes(found)
    assert "take this link for dead" in found["ping"].advice


FORBIDDEN, NO_TOKEN, OTHER = (
    "takes this for permanent",
    "did not take the token",
    "its log says why",
)


@pytest.mark.parametrize(
    ("code", "reason", "advice", "hopeless"),
    [
        *[(code, "go away", FORBIDDEN, True) for code in (1003, 1008, 3003, 4003, 4403, 4404)],
        *[(code, "go away", NO_TOKEN, False) for code in (3000, 4001, 4401)],
        (1008, "the token is not for us", NO_TOKEN, False),
        *[(code, "go away", OTHER, False) for code in (1000, 1002, 1011, 4409, 4999)],
    ],
)
async def test_a_far_side_that_opens_and_closes_is_judged_as_a_bridge_would(
    code, reason, advice, hopeless
):
    async with FarSide() as far:
        far.accept_then_close(code, reason)
        report, found = await examined(far.url)

    assert "ppss" + "p" + "pfs" == outcomes(found)
    assert f"{code}" in found["ping"].said
    assert advice in found["ping"].advice
    assert hopeless == report.hopeless


@pytest.mark.parametrize("code", [1001, 1012])
async def test_a_far_side_that_goes_away_is_answered_as_a_bridge_would(code):
    async with FarSide(answer_pings=False) as far:
        examination = asyncio.create_task(examined(far.url))
        await far.wait_for(lambda: far.links and far.links[0].pings)
        far.close_all(code, "a deploy")
        _, found = await examination
        await far.wait_for(lambda: far.links[0].closed_at)

    assert f"{code} a deploy" in found["ping"].said
    assert code == far.links[0].close_code


async def test_a_close_without_an_answer_is_a_warning():
    async with FarSide(answer_closes=False) as far:
        report, found = await examined(far.url, close_timeout=0.1)

    assert "ppss" + "p" + "ppw" == outcomes(found)
    assert report.healthy


@pytest.mark.parametrize(("seconds", "outcome"), [(0.02, "pass"), (1.5, "warn")])
def test_a_slow_answer_to_a_ping_is_a_warning(seconds, outcome):
    finding = answered(seconds, 3)

    assert outcome == finding.outcome
    assert "3 messages" in finding.said
