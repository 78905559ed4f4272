"""`dromos watch`: the sessions of a real health port, in the order of their trouble."""

import asyncio
import json
import os
import pty
import sys
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from dromos import Bridge, Handler
from dromos.cli import watch_ask
from dromos.cli.watch import pause
from dromos.cli.watch_ask import Port, address
from dromos.cli.watch_sessions import read, with_rates
from dromos.cli.watch_table import plain, table
from dromos.oauth import StaticToken
from dromos.service import HealthServer
from dromos.testing import FarSide


class Agent(Handler):
    pass


async def watch(*arguments):
    """Run the command to its end; its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "watch", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def running(count=2, *, port=0):
    """A process with some sessions and a health port."""
    async with FarSide() as far, Bridge(StaticToken("t")) as bridge:
        tasks = [
            asyncio.create_task(bridge.maintain_websocket(f"c-{n}", far.url, Agent()))
            for n in range(count)
        ]
        await far.wait_for(lambda: len(far.open_links) == count)
        async with HealthServer(bridge, port=port) as server:
            yield server, far
        await bridge.close()
        await asyncio.gather(*tasks)


async def test_the_sessions_of_a_process_are_shown_once():
    async with running() as (server, _):
        status, out, err = await watch(f"127.0.0.1:{server.port}", "--once")

    assert (0, "") == (status, err)
    first, second, *rows = out.splitlines()
    assert first.startswith("2 sessions: 2 open  (ready, dromos ")
    assert ["connection", "state", "for"] == second.split()[:3]
    assert [["c-0", "open"], ["c-1", "open"]] == [row.split()[:2] for row in rows]


async def test_json_has_what_the_port_says_and_the_counts():
    async with running() as (server, _):
        status, out, _ = await watch(server.port, "--once", "--json")

    told = json.loads(out)
    assert (0, {"open": 2}, True) == (status, told["by_state"], told["ready"])
    assert ["c-0", "c-1"] == [session["connection"] for session in told["sessions"]]


async def test_a_port_that_nobody_listens_on_is_an_error(unused_tcp_port):
    status, out, err = await watch(unused_tcp_port)

    assert (1, "") == (status, out)
    assert f"http://127.0.0.1:{unused_tcp_port}/sessions can't be reached" in err


async def test_what_is_no_health_port_is_an_error():
    async with FarSide() as far:
        status, _, err = await watch(far.url.replace("ws://", "http://"))

    assert 1 == status
    assert "is this a health port?" in err


async def test_a_process_that_starts_again_is_waited_for():
    process = None
    try:
        async with running() as (server, _):
            port = server.port
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "dromos",
                    "watch",
                    str(port),
                    "--interval",
                    "0.2",
                    "--json",
                ),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=asyncio.subprocess.PIPE,
            )
            first = json.loads(await process.stdout.readline())
        told = first
        while "unreachable" not in told:
            told = json.loads(await process.stdout.readline())
        async with running(3, port=port):
            while "unreachable" in told:
                told = json.loads(await process.stdout.readline())
    finally:
        if process is not None:
            process.terminate()
            await process.communicate()

    assert ({"open": 2}, {"open": 3}) == (first["by_state"], told["by_state"])


async def test_a_terminal_gets_a_live_table():
    async with running() as (server, _):
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dromos", "watch", str(server.port), "--interval", "0.2"),
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "20"},
            stdout=slave,
        )
        os.close(slave)
        shown = b""
        try:
            while shown.count(b"c-1") < 2:  # drawn twice at least
                shown += await asyncio.to_thread(os.read, master, 65536)
        finally:
            process.kill()  # not SIGINT, which whoever runs the tests may have it ignore
            await process.wait()
            os.close(master)

    assert b"2 sessions" in shown


async def test_a_terminal_keeps_the_message_that_nobody_answers(unused_tcp_port):
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dromos", "watch", str(unused_tcp_port)),
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "20"},
        stdout=slave,
        stderr=slave,
    )
    status = await process.wait()
    os.close(slave)
    shown = await asyncio.to_thread(os.read, master, 65536)
    os.close(master)

    _, left, after = shown.rpartition(b"\x1b[?1049l")  # leaves the screen of its own, if it took it
    assert 1 == status
    assert left
    assert b"can't be reached" in after


async def test_a_host_that_is_no_name_is_an_error():
    status, _, err = await watch("a..b", "--once")

    assert 1 == status
    assert "http://a..b/sessions can't be reached: this is no name of a host" in err


# --- The parts ------------------------------------------------------------------------------------


def session(number, state="open", **more):
    return {
        "connection_id": f"c-{number}",
        "session": number,
        "state": state,
        "since": 1000.0 - number,
        "counters": {"received": 100 * number, "sent": number},
        **more,
    }


def answer(*sessions, now=1000.0, **more):
    return {"now": now, "version": "1", "ready": True, "sessions": list(sessions), **more}


@pytest.mark.parametrize(
    ("took", "answered", "seconds"),
    [(0.02, True, 0.98), (0.5, True, 10.0), (5.0, False, 0.0), (0.1, False, 0.9)],
)
def test_a_process_is_spared_when_its_answers_cost_it_something(took, answered, seconds):
    assert pytest.approx(seconds) == pause(1.0, took=took, answered=answered)


def test_those_with_trouble_come_first_and_the_rest_is_counted():
    states = ["open"] * 5000 + ["waiting"] * 3 + ["dialing"]
    told = read(answer(*(session(n, state) for n, state in enumerate(states))))
    lines = plain(told, limit=5)

    assert lines[0].startswith("5,004 sessions: 3 waiting, 1 dialing, 5,000 open")
    assert ["waiting", "waiting", "waiting", "dialing", "open"] == [
        line.split()[1] for line in lines[2:7]
    ]
    assert "... and 4,999 more" == lines[-1]


def test_a_session_is_told_in_words():
    told = read(
        answer(
            session(
                1,
                "waiting",
                attempts=4,
                last_error="refused\x1b[31m\nwith 503",
                next_attempt_at=1004.2,
                token_expires_at=990.0,
                latency=0.012,
                link=7,
                link_since=940.0,
                next_link=8,
            )
        )
    )
    _, head, row = plain(told, limit=9)

    assert "expired" in row
    assert "in 4.2 s" in row
    assert "7 > 8" in row
    assert "60 s" in row
    assert "age" in head.split()
    assert "12 ms" in row
    assert r"refused\x1b[31m with 503 (4 failed in a row)" in row


def in_a_terminal(width, *sessions):
    console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    console.print(table(read(answer(*sessions)), limit=9))
    console.file.close()
    return console.export_text().splitlines()


REFUSED = (
    "dialling ws://far.example failed: "
    "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 443)"
)


def facts_of(state, error):
    """A session with every column filled."""
    return session(
        1,
        state,
        connection_id="agent-1",
        last_error=error,
        last_error_at=970.0,
        latency=0.0012,
        link_since=973.0,
        next_attempt_at=1010.0,
        token_expires_at=4000.0,
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (REFUSED, "ConnectionRefused"),
        ("dialling wss://far.example took over 15 s", "took over 15 s"),
        (
            "dialling wss://far.example through the proxy failed: TimeoutError: x",
            "by proxy: Timeout",
        ),
        ("wss://far.example refused the upgrade with 503 Service Unavailable", "503 Service"),
        ("wss://far.example did not answer in HTTP/1.1", "did not answer in"),
        ("link closed by the far side (1006 connection reset)", "1006 connection r"),
        ("link closed by us (1006 no answer to a ping within 20 s)", "1006 no answer t"),
        ("no token for 'c-1'", "no token for 'c-1"),
    ],
)
def test_in_a_terminal_of_100_columns_the_cause_of_a_failure_is_seen(error, cause):
    *_, row = in_a_terminal(100, facts_of("waiting", error))

    assert cause in row


def test_an_error_of_the_past_begins_with_its_age():
    *_, row = in_a_terminal(100, facts_of("open", REFUSED))
    [_, _, plain_row] = plain(read(answer(facts_of("open", REFUSED))), limit=9)

    assert "30 s ago: C" in row
    assert f"30 s ago: {REFUSED}" in plain_row


def test_an_error_of_now_ends_with_its_age():
    told = read(answer(facts_of("waiting", "busy") | {"attempts": 4}))

    assert plain(told, limit=9)[2].endswith("busy (30 s ago, 4 failed in a row)")


def test_a_process_that_does_not_say_when_its_error_was_is_shown_without():
    told = read(answer(facts_of("open", "busy") | {"last_error_at": None}))

    assert plain(told, limit=9)[2].endswith("  busy")


def test_rates_are_differences_and_another_process_has_none():
    before = read(answer(session(1), session(2), now=1000))
    after = read(
        answer(
            session(1, counters={"received": 150, "sent": 21}),
            session(2, counters={"received": 0, "sent": 0}),
            session(3),
            now=1010,
        )
    )

    assert [(5.0, 2.0), (None, None), (None, None)] == [
        (each.received_rate, each.sent_rate) for each in with_rates(after, before).sessions
    ]


def test_rates_are_shown_in_their_columns():
    before = read(answer(session(1), session(2), now=1000))
    one = session(1, counters={"received": 110, "sent": 20})
    two = session(2, counters={"received": 450, "sent": 3})
    after = with_rates(read(answer(one, two, now=1010.01)), before)

    _, head, *rows = plain(after, limit=9)
    ends = [head.index(name) + len(name) for name in ("in/s", "out/s")]
    assert {"c-1": ["1", "1.9"], "c-2": ["25", "0.1"]} == {
        row.split()[0]: [row[:end].split()[-1] for end in ends] for row in rows
    }


def test_a_table_fits_any_terminal_and_obeys_no_markup():
    told = read(answer(session(1, last_error="[bold]x[/bold] " * 40), session(2)))
    for width in (40, 80, 200):
        console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
        console.print(table(told, limit=1, notice="gone"))
        shown = console.export_text()
        assert "and 1 more" in shown
        assert "gone" in shown
        assert all(len(line) <= width for line in shown.splitlines())
        console.file.close()


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {"now": "x", "sessions": []}, {"now": 1, "sessions": {}}, {"now": 1e400}],
)
def test_what_is_no_answer_is_refused(told):
    with pytest.raises(ValueError, match="its answer"):
        read(told)


def test_members_of_a_wrong_type_count_as_absent():
    told = read(answer(7, session(1, since="x", link=[], latency=True, counters=None, state=3)))

    [each] = told.sessions
    assert (None, None, None, "", 0) == (
        *(each.since, each.link, each.latency, each.state),
        each.received,
    )
    assert 3 == len(plain(told, limit=9))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("pod-7:9000", "http://pod-7:9000"),
        ("https://h.example/base/", "https://h.example/base"),
        ("http://h:1/sessions", "http://h:1"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_port_is_written_in_several_ways(written, meant):
    assert meant == address(written)


@pytest.mark.parametrize(
    "written",
    ["", "ftp://h", "http://", "h:port", "a b", "h:1\n", "1.2.3.400", "[::1]x", "\xad:1", "h?x=1"],
)
def test_what_is_no_port_is_refused(written):
    with pytest.raises(ValueError, match="no health port"):
        address(written)


@pytest.mark.parametrize("written", ["me:Xq7-canary@127.0.0.1:1", "me:Xq7-canary@h:port"])
async def test_a_password_is_not_repeated(written):
    _, out, err = await watch(written, "--once")

    assert "127.0.0.1:1" in err or "no health port" in err
    assert "canary" not in out + err


async def test_all_pages_are_asked_for(monkeypatch):
    monkeypatch.setattr(watch_ask, "PAGE", 2)
    async with running(3) as (server, _):
        with Port(f"http://127.0.0.1:{server.port}") as port:
            told = await asyncio.to_thread(port.ask)

    assert 3 == len(told.sessions) == told.total
