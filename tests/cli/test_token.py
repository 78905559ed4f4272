"""`dromos token`: one token from any source, and what it is; never the token itself."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.oauth.token_server import TokenServer, refusal

from dromos import AuthStrategy
from dromos.oauth import FileStore, Secret, StoredGrant
from dromos.testing import Gateway

SECRET = "CANARY-s3cr3t"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


async def token(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run the command to its end; its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "token", *arguments),
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


def asking(server: TokenServer) -> tuple[str, ...]:
    return ("--issuer", server.url, "--client-id", "a", "--client-secret-env", "MY_SECRET")


async def test_a_token_is_described_and_not_shown(server: TokenServer):
    status, out, err = await token(
        *asking(server), "--scope", "read", "--scope", "write", MY_SECRET=SECRET
    )

    assert (0, "") == (status, err)
    assert "strategy     oauth2" in out
    assert "credentials  access_token (not shown; --reveal prints them)" in out
    assert "scopes       read write" in out
    assert "3600 s as issued" in out
    assert "clock skew   " in out
    assert "at-1" not in out
    assert SECRET not in out


async def test_a_revealed_token_is_all_that_standard_output_gets(server: TokenServer):
    status, out, err = await token(*asking(server), "--reveal", MY_SECRET=SECRET)

    assert (0, "at-1\n") == (status, out)
    assert "strategy     oauth2" in err
    assert "at-1" not in err


async def test_credentials_of_another_strategy_are_revealed_as_json():
    async with Gateway() as gateway:
        gateway.add(
            "c-1",
            strategy=AuthStrategy("basic_auth"),
            credentials={"username": "u", "password": "p"},
        )
        arguments = ("--gateway", gateway.url, "--connection-id", "c-1")
        _, hidden, _ = await token(*arguments)
        status, out, _ = await token(*arguments, "--reveal")

    assert (0, {"username": "u", "password": "p"}) == (status, json.loads(out))
    assert "credentials  password, username" in hidden


async def test_json_has_the_token_only_if_asked(server: TokenServer):
    _, out, _ = await token(*asking(server), "--json", MY_SECRET=SECRET)
    told = json.loads(out)
    _, out, _ = await token(*asking(server), "--json", "--reveal", MY_SECRET=SECRET)
    revealed = json.loads(out)

    assert ("oauth2", 3600.0, ["access_token"]) == (
        told["strategy"],
        told["lifetime"],
        told["credentials"],
    )
    assert "values" not in told
    assert {"access_token": "at-2"} == revealed["values"]


async def test_a_skewed_clock_is_named(server: TokenServer):
    server.clock_ahead = 600
    _, out, _ = await token(*asking(server), MY_SECRET=SECRET)

    assert "s ahead of ours" in out


async def test_an_expired_token_says_so():
    async with Gateway() as gateway:
        gateway.add("c-1", lifetime=0.001)
        status, out, _ = await token("--gateway", gateway.url, "--connection-id", "c-1")

    assert 0 == status
    assert "EXPIRED" in out


async def test_fresh_has_another_one_issued():
    async with Gateway() as gateway:
        gateway.add("c-1", lifetime=3600)
        arguments = ("--gateway", gateway.url, "--connection-id", "c-1")
        _, first, _ = await token(*arguments, "--reveal")
        status, second, _ = await token(*arguments, "--fresh", "--reveal")

    assert 0 == status
    assert first != second


async def test_a_refresh_token_in_a_store(server: TokenServer, tmp_path: Path):
    path = tmp_path / "grant.json"
    await FileStore(path).save(StoredGrant(refresh_token=Secret("rt-0")))
    status, out, _ = await token(
        *("--token-url", f"{server.url}/token", "--client-id", "a"),
        *("--refresh-store", str(path), "--reveal"),
    )

    assert (0, "at-1\n") == (status, out)
    assert "rt-0" == server.forms[0]["refresh_token"]
    assert "rt-1" in path.read_text()
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


async def test_a_file_a_variable_and_a_source_of_ones_own(tmp_path: Path):
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "mine.py").write_text(
        "from dromos import Token\n"
        "class Vault:\n"
        "    async def get_token(self, connection_id):\n"
        "        return Token({'access_token': 'from-' + connection_id})\n"
    )
    options = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    assert (0, "from-file\n") == (await token("--token-file", str(tmp_path / "token"), "--reveal"))[
        :2
    ]
    assert (0, "from-env\n") == (await token("--token-env", "T", "--reveal", T="from-env"))[:2]
    found = await token("--provider", "mine:Vault", "--connection-id", "c", "--reveal", **options)
    assert (0, "from-c\n") == found[:2]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("return 'CANARY-s3cr3t'", 78, "the token provider returned str instead of a Token"),
        ("return None", 78, "the token provider returned NoneType instead of a Token"),
        ("raise KeyError('k')", 1, "the token source raised KeyError: 'k'"),
        ("raise TokenError('not now')", 1, "not now"),
    ],
)
async def test_what_a_source_of_ones_own_does_wrong_is_said_in_a_line(
    tmp_path: Path, body: str, status: int, said: str
):
    (tmp_path / "mine.py").write_text(
        "from dromos import TokenError\n"
        "class Vault:\n"
        "    async def get_token(self, connection_id):\n"
        f"        {body}\n"
        "    refresh_connection = get_token\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    for more in ((), ("--fresh",)):
        found = await token("--provider", "mine:Vault", *more, PYTHONPATH=path)
        assert (status, "", f"dromos: {said}\n") == found


async def test_what_passes_is_1_and_what_stays_is_78(server: TokenServer):
    server.answers = [
        refusal("temporarily_unavailable", status=503),
        refusal("invalid_scope", error_description="no such scope"),
    ]
    passing = await token(*asking(server), MY_SECRET=SECRET)
    staying = await token(*asking(server), MY_SECRET=SECRET)

    assert (1, "") == passing[:2]
    assert "temporarily_unavailable" in passing[2]
    assert 78 == staying[0]
    assert "invalid_scope: no such scope" in staying[2]
    assert SECRET not in passing[2] + staying[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say once where tokens come from"),
        (("--token-env", "A", "--gateway", "http://localhost"), "say once"),
        (("--gateway", "http://localhost"), "--gateway needs --connection-id"),
        (("--issuer", "http://localhost"), "need --client-id"),
        (("--issuer", "http://far.example", "--client-id", "a"), "--issuer must be https"),
        (("--issuer", "http://localhost", "--client-id", "a"), "client_secret"),
        (
            ("--issuer", "http://localhost", "--client-id", "a", "--client-secret-env", "NO_SUCH"),
            "has no NO_SUCH",
        ),
        (
            ("--issuer", "http://localhost", "--client-id", "a", "--client-secret-file", "/no"),
            "can't be read",
        ),
        (("--provider", "nonsense"), "MODULE:NAME"),
        (("--provider", "no.such:thing"), "can't be imported"),
        (("--provider", "os:path"), "has no get_token"),
        (("--token-env", "not a name"), "--token-env must be"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused_in_words(
    arguments: tuple[str, ...], words: str
):
    status, out, err = await token(*arguments)

    assert ("", True) == (out, words in err), err
    assert status in (2, 78)
