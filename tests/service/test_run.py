"""`dromos.run` as processes of their own: signals, exit statuses, logs, and nothing lost."""

import asyncio
import inspect
import json
import os
import pty
import signal
import sys

import pytest

import dromos
from dromos.config import Config, DialerSettings
from dromos.oauth import EnvToken
from tests.service.agents import Agent
from tests.service.processes import agent, process, world
from tests.service.support import ask

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def loop(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="needs the extra uvloop")
    return request.param


# --- Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_the_session_and_the_program_goes_on_to_its_end(number, loop):
    async with world() as (gateway, far), agent("Agent", gateway, far, DROMOS_LOOP=loop) as it:
        link = await far.wait_for_link()
        await it.until_it_says("connected")
        it.signal(number)
        status = await it.end()
        await link.wait_closed()

    assert 0 == status, it.told
    assert ["connected", "disconnected None", "run returned"] == it.lines
    assert (["hello"], 1000) == (link.received, link.close_code)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_it_at_once(number, status, loop):
    gate = asyncio.Event()

    async def never(link, message):
        await gate.wait()

    async with (
        world(on_message=never) as (gateway, far),
        agent("Agent", gateway, far, DROMOS_LOOP=loop) as it,
    ):
        await it.until_it_says("connected")
        it.signal(number)
        await it.until_it_says("draining for up to 25 s")
        it.signal(number)
        ended = await it.end()
        gate.set()

    assert status == ended
    assert "run returned" not in it.lines


async def test_a_second_signal_ends_a_loop_that_is_blocked(loop):
    async with world() as (gateway, far), agent("Blocking", gateway, far, DROMOS_LOOP=loop) as it:
        (await far.wait_for_link()).send("sleep")
        await it.until_it_says("blocked")
        it.signal(signal.SIGTERM)
        # Two signals of a kind are one, until the first has been handled.
        it.signal(signal.SIGINT)
        status = await it.end()

    assert status in (130, 143)


# --- What was accepted arrives --------------------------------------------------------------------


@pytest.mark.slow  # the far side stops reading for longer than a close would wait
@pytest.mark.parametrize("name", ["Flood", "produce"])
async def test_under_load_what_was_accepted_arrives_at_a_slow_far_side(name, loop):
    stuck, gate = asyncio.Event(), asyncio.Event()

    async def slowly(link, message):
        if link.received_count > 100:
            stuck.set()
            await gate.wait()

    env = {"DROMOS_CLOSE_TIMEOUT": "0.3", "DROMOS_LOOP": loop}
    if name == "produce":
        env |= {"DROMOS_OUTBOX_MAX_MESSAGES": "8000", "DROMOS_OUTBOX_MAX_BYTES": "8MiB"}
        env |= {"DROMOS_OUTBOX_WHEN_FULL": "wait"}
    async with (
        world(on_message=slowly) as (gateway, far),
        agent(name, gateway, far, **env) as it,
    ):
        await stuck.wait()
        it.signal(signal.SIGTERM)
        await it.until_it_says("draining")
        await asyncio.sleep(1)
        assert not it.has_ended
        gate.set()
        status = await it.end()

    accepted = [int(line.split()[1]) for line in it.lines if line.startswith("accepted")]
    assert 0 == status, it.told
    assert (1 if name == "Flood" else 2) == len(accepted)
    assert min(accepted) > 50
    assert sum(accepted) == sum(link.received_count for link in far.links)


@pytest.mark.slow  # the whole time to drain passes
async def test_what_can_not_be_delivered_in_time_is_a_failure_that_is_said():
    gate = asyncio.Event()

    async def never(link, message):
        await gate.wait()

    env = {"DROMOS_DRAIN_TIMEOUT": "1500ms"}
    async with world(on_message=never) as (gateway, far), agent("Agent", gateway, far, **env) as it:
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        status = await it.end()
        gate.set()

    assert 1 == status
    assert "not everything that was sent was confirmed within 1.5 s" in it.told


