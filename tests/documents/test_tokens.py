"""Every Python block of docs/tokens.md runs, and what it makes gives tokens."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import dromos.oauth
from dromos import Bridge, Handler, Token
from dromos.testing import FarSide
from tests.oauth.token_server import TokenServer

TEXT = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
OURS, VAULT, REFRESH, DEVICE, KEY, TLS, EXCHANGE, HEADERS = range(8)


class Agent(Handler):
    """Does nothing."""


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


def run(number: int, server: TokenServer, **names: Any) -> dict[str, Any]:
    """Execute a block with the address of a real server."""
    source = BLOCKS[number].replace("https://login.example.com", server.url)
    exec(compile(source, f"docs/tokens.md, block {number}", "exec"), names)
    return names


def test_there_are_as_many_blocks_as_are_run():
    assert HEADERS + 1 == len(BLOCKS)


async def test_a_client_with_a_secret(server: TokenServer):
    made = run(OURS, server)

    assert "at-1" == (await made["tokens"].get_token()).access_token
    assert isinstance(made["bridge"], Bridge)
    assert "telemetry.write" == server.forms[0]["scope"]


@pytest.mark.slow  # two real seconds: the block is what a user would run, clock and all
async def test_a_source_of_ten_lines_is_cached_renewed_and_asked_once(server: TokenServer):
    """Ten sessions, tokens of four seconds: what the document promises of any source."""
    reads: list[float] = []

    async def read_lease(connection_id: str) -> dict[str, Any]:
        reads.append(time.time())
        await asyncio.sleep(0)
        return {"token": f"v-{len(reads)}", "expires_at": time.time() + 4}

    tokens = run(VAULT, server, read_lease=read_lease)["tokens"]
    assert len(BLOCKS[VAULT].split("class")[1].strip().splitlines()) <= 11
    async with FarSide() as far, Bridge(tokens) as bridge:
        sessions = [
            asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Agent()))
            for _ in range(10)
        ]
        await far.wait_for(lambda: len(far.links) >= 20, timeout=30)
        asked = len(reads)
        for session in sessions:
            session.cancel()
        await asyncio.wait(sessions)

    presented = [link.token for link in far.links]
    assert {"v-1", "v-2"} <= set(presented)
    assert 10 == presented.count("v-1")
    assert asked <= 3  # ten sessions, two or three tokens


async def test_a_source_that_fails_is_classified(server: TokenServer):
    failures: list[Exception] = [OSError("no route"), TimeoutError()]

    async def read_lease(connection_id: str) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        raise dromos.PermanentError("the vault is sealed")

    tokens = run(VAULT, server, read_lease=read_lease)["tokens"]
    bridge = Bridge(tokens, retry_policy=dromos.RetryPolicy(min_backoff=0))
    with pytest.raises(dromos.PermanentError, match="the vault is sealed"):
        await bridge.maintain_websocket("c", "ws://127.0.0.1:1", Agent())

    assert [] == failures


async def test_a_refresh_token(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    token = await run(REFRESH, server)["tokens"].get_token()

    assert "at-1" == token.access_token
    assert "the-first-one" == server.forms[0]["refresh_token"]
    assert 0o600 == (tmp_path / "grant.json").stat().st_mode & 0o777


async def test_a_person_with_a_browser(
    server: TokenServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    server.pending = 2

    token = await run(DEVICE, server)["tokens"].get_token()

    assert "at-4" == token.access_token
    assert f"Go to {server.url}/go and type ABCD-EFGH\n" == capsys.readouterr().out


async def test_a_key_instead_of_a_secret(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "key.pem").write_bytes(pem)
    # The block's `open(...)` is closed by the reference count; here that is a warning.
    with pytest.warns(ResourceWarning):
        token = await run(KEY, server)["tokens"].get_token()

    assert "at-1" == token.access_token
    assert "client_assertion" in server.forms[0]


async def test_a_certificate_for_both_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("agent-7.example")
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    async with TokenServer(tls=tls) as server, FarSide(host="localhost", ssl=tls) as far:
        made = run(TLS, server)
        async with made["bridge"] as bridge:
            session = asyncio.ensure_future(bridge.maintain_websocket("c", far.url, Agent()))
            link = await far.wait_for_link(1)
        await session

    assert "at-1" == link.token
    assert "agent-7" == server.forms[0]["client_id"]


async def test_a_workload_s_identity(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("projected\n")

    token = await run(EXCHANGE, server)["tokens"].get_token()

    assert "at-1" == token.access_token
    assert "projected" == server.forms[0]["subject_token"]
    assert "urn:ietf:params:oauth:token-type:jwt" == server.forms[0]["subject_token_type"]


async def test_headers_with_a_token_that_never_changes(server: TokenServer):
    token: Token = await run(HEADERS, server)["tokens"].get_token("c")

    assert ("headers", "acme") == (token.strategy.type, token.credentials["tenant"])


def test_every_source_that_is_named_exists():
    named = set(re.findall(r"^\| .* \| `([A-Z]\w+)\(", TEXT, re.MULTILINE))

    assert named <= set(dromos.oauth.__all__)
    sources = {
        name for name in dromos.oauth.__all__ if hasattr(getattr(dromos.oauth, name), "get_token")
    }
    assert named == sources


def test_every_strategy_is_named():
    from dromos import auth

    section = TEXT.partition("## How a token is presented")[2].partition("```")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert set(auth._strategies) == named
