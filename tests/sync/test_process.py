"""The end of a process, however it comes, and processes that fork."""

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator

import pytest

from tests.sync.world import World, world

PREAMBLE = """
import atexit, os, sys, threading
from dromos.oauth import OAuthClient
from dromos.sync import Bridge, connect, run

gateway, far = sys.argv[1:]
tokens = OAuthClient(gateway)

def say(*words):
    print(*words, flush=True)

class Agent:
    connected = threading.Event()
    def on_connect(self, send):
        self.connected.set()
    def on_message(self, message):
        pass
    def on_disconnect(self, error):
        say("disconnected", error)
"""


@pytest.fixture
def live() -> Generator[World]:
    with world(echo=True) as made:
        yield made


def start(live: World, script: str, *, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    code = PREAMBLE + textwrap.dedent(script)
    # In a process with threads fork warns, from Python 3.12 on.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *options, "-c", code]
    return subprocess.Popen(
        [*command, live.gateway.url, live.far.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait, and return its status, what it said, and what it complained of."""
    with process:
        try:
            said, complained = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, said, complained


def play(live: World, script: str, *, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run a script to its end."""
    return end(start(live, script, options=options))


def close_codes(live: World) -> list[int | None]:
    """What each link was closed with, once all of them are."""
    live.until(lambda: all(link.closed_at is not None for link in live.far.links))
    return [link.close_code for link in live.far.links]


# ---------------------------------------------------------------- the interpreter's exit


def test_who_forgets_to_close_says_goodbye_all_the_same(live: World) -> None:
    outcome = play(
        live,
        """
        bridge = Bridge(tokens)
        connection = bridge.connect("c-1", far, on_disconnect=lambda error: say("bye", error))
        connection.__enter__()
        connection.wait_open(10)
        """,
        options=("-W", "default::ResourceWarning"),
    )
    assert (0, "bye None\n", "") == outcome
    assert [1000] == close_codes(live)


def test_a_main_thread_that_dies_says_goodbye_and_shows_its_own_error_only(live: World) -> None:
    code, said, complained = play(
        live,
        """
        connection = connect(tokens, "c-1", far).__enter__()
        connection.wait_open(10)
        raise ZeroDivisionError("mine")
        """,
    )
    assert (1, "") == (code, said)
    assert 1 == complained.count("Traceback")
    assert complained.endswith("ZeroDivisionError: mine\n")
    assert [1000] == close_codes(live)


def test_ctrl_c_ends_a_script_politely(live: World) -> None:
    process = start(
        live,
        """
        with connect(tokens, "c-1", far) as connection:
            connection.send("ready")
            for message in connection:
                pass
        """,
    )
    live.until(lambda: live.far.links and live.far.links[0].received)
    process.send_signal(signal.SIGINT)
    code, said, complained = end(process)

    assert (-signal.SIGINT, "") == (code, said)
    assert complained.endswith("KeyboardInterrupt\n")
    assert 1 == complained.count("Traceback")
    assert [1000] == close_codes(live)


@pytest.mark.slow  # seconds by its nature: chance needs many tries to find the wrong moment
def test_ctrl_c_strikes_anywhere_and_the_loop_goes_on(live: World) -> None:
    code, said, _ = play(
        live,
        """
        import asyncio, random, signal
        from dromos.sync._loop import loop_thread

        armed = False

        def strike(*_):
            if armed:
                raise KeyboardInterrupt

        def calls():
            return sum(task.get_name() == "dromos-sync-call" for task in asyncio.all_tasks())

        signal.signal(signal.SIGALRM, strike)
        struck = left = 0
        with connect(tokens, "c-1", far) as connection:
            while struck < 1000:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3), 0.05)
                try:
                    armed = True
                    while True:
                        connection.send("x")
                        connection.recv(1)
                except KeyboardInterrupt:
                    armed = False
                    struck += 1
                except TimeoutError:
                    armed = False
                left += loop_thread().call(calls) - 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            say(left, connection.link)
        """,
    )
    assert (0, "0 1\n") == (code, said)
    assert [1000] == close_codes(live)


@pytest.mark.parametrize(
    "work",
    [
        "connection.recv()",
        "list(connection)",
        "list(connection.events())",
        "[connection.send('x') for _ in iter(int, 1)]",
        "[connection.snapshot() for _ in iter(int, 1)]",
        "bridge.maintain_websocket('c-1', far, Agent())",
    ],
)
def test_daemon_threads_end_in_silence(live: World, work: str) -> None:
    code, said, complained = play(
        live,
        f"""
        bridge = Bridge(tokens)
        connection = bridge.connect("c-1", far)
        connection.__enter__()
        connection.wait_open(10)
        begun = threading.Event()

        def work():
            begun.set()
            {work}

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        begun.wait(10)
        if "maintain" in {work!r}:
            Agent.connected.wait(10)
        """,
    )
    expected = "disconnected None\n" if "maintain" in work else ""
    assert (0, expected, "") == (code, said, complained)
    assert {1000} == set(close_codes(live))


def test_a_handler_of_the_exit_that_is_older_than_ours_may_close_and_join(live: World) -> None:
    outcome = play(
        live,
        """
        def clean_up():
            bridge.close()
            connection.close()
            connection.__exit__(None, None, None)
            thread.join()
            try:
                Bridge(tokens).connect("c-1", far).__enter__()
            except RuntimeError as error:
                say(error)

        atexit.register(clean_up)
        bridge = Bridge(tokens)
        connection = bridge.connect("c-1", far)
        connection.__enter__()
        thread = threading.Thread(target=connection.recv, daemon=True)
        thread.start()
        connection.wait_open(10)
        """,
    )
    assert (0, "dromos.sync has stopped, because the interpreter exits\n", "") == outcome
    assert [1000] == close_codes(live)


def test_a_silent_far_side_does_not_keep_the_process(live: World) -> None:
    live.far.answer_closes = False
    began = time.monotonic()
    outcome = play(
        live,
        """
        connection = connect(tokens, "c-1", far, close_timeout=0.5).__enter__()
        connection.wait_open(10)
        """,
    )
    assert (0, "", "") == outcome
    assert time.monotonic() - began < 15
    assert [1000] == close_codes(live)


def test_a_callback_that_never_returns_does_not_keep_the_process(live: World) -> None:
    outcome = play(
        live,
        """
        begun = threading.Event()

        def block(send):
            begun.set()
            threading.Event().wait()

        connection = connect(tokens, "c-1", far, close_timeout=0.5, on_connect=block).__enter__()
        begun.wait(10)
        """,
    )
    assert (0, "", "") == outcome
    assert [1000] == close_codes(live)


def test_a_bridge_that_was_never_used_leaves_no_trace(live: World) -> None:
    assert (0, "1\n", "") == play(live, "Bridge(tokens)\nsay(threading.active_count())")


# ---------------------------------------------------------------- os.fork


FORK = """
bridge = Bridge(tokens)
connection = bridge.connect("c-1", far)
with connection:
    connection.send("parent")
    connection.recv(10)
    messages = iter(connection)
    events = connection.events()
    child = os.fork()
    if child == 0:
        {child}
        sys.exit(7)
    say("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for _ in range(3):
        connection.send("still there")
        say(connection.recv(10), connection.link)
bridge.close()
"""


def forked(live: World, child: str, **options: tuple[str, ...]) -> list[str]:
    """What the two said, when the parent went on undisturbed."""
    script = FORK.format(child=textwrap.indent(textwrap.dedent(child), " " * 8).strip())
    code, said, complained = play(live, script, **options)
    assert (0, "") == (code, complained)
    *lines, status, one, two, three = said.splitlines()
    assert "child 7" == status
    assert ["still there 1"] * 3 == [one, two, three]
    assert (1000, "client") == (live.far.links[0].close_code, live.far.links[0].ended_first)
    assert ["parent", *["still there"] * 3] == live.far.links[0].received
    return lines


def test_after_a_fork_the_childs_copies_say_so_and_close_nothing(live: World) -> None:
    lines = forked(
        live,
        """
        for method in (
            connection.recv, connection.wait_open, connection.renew, connection.drain,
            connection.snapshot, connection.events, connection.__iter__, connection.__enter__,
            lambda: connection.send("x"), lambda: connection.state, lambda: connection.link,
            lambda: connection.request("x", correlate=len), lambda: connection.latency,
            lambda: next(messages), lambda: next(events), lambda: events.dropped,
            lambda: bridge.connect("c-1", far),
            lambda: bridge.maintain_websocket("c-1", far, Agent()),
        ):
            try:
                method()
            except RuntimeError as error:
                say("before os.fork" in str(error) and "make a new Bridge" in str(error))
        connection.close()
        bridge.close()
        """,
    )
    assert ["True"] * 18 == lines


def test_in_the_child_a_new_bridge_works(live: World) -> None:
    lines = forked(
        live,
        """
        with Bridge(tokens) as mine, mine.connect("c-1", far) as other:
            other.send("child")
            say(other.recv(10), other.link)
        forgotten = connect(tokens, "c-1", far).__enter__()
        forgotten.wait_open(10)
        """,
    )
    assert ["child 1"] == lines
    assert [1000] * 3 == close_codes(live)
    assert ["child"] == live.far.links[1].received


def test_what_the_child_drops_does_not_touch_the_parents_link(live: World) -> None:
    """Collected coroutines run their `finally`, and the two share one epoll."""
    lines = forked(
        live,
        """
        import gc
        connection = bridge = messages = events = None
        gc.collect()
        """,
        options=("-W", "default::ResourceWarning"),
    )
    assert [] == lines


def test_a_plain_provider_serves_parent_and_child(live: World) -> None:
    outcome = play(
        live,
        """
        from dromos import Token

        class Plain:
            def get_token(self, connection_id):
                return token
            refresh_connection = get_token

        import asyncio
        token = asyncio.run(tokens.get_token("c-1"))
        plain = Plain()
        with connect(plain, "c-1", far) as connection:
            connection.wait_open(10)
            child = os.fork()
            if child == 0:
                with connect(plain, "c-1", far) as connection:
                    say("child", connection.wait_open(10))
                os._exit(0)
            os.waitpid(child, 0)
            connection.send("x")
            say("parent", connection.recv(10))
        """,
    )
    assert (0, "child 1\nparent x\n", "") == outcome