@pytest.mark.slow  # the time to drain passes, in which a handler is at work
@pytest.mark.parametrize(
    ("within", "expected", "said"),
    [
        ("10s", 0, "stopped"),
        ("1500ms", 1, "the callbacks or the link of 'c-1' had not ended within 1.5 s"),
    ],
)
async def test_a_handler_at_work_has_the_time_to_drain_and_no_more(within, expected, said):
    env = {"DROMOS_DRAIN_TIMEOUT": within}
    async with world(echo=True) as (gateway, far), agent("Slow", gateway, far, **env) as it:
        await it.until_it_says("connected")
        await far.wait_for(lambda: far.links[0].received)
        await asyncio.sleep(0.2)  # for what comes back to reach the handler
        it.signal(signal.SIGTERM)
        status = await it.end()

    assert expected == status
    assert said in it.told
    assert ("received hello" in it.lines) == (expected == 0)


@pytest.mark.slow  # the whole time to drain passes
@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("Stuck", "Stuck.on_message"),
        ("InThread", "run"),
        ("WithThread", "thread forgotten"),
    ],
)
async def test_what_will_not_end_ends_at_the_deadline_and_is_named(name, holder, loop):
    env = {"DROMOS_DRAIN_TIMEOUT": "1500ms", "DROMOS_LOOP": loop}
    async with world(echo=True) as (gateway, far), agent(name, gateway, far, **env) as it:
        await it.until_it_says("connected")
        await far.wait_for(lambda: far.links[0].received)
        await asyncio.sleep(0.2)  # for what comes back to reach the handler
        it.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            status = await it.end()

    assert 1 == status
    assert "not ended within 2.5 s, so the process exits; held up by" in it.told
    assert holder in it.told


# --- How it ends by itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("return_at_once", 0, "<Bridge with 0 running sessions>"),
        ("fail", 1, "Traceback"),
        ("cancel", 1, "ended by CancelledError"),
        ("Cancelled", 1, "ended by CancelledError"),
        ("leave", 3, ""),
        ("give_up", 78, "I will have no"),
        ("Final", 78, "I will have no"),
    ],
)
async def test_the_status_says_how_it_ended(name, status, said):
    async with world(rate=50) as (gateway, far), agent(name, gateway, far) as it:
        ended = await it.end()

    assert status == ended, it.told
    assert said in it.told


async def test_a_session_that_the_far_side_ends_for_good_is_78():
    async with world() as (gateway, far):
        far.accept_then_close(1008, "not you")
        async with agent("Agent", gateway, far) as it:
            status = await it.end()

    assert 78 == status
    assert "not you" in it.told


async def test_a_gateway_that_refuses_for_good_is_78_and_one_that_is_down_is_not():
    async with world() as (gateway, far):
        gateway.set_status("c-1", "failed")
        async with agent("Agent", gateway, far) as it:
            refused = await it.end()
        await gateway.stop()
        async with agent("Agent", gateway, far) as it:
            down = await it.end()

    assert (78, 1) == (refused, down)
    ends = [line for line in it.log if "no token in 3 tries at the start" in line]
    assert ["bridge.session_ended", None] == [json.loads(line).get("event") for line in ends]
    assert json.loads(ends[-1])["message"].startswith("ended by PermanentError: no answer from")
    assert "Traceback" not in it.told


async def test_what_the_program_raised_is_told_with_its_traceback():
    env = {"DROMOS_HANDLER_ERRORS": "raise"}
    async with world(echo=True) as (gateway, far), agent("Wrong", gateway, far, **env) as it:
        (await far.wait_for_link()).send("this")
        status = await it.end()

    assert 1 == status
    ended = json.loads(it.log[-1])
    assert ended["message"].startswith("ended by PermanentError: ")
    assert "LookupError: this" in str(ended)
    assert "in on_message" in str(ended)


