"""`dromos doctor`: a line a step, one JSON object, and what the exit status says."""

import asyncio
import json
import os
import sys

import pytest

from dromos.testing import FarSide, Gateway

SECRET = "CANARY-d0ct0r-77"


async def doctor(*arguments):
    """Run the command to its end; its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "doctor", *arguments),
        env={**os.environ, "MY_TOKEN": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert SECRET not in out.decode() + err.decode()
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


async def test_each_step_is_a_line_and_0_means_that_nothing_failed():
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        status, out, err = await doctor(far.url, "--gateway", gateway.url, "--connection-id", "c-1")

    assert (0, "") == (status, err)
    assert [line.split()[1] for line in out.splitlines()] == [
        *("DNS", "TCP", "proxy", "TLS", "token", "handshake", "ping", "close")
    ]
    assert "skipped: ws:// has none" in out


async def test_1_means_that_something_failed_and_what_to_do_stands_below_it():
    async with FarSide(check=lambda request: False) as far:
        status, out, _ = await doctor(far.url, "--token-env", "MY_TOKEN")

    assert 1 == status
    assert "FAIL  handshake" in out
    assert "-> it does not take this token" in out
    assert "ping       skipped: needs handshake, which failed" in out


async def test_78_means_what_trying_again_can_not_mend():
    async with Gateway() as gateway, FarSide(gateway=gateway) as far:
        gateway.add("c-1", lifetime=3600)
        gateway.fail("token", next=None, status=409, body={"error": "attention_required"})
        status, out, _ = await doctor(
            *(far.url, "--gateway", gateway.url, "--connection-id", "c-1", "--json")
        )

    told = json.loads(out)
    assert (78, True, False) == (status, told["hopeless"], told["healthy"])
    assert ["pass", "pass", "skip", "skip", "fail", "skip", "skip", "skip"] == [
        step["outcome"] for step in told["steps"]
    ]


async def test_without_a_source_of_tokens_what_needs_none_is_examined():
    async with FarSide(check=lambda request: False) as far:
        status, out, err = await doctor(far.url)

    assert (0, "") == (status, err)
    assert "token      skipped: no source of tokens is named" in out
    assert "WARN  handshake" in out
    assert "-> say where tokens come from" in out


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("def tokens(): raise KeyError('k')", 1, "source:tokens raised KeyError"),
        ("import no_such_module_anywhere", 1, "source:tokens raised ModuleNotFoundError"),
        ("tokens = 5", 2, "provider source:tokens has no get_token"),
    ],
    ids=["raises", "can't be imported", "is none"],
)
async def test_a_source_of_the_user_s_that_can_not_be_made_is_told_as_by_the_other_commands(
    tmp_path, monkeypatch, source, status, said
):
    (tmp_path / "source.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "doctor", "ws://127.0.0.1:9/x"),
        *("--provider", "source:tokens"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)

    assert (status, b"") == (process.returncode, out)
    assert said in err.decode()
    assert "site-packages" not in err.decode()
    assert "dromos/cli" not in err.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ws://far.example/x", "--token-env", "MY_TOKEN"), "URL would send the token in clear"),
        (("ftp://far.example/x", "--token-env", "MY_TOKEN"), "URL must begin with ws://"),
        (("ws://127.0.0.1/x", "--connection-id", "c"), "say once where tokens come from"),
        (("ws://127.0.0.1/x", "--client-id", "c"), "say once where tokens come from"),
        (("ws://127.0.0.1/x", "--token-env", "MY_TOKEN", "--ca", "/none"), "--ca /none can't"),
        (("ws://127.0.0.1/x", "--token-env", "MY_TOKEN", "--proxy", SECRET), "proxy must begin"),
        (("ws://127.0.0.1/x", "--token-env", "MY_TOKEN", "-H", SECRET), "a header is NAME: VALUE"),
    ],
)
async def test_wrong_usage_is_named_before_anything_is_opened(arguments, said):
    status, out, err = await doctor(*arguments)

    assert (2, "") == (status, out)
    assert said in err


async def test_what_the_user_s_source_raises_is_told_with_the_traceback_of_that(tmp_path):
    (tmp_path / "mine.py").write_text("raise LookupError('init')\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "doctor", "ws://127.0.0.1:1", "--provider", "mine:Vault"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)

    lines = err.decode().splitlines()
    assert 1 == process.returncode
    assert "dromos: mine:Vault raised LookupError: init" == lines[0]
    assert ["mine.py"] == [line.split('"')[1].split("/")[-1] for line in lines if "  File " in line]
