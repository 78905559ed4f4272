"""`dromos connect` as a process of its own, against a real gateway and far side."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import tty
from pathlib import Path

import pytest

import dromos
from dromos.testing import FarSide, Gateway

SOURCE = str(Path(dromos.__file__).parents[1])


async def start(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": SOURCE, "COLUMNS": "100"} | options.pop("env", {})
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE) | options
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dromos", *arguments, env=environment, **pipes
    )


async def finish(process, data=b""):
    # Without data, `communicate` would leave the input open, and wait for ever.
    out, err = await process.communicate(data if process.stdin else None)
    return process.returncode, out, (err or b"").decode()


@contextlib.asynccontextmanager
async def world(**options):
    """A gateway that knows `c-1`, and a far side that asks it."""
    async with Gateway() as gateway, FarSide(gateway=gateway, **options) as far:
        gateway.add("c-1")
        yield gateway, far


def connecting(gateway, far, *more):
    return ("connect", far.url, "--gateway", gateway.url, "--connection-id", "c-1", *more)


# --- Messages --------------------------------------------------------------------------------


async def test_lines_are_sent_and_messages_printed_and_the_end_of_input_closes():
    async with world(echo=True) as (gateway, far):
        process = await start(*connecting(gateway, far))
        process.stdin.write("one\nzwei ü\n".encode())
        lines = [await process.stdout.readline() for _ in range(2)]
        status, out, err = await finish(process, b"last, without an end")
        await far.links[0].wait_closed()

    assert lines == [b"one\n", "zwei ü\n".encode()]
    assert far.links[0].received == ["one", "zwei ü", "last, without an end"]
    assert (status, far.links[0].close_code) == (0, 1000)
    assert out in (b"", b"last, without an end\n")
    assert "connected, on link 1" in err


async def test_a_regular_file_is_sent_whole(tmp_path):
    path = tmp_path / "input"
    path.write_text("".join(f"line {number}\n" for number in range(2000)))
    async with world() as (gateway, far):
        with path.open("rb") as stdin:
            status, _, err = await finish(await start(*connecting(gateway, far), stdin=stdin))
        await far.links[0].wait_closed()

    assert (status, far.links[0].received_count) == (0, 2000), err
    assert far.links[0].received[-1] == "line 1999"


async def test_an_empty_input_opens_a_link_and_closes_it():
    async with world() as (gateway, far):
        options = {"stdin": asyncio.subprocess.DEVNULL}
        status, _, _ = await finish(await start(*connecting(gateway, far), **options))

    assert (status, len(far.links)) == (0, 1)


async def test_it_may_stay_after_the_input_has_ended():
    async with world() as (gateway, far):
        process = await start(
            *connecting(gateway, far, "--stay", "-q"), stdin=asyncio.subprocess.DEVNULL
        )
        link = await far.wait_for_link()
        link.send("late")
        assert await process.stdout.readline() == b"late\n"
        process.send_signal(signal.SIGTERM)
        status, _, err = await finish(process)

    assert (status, err) == (0, "")


@pytest.mark.parametrize(("form", "shown"), [("hex", b"00ff10"), ("base64", b"AP8Q")])
async def test_binary_messages_are_marked(form, shown):
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far, "--binary", form))
        (await far.wait_for_link()).send(b"\x00\xff\x10")
        line = await process.stdout.readline()
        await finish(process)

    assert line == b"<binary, 3 bytes> " + shown + b"\n"


async def test_text_is_passed_on_as_it_is_into_a_pipe():
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far))
        (await far.wait_for_link()).send("\x1b[2Jred\tline")
        line = await process.stdout.readline()
        await finish(process)

    assert line == b"\x1b[2Jred\tline\n"


async def test_a_terminal_is_not_steered_by_the_far_side():
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        async with world() as (gateway, far):
            process = await start(*connecting(gateway, far), stdout=slave)
            link = await far.wait_for_link()
            link.send("\x1b]0;owned\x07 two\nlines \u202e")
            shown = await asyncio.to_thread(os.read, master, 1000)
            link.close(4000, "\x1b[2Jgone")
            await far.wait_for_link(2)
            _, _, err = await finish(process)
    finally:
        os.close(master)
        os.close(slave)

    assert shown == b"\\x1b]0;owned\\x07 two\\nlines \\u202e\n"
    assert "\\x1b[2Jgone" in err
    assert "\x1b" not in err


async def test_a_line_that_is_not_utf8_is_named_and_the_rest_goes_on():
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far))
        status, _, err = await finish(process, b"one\n\xff\xfe\nthree\n")
        await far.links[0].wait_closed()

    assert (status, far.links[0].received) == (0, ["one", "three"])
    assert "line 2 was not sent: it is not UTF-8" in err


# --- Links -------------------------------------------------------------------------------------


async def test_lines_wait_for_an_open_link():
    async with world() as (gateway, far):
        far.refuse(status=503)
        process = await start(*connecting(gateway, far))
        status, _, err = await finish(process, b"hello\n")
        await far.links[0].wait_closed()

    assert (status, far.links[0].received) == (0, ["hello"])
    assert "refused the upgrade with 503" in err
    assert "next attempt in" in err


async def test_it_survives_a_lost_link():
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far))
        process.stdin.write(b"one\n")
        await far.wait_for(lambda: far.links and far.links[0].received)
        far.drop_all()
        link = await far.wait_for_link(2)
        status, _, err = await finish(process, b"two\n")
        await link.wait_closed()

    assert (status, link.received) == (0, ["two"])
    assert "connected again, on link 2" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_closes_the_link(number):
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far))
        link = await far.wait_for_link()
        process.stdin.write(b"one\n")
        await far.wait_for(lambda: link.received)
        process.send_signal(number)
        await process.wait()
        await link.wait_closed()
        status, _, err = await finish(process)

    assert (status, link.close_code) == (0, 1000)
    assert "Traceback" not in err


async def test_a_line_that_waits_when_the_session_ends_is_named():
    async with world() as (gateway, far):
        far.refuse(status=503, next=None)
        process = await start(*connecting(gateway, far))
        process.stdin.write(b"hello\n")
        await far.wait_for(lambda: far.attempts)
        process.send_signal(signal.SIGTERM)
        await process.wait()
        status, _, err = await finish(process)

    assert status == 0
    assert "line 1 was not sent" in err


async def test_a_reader_of_the_output_that_has_gone_ends_it_quietly():
    out, into = os.pipe()
    async with world() as (gateway, far):
        process = await start(*connecting(gateway, far, "-q"), stdout=into)
        os.close(into)
        link = await far.wait_for_link()
        os.close(out)
        link.send("unread")
        await process.wait()
        await link.wait_closed()
        status, _, err = await finish(process)

    assert (status, err) == (0, "")


# --- Tokens and errors ---------------------------------------------------------------------------


async def test_a_static_token_comes_from_the_environment():
    def check(request):
        return (request.headers["authorization"], request.headers["x-room"]) == ("Bearer s3", "7")

    async with FarSide(check=check) as far:
        arguments = ("connect", far.url, "--token-env", "MY_TOKEN", "-H", "X-Room: 7")
        status, out, err = await finish(await start(*arguments, env={"MY_TOKEN": "s3"}), b"hi\n")

    assert (status, far.links[0].received) == (0, ["hi"])
    assert "s3" not in out.decode() + err


async def test_a_static_token_that_is_refused_ends_with_78():
    async with FarSide(check=lambda request: False) as far:
        arguments = ("connect", far.url, "--token-env", "MY_TOKEN")
        status, _, err = await finish(await start(*arguments, env={"MY_TOKEN": "s3cret"}), b"hi\n")

    assert status == 78
    assert "401" in err
    assert "s3cret" not in err
    assert "Traceback" not in err


async def test_a_connection_that_needs_a_person_ends_with_78():
    async with world() as (gateway, far):
        gateway.set_status("c-1", "attention")
        status, _, err = await finish(await start(*connecting(gateway, far)), b"hi\n")

    assert (status, len(far.attempts)) == (78, 0)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("connect",), 2, "Missing argument 'URL'"),
        (("connect", "ws://127.0.0.1:1"), 2, "say once where tokens come from"),
        (("connect", "ws://127.0.0.1:1", "--gateway", "http://127.0.0.1:1"), 2, "--connection-id"),
        (("connect", "ws://127.0.0.1:1", "--token-env", "NO_SUCH"), 78, "NO_SUCH is not set"),
        (("connect", "ws://x", "--token-env", "HOME", "-H", "nonsense"), 2, "a header is"),
        (
            ("connect", "ws://h/", "--gateway", "ftp://h", "--connection-id", "c"),
            2,
            "http",
        ),
        (("connect", "http://127.0.0.1:1", "--token-env", "HOME"), 2, "ws://"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused_in_words(arguments, status, words):
    code, _, err = await finish(await start(*arguments), b"")

    assert (code, words in err) == (status, True), err
    assert "Traceback" not in err