async def test_a_variable_that_can_not_work_is_78_and_named():
    env = {"DROMOS_PING_INTERVAL": "often"}
    async with world() as (gateway, far), agent("Agent", gateway, far, **env) as it:
        status = await it.end()

    assert 78 == status
    assert "DROMOS_PING_INTERVAL: ping_interval must be seconds" in it.told


async def test_a_handler_without_a_connection_is_78_and_says_what_is_missing():
    code = (
        "import dromos; from tests.service.agents import Agent\n"
        "class T:\n    async def get_token(self, _): ...\n"
        "dromos.run(Agent(), tokens=T())\n"
    )
    async with process("-c", code) as it:
        status = await it.end()

    assert 78 == status
    assert "a handler needs a connection" in it.told
    assert "Traceback" not in it.told


async def test_a_port_that_is_taken_is_a_failure_that_is_said():
    async with (
        world() as (gateway, far),
        agent("Agent", gateway, far, DROMOS_HEALTH_PORT=str(far.port)) as it,
    ):
        status = await it.end()

    assert 1 == status
    assert f"the health port {far.port} on 127.0.0.1 can't be opened" in it.told


async def test_what_never_ends_by_itself_is_cancelled_after_the_sessions_have_ended():
    async with world() as (gateway, far), agent("wait_for_ever", gateway, far) as it:
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        status = await it.end()

    assert 0 == status, it.told
    assert ["connected", "disconnected None", "cancelled", "run returned"] == it.lines


@pytest.mark.parametrize("name", ["begin_another", "supervise_another", "cancel_a_task"])
async def test_a_program_may_fall_over_the_stop_itself(name):
    async with world() as (gateway, far), agent(name, gateway, far) as it:
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        status = await it.end()

    assert 0 == status, it.told
    assert "run returned" in it.lines


# --- The event loop -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "installed", "taken"),
    [
        ("auto", True, "uvloop"),
        ("uvloop", True, "uvloop"),
        ("asyncio", True, "asyncio"),
        ("auto", False, "asyncio"),
    ],
)
async def test_the_loop_is_uvloop_where_it_is_installed(said, installed, taken):
    if installed:
        pytest.importorskip("uvloop", reason="needs the extra uvloop")
    hidden = "" if installed else "sys.modules['uvloop'] = None\n"
    code = (
        f"import asyncio, sys, dromos\n{hidden}"
        "from dromos.oauth import EnvToken\n"
        "async def main(bridge): print(type(asyncio.get_running_loop()).__module__)\n"
        "dromos.run(main, tokens=EnvToken('T'))\n"
    )
    async with process("-c", code, env={"DROMOS_LOOP": said}) as it:
        status = await it.end()

    assert 0 == status, it.told
    assert [taken] == [line.partition(".")[0] for line in it.lines]


# --- Logs -----------------------------------------------------------------------------------------


async def test_it_logs_json_where_nobody_looks():
    async with world() as (gateway, far), agent("Agent", gateway, far) as it:
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        await it.end()

    lines = [json.loads(line) for line in it.log]
    assert "bridge.connected" in [line.get("event") for line in lines]
    assert {"dromos"} == {line["logger"] for line in lines}


@pytest.mark.parametrize("form", ["auto", "json"])
@pytest.mark.parametrize("colourless", [{}, {"NO_COLOR": "1"}])
async def test_a_terminal_gets_lines_for_people(colourless, form):
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import dromos; dromos.run(None, log_format={form!r})"),
        env={**os.environ, "NO_COLOR": "", **colourless},
        stderr=slave,
    )
    status = await process.wait()
    os.close(slave)
    told = (await asyncio.to_thread(os.read, master, 65536)).decode()
    os.close(master)

    assert 78 == status
    assert "a handler needs a connection" in told
    assert told.startswith("{") == (form == "json")
    assert ("\x1b[" in told) == (form == "auto" and not colourless)


async def test_it_leaves_logging_alone_where_the_program_has_seen_to_it():
    code = (
        "import logging, sys, dromos; from tests.service.agents import return_at_once\n"
        "logging.basicConfig(format='MINE %(message)s', level='INFO')\n"
        "class T:\n    async def get_token(self, _): ...\n"
        "dromos.run(return_at_once, tokens=T())\n"
    )
    async with process("-c", code) as it:
        status = await it.end()

    assert 0 == status
    assert ["MINE stopped"] == it.log


async def test_neither_logs_nor_health_show_a_secret():
    env = {"DROMOS_HEALTH_PORT": "0", "DROMOS_LOG_LEVEL": "debug"}
    async with world(echo=True) as (gateway, far), agent("Agent", gateway, far, **env) as it:
        port = await it.health_port()
        await it.until_it_says("received hello")
        far.links[0].close(4000, f"no more {gateway.access_token('c-1')}")
        await it.until(lambda: 2 == it.lines.count("connected"))
        paths = ("/", "/livez", "/readyz", "/sessions", "/metrics")
        told = [(await ask(port, path)).text for path in paths]
        it.signal(signal.SIGTERM)
        await it.end()
        tokens = [gateway.access_token(name) for name in ("c-1", "c-2")]

    assert "4000" in it.told
    assert not [token for token in tokens if token in "\n".join([it.told, *told])]


# --- Probes ---------------------------------------------------------------------------------------


async def test_probes_see_it_live_get_ready_lose_everything_and_drain():
    gate = asyncio.Event()

    async def slowly(link, message):
        await gate.wait()

    async with (
        world(on_message=slowly) as (gateway, far),
        agent("Agent", gateway, far, DROMOS_HEALTH_PORT="0") as it,
    ):
        port = await it.health_port()
        await it.until_it_says("connected")
        up = [await ask(port, path) for path in ("/livez", "/readyz")]
        await gateway.stop()
        await far.stop()
        await it.until_it_says("bridge.disconnected")
        down = [await ask(port, path) for path in ("/livez", "/readyz")]
        await gateway.start()
        await far.start()
        await it.until(lambda: 2 == it.lines.count("connected"))
        told = (await ask(port, "/sessions")).json
        it.signal(signal.SIGTERM)
        await it.until_it_says("draining")
        ending = [await ask(port, path) for path in ("/livez", "/readyz")]
        gate.set()
        status = await it.end()

    assert [200, 200] == [answer.status for answer in up]
    assert [200, 200] == [answer.status for answer in down]
    assert [200, 503] == [answer.status for answer in ending]
    assert 1 == told["sessions"][0]["counters"]["gaps"]
    assert 0 == status, it.told


# --- Wrong use ------------------------------------------------------------------------------------


async def test_where_a_loop_runs_already_it_says_what_to_use():
    import dromos

    with pytest.raises(RuntimeError, match=r"dromos\.service\.HealthServer"):
        dromos.run(lambda bridge: None)


async def test_it_wants_the_main_thread():
    import dromos

    with pytest.raises(RuntimeError, match="the main thread"):
        await asyncio.to_thread(dromos.run, lambda bridge: None)


class Tokens:
    async def get_token(self, connection_id):
        raise AssertionError("nothing should have begun")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"connection_id": "c-1"}, "belong together"),
        ({"target": 7}, "not int"),
        ({"target": object}, "object has not"),
        ({"target": lambda bridge: None}, "a function that takes a bridge connects by itself"),
        ({"health_port": "x"}, "health_port must be an int"),
        ({"drain_timeout": 0}, "drain_timeout must be more than 0"),
        ({"loop": "trio"}, "loop must be"),
        ({"ping_intervall": 3}, "ping_intervall"),
        ({"ping_interval": -3}, "ping_interval must be"),
        ({"on_event": asyncio.sleep}, "on_event must be a plain function"),
        ({"on_event": asyncio.sleep, "record": os.devnull}, "on_event must be a plain function"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_begins(options, problem):
    import dromos
    from tests.service.agents import Agent

    usual = {"target": Agent(), "tokens": Tokens()}
    connection = {"connection_id": "c-1", "endpoint_url": "ws://127.0.0.1:1"}
    if options and "connection_id" not in options:
        usual |= connection
    with pytest.raises((TypeError, ValueError), match=problem):
        dromos.run(**{**usual, **options})


def test_importing_the_library_loads_no_service():
    import subprocess

    code = "import sys, dromos; print([m for m in sys.modules if 'service' in m or 'h11' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


class Closed(Tokens):
    closed = 0

    async def aclose(self):
        self.closed += 1


async def never_awaited():
    raise AssertionError("nothing should have begun")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": 7}, TypeError),
        ({"connection_id": "c-1", "endpoint_url": "wss://localhost"}, TypeError),
        ({"ping_interval": -3}, ValueError),
        ({"loop": "trio"}, ValueError),
        ({"health_host": "a..b", "health_port": 0}, SystemExit),
        ({"record": "/nowhere/at/all"}, SystemExit),
        ({"config": Config(dialer=DialerSettings(ca_file="/nowhere.pem"))}, SystemExit),
    ],
)
def test_a_start_that_fails_leaves_nothing_open(options, error, tmp_path):
    import dromos

    tokens, coroutine, file = Closed(), never_awaited(), tmp_path / "run.jsonl"
    usual = {"target": coroutine, "tokens": tokens, "record": str(file)}
    with pytest.raises(error):
        dromos.run(**{**usual, **options})

    assert 1 == tokens.closed
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(coroutine) or "target" in options
    assert not file.exists() or "health_port" in options
    coroutine.close()


def test_a_source_that_can_not_be_closed_hides_no_error(caplog):
    import dromos

    class Stuck(Tokens):
        async def aclose(self):
            raise LookupError("closing")

    with pytest.raises(TypeError, match="not int"):
        dromos.run(7, tokens=Stuck())

    assert "LookupError: closing" in caplog.text


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("function", {}, "a function that takes a bridge times its own"),
        ("handler", {"bridge": dromos.Bridge(EnvToken("T"))}, "is for a bridge that run makes"),
        ("handler", {}, 'time_handlers needs: pip install "dromos[prometheus]"'),
    ],
)
def test_what_can_not_be_timed_is_refused(target, options, said, monkeypatch, caplog):
    async def function(bridge): ...

    if "needs" in said:
        monkeypatch.setitem(sys.modules, "dromos.telemetry.prometheus", None)
    else:
        pytest.importorskip("prometheus_client", reason="needs the extra prometheus")
    run_of = {"function": function, "handler": Agent()}[target]
    connection = {} if target == "function" else {"connection_id": "c", "endpoint_url": "wss://x"}
    with pytest.raises(SystemExit) as caught:
        dromos.run(run_of, **connection, **options, time_handlers=True, log_format="none")

    assert 78 == caught.value.code
    assert said in caplog.text


@pytest.mark.parametrize("said", ["program", "file", "neither"])
async def test_a_configuration_error_is_logged_as_the_settings_say(said, tmp_path):
    (tmp_path / "dromos.toml").write_text('[service]\nlog_format = "text"\n')
    more = {
        "program": "log_format='text'",
        "file": "config=dromos.Config.from_toml('dromos.toml')",
        "neither": "",
    }[said]
    async with process("-c", f"import dromos\ndromos.run(None, {more})", cwd=tmp_path) as it:
        status = await it.end()

    assert 78 == status
    assert "a handler needs a connection" in it.log[0]
    assert it.log[0].startswith("{") == (said == "neither")


@pytest.mark.parametrize("first", ["dromos.run", "dromos.service.run"])
def test_run_is_a_function_wherever_it_is_looked_up_first(first):
    import subprocess

    code = (
        f"import dromos.service; {first}; from dromos.service import run\n"
        "assert run is dromos.run is dromos.service.run, run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
