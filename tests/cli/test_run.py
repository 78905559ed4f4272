"""`dromos run` and `dromos config` as processes of their own."""

import json
import signal
import socket

import pytest
from tests.service.processes import ROOT, process, world
from tests.service.support import ask

AGENTS = "tests.service.agents"


def dromos(*arguments, **options):
    return process("-m", "dromos", *map(str, arguments), **options)


def connecting(gateway, far):
    return ("--gateway", gateway.url, "--connection-id", "c-1", "--url", far.url)


# --- What can be run ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Agent", "make"])
async def test_a_handler_is_run_by_its_name(name):
    async with (
        world() as (gateway, far),
        dromos("run", f"{AGENTS}:{name}", *connecting(gateway, far)) as it,
    ):
        link = await far.wait_for_link()
        await it.until_it_says("connected")
        it.signal(signal.SIGTERM)
        status = await it.end()

    assert (0, ["hello"]) == (status, link.received), it.told
    assert ["connected", "disconnected None"] == it.lines


async def test_a_function_is_run_with_a_bridge():
    async with (
        world() as (gateway, _),
        dromos("run", f"{AGENTS}:return_at_once", "--gateway", gateway.url) as it,
    ):
        status = await it.end()

    assert (0, ["<Bridge with 0 running sessions>"]) == (status, it.lines), it.told


async def test_a_file_names_connections_and_their_handlers(tmp_path):
    async with world() as (gateway, far):
        (tmp_path / "mine.py").write_text(f"from {AGENTS} import Agent\n\nagent = Agent()\n")
        (tmp_path / "dromos.toml").write_text(
            f'[tokens]\ngateway = "{gateway.url}"\n[service]\nhealth_port = 0\n'
            f'[[connections]]\nid = "c-1"\nurl = "{far.url}"\nhandler = "mine:agent"\n'
            f'[[connections]]\nid = "c-2"\nurl = "{far.url}"\nmax_link_age = "1h"\n'
        )
        command = ("run", f"{AGENTS}:make", "--config", "dromos.toml")
        async with dromos(*command, cwd=tmp_path) as it:
            port = await it.health_port()
            await it.until(lambda: 2 == it.lines.count("connected"))
            told = (await ask(port, "/sessions")).json["sessions"]
            it.signal(signal.SIGTERM)
            status = await it.end()

    assert 0 == status, it.told
    assert ["c-1", "c-2"] == [each["connection_id"] for each in told]


@pytest.mark.parametrize("way", ["flag", "file", "variable", "nobody"])
async def test_callbacks_are_timed_for_whoever_asks_for_it(way, tmp_path):
    pytest.importorskip("prometheus_client", reason="needs the extra prometheus")
    async with world(echo=True) as (gateway, far):
        (tmp_path / "f.toml").write_text("[service]\ntime_handlers = true\n" * (way == "file"))
        flags = ("--time-handlers",) * (way == "flag")
        env = {"DROMOS_TIME_HANDLERS": "true"} if way == "variable" else {}
        command = ("run", f"{AGENTS}:Agent", *connecting(gateway, far), *flags)
        more = ("--health-port", 0, "--config", tmp_path / "f.toml")
        async with dromos(*command, *more, env=env) as it:
            port = await it.health_port()
            await it.until_it_says("received hello")
            told = (await ask(port, "/metrics")).text

    counted = 'bridge_handler_duration_seconds_count{method="on_connect"} 1.0'
    assert (counted in told) == (way != "nobody"), told


async def test_one_connection_that_ends_for_good_leaves_the_others(tmp_path):
    async with world() as (gateway, far):
        gateway.revoke("c-1")
        gateway.set_status("c-1", "failed")
        (tmp_path / "dromos.toml").write_text(
            f'[tokens]\ngateway = "{gateway.url}"\n'
            f'[[connections]]\nid = "c-1"\nurl = "{far.url}"\n'
            f'[[connections]]\nid = "c-2"\nurl = "{far.url}"\n'
        )
        command = ("run", f"{AGENTS}:Agent", "--config", tmp_path / "dromos.toml")
        async with dromos(*command) as it:
            await it.until_it_says("connection c-1 has ended for good")
            await it.until_it_says("connected")
            it.signal(signal.SIGTERM)
            status = await it.end()

    assert 78 == status, it.told
    assert "disconnected None" in it.lines


# --- Who goes first -------------------------------------------------------------------------------


async def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path):
    async with world() as (gateway, far):
        (tmp_path / "dromos.toml").write_text(
            '[tokens]\ntoken_env = "NONE"\n[service]\nlog_format = "text"\nhealth_port = 1\n'
        )
        env = {"DROMOS_LOG_FORMAT": "json", "DROMOS_HEALTH_PORT": "2", "DROMOS_ISSUER": "x"}
        command = ("run", f"{AGENTS}:Agent", "--config", tmp_path / "dromos.toml")
        more = (*connecting(gateway, far), "--health-port", "0")
        async with dromos(*command, *more, env=env) as it:
            port = await it.health_port()
            await it.until_it_says("connected")
            alive = await ask(port)
            it.signal(signal.SIGTERM)
            status = await it.end()

    assert (0, 200) == (status, alive.status), it.told
    assert "connected" in it.lines
    assert [json.loads(line) for line in it.log]


# --- What is wrong --------------------------------------------------------------------------------

CONNECTED = ("--token-env", "T", "--connection-id", "c", "--url", "wss://localhost")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ("run", f"{AGENTS}:return_at_once"),
            78,
            "dromos: say once where tokens come from: a gateway, --token-env, --token-file, ",
        ),
        (
            ("run", f"{AGENTS}:return_at_once", "--gateway", "http://far.example"),
            78,
            "must be https, or tokens would travel in the clear; --insecure allows it",
        ),
        (
            ("run", f"{AGENTS}:Agent", "--connection-id", "c", "--url", "ws://far.example"),
            78,
            "use wss://, or --insecure",
        ),
        (
            ("run", f"{AGENTS}:Agent", "--connection-id", "c", "--url", "ws://localhost:99999"),
            78,
            "dromos: --url: url has a port that is no number from 0 to 65535",
        ),
        (
            ("run", f"{AGENTS}:Agent", *CONNECTED, "--record", "/no/r"),
            78,
            "record '/no/r' can't be",
        ),
        (
            ("run", f"{AGENTS}:Agent", "--token-env", "T"),
            78,
            "(--connection-id and --url), or [[connections]] in a file",
        ),
        (("run",), 78, "a handler needs a connection: say connection_id and endpoint_url"),
        (("run", f"{AGENTS}:Agent", "--connection-id", "c"), 78, "a connection lacks its url"),
        (("run", f"{AGENTS}:MESSAGE", "--token-env", "T"), 78, f"the agent {AGENTS}:MESSAGE: run"),
        (
            ("run", f"{AGENTS}:Nothing", *CONNECTED),
            78,
            f"the agent {AGENTS}:Nothing: a handler has on_connect",
        ),
        (("run", "--colour"), 2, "No such option"),
        (
            ("run", f"{AGENTS}:return_at_once", *CONNECTED),
            78,
            f"--url is for a handler; {AGENTS}:return_at_once takes a bridge",
        ),
        (("run", f"{AGENTS}:Agent", "--token-env", ""), 78, "--token-env: token_env must be a"),
        (("run", f"{AGENTS}:Nobody", "--token-env", "T"), 78, "can't be imported"),
        (("run", "nowhere", "--token-env", "T"), 78, "must be MODULE:NAME"),
        (
            ("run", "tests/service/agents.py:Agent", "--token-env", "T"),
            78,
            "; did you mean tests.service.agents:Agent?",
        ),
        (("run", "--config", "/no/such.toml"), 78, "/no/such.toml: it can't be read"),
        (("run", "--health-port", "many"), 78, "--health-port: health_port must be"),
        (("run", "--log-level", "loud"), 78, "--log-level: log_level must be"),
        (("config", "--check", "/no/such.toml"), 78, "/no/such.toml: it can't be read"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused_in_words(arguments, status, said):
    async with dromos(*arguments) as it:
        ended = await it.end()

    assert status == ended, it.told
    assert said in it.told
    assert it.told.startswith("dromos: " if status == 78 else "Usage: ")
    assert "Traceback" not in it.told


async def test_a_run_names_the_line_as_a_check_does(tmp_path):
    (tmp_path / "f.toml").write_text("[tokens]\ngateway = 'http://far.example'\n")
    async with dromos("run", f"{AGENTS}:return_at_once", "--config", "f.toml", cwd=tmp_path) as it:
        status = await it.end()

    assert 78 == status
    assert it.told.startswith("dromos: f.toml, line 2: gateway "), it.told
    assert "allow_insecure_transport = true" in it.told


RAISING = {
    "a class": ("class Agent:\n    def __init__(self):\n        {}\n", "ValueError('init')"),
    "a function": ("def Agent():\n    {}\n", "KeyError('init')"),
    "a module": ("{}\n", "LookupError('init')"),
    "a module that wants another one": ("{}\n", "ModuleNotFoundError('init', name='far')"),
    "a module that lacks something": ("{}\n", "AttributeError('init')"),
}


@pytest.mark.parametrize("place", RAISING)
@pytest.mark.parametrize("way", ["agent", "handler", "provider"])
async def test_what_the_user_s_code_raises_is_told_with_the_traceback_of_that(place, way, tmp_path):
    text, error = RAISING[place]
    (tmp_path / "mine.py").write_text(text.format(f"raise {error}"))
    named = {"agent": "", "handler": 'handler = "mine:Agent"', "provider": ""}[way]
    tokens = 'provider = "mine:Agent"' if way == "provider" else 'token_env = "T"'
    (tmp_path / "dromos.toml").write_text(
        f"[tokens]\n{tokens}\n[[connections]]\nid = 'c'\nurl = 'wss://localhost'\n{named}\n"
    )
    agent = "mine:Agent" if way == "agent" else f"{AGENTS}:Agent"
    async with dromos("run", agent, "--config", "dromos.toml", cwd=tmp_path) as it:
        status = await it.end()

    kind = error.partition("(")[0]
    assert 1 == status, it.told
    assert it.log[0].startswith(f"dromos: mine:Agent raised {kind}: "), it.told
    assert ["Traceback (most recent call last):", f'  File "{tmp_path}/mine.py"'] == [
        it.log[1],
        it.log[2].partition(",")[0],
    ]
    assert it.log[-1].startswith(f"{kind}: ")
    assert 1 == it.told.count("  File ")


async def test_what_is_run_may_raise_what_it_likes_and_is_no_configuration_for_it(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Vault:\n"
        "    async def get_token(self, name): ...\n"
        "    async def aclose(self):\n        raise ValueError('closing')\n"
    )
    command = ("run", f"{AGENTS}:return_at_once", "--provider", "mine:Vault")
    async with dromos(*command, cwd=tmp_path) as it:
        status = await it.end()

    assert 1 == status, it.told
    assert "Traceback" in it.told
    assert "ValueError: closing" in it.told


async def test_a_class_that_wants_arguments_is_told_to(tmp_path):
    (tmp_path / "mine.py").write_text("class Agent:\n    def __init__(self, name): ...\n")
    async with dromos("run", "mine:Agent", *CONNECTED, cwd=tmp_path) as it:
        status = await it.end()

    assert 1 == status
    assert "dromos: mine:Agent raised TypeError: Agent.__init__() missing 1" in it.log[0]


@pytest.mark.parametrize(
    ("host", "status", "said"),
    [
        ("127.0.0.1", 1, "the health port {port} on 127.0.0.1 can't be opened: Address already in"),
        ("192.0.2.1", 1, "the health port {port} on 192.0.2.1 can't be opened: "),
        ("300.1.2.3", 78, "health_host must be an address to listen on, not '300.1.2.3'"),
        ("a..b", 78, "health_host must be an address to listen on, not 'a..b'"),
    ],
)
async def test_a_health_port_that_can_not_be_opened_is_named_with_its_options(host, status, said):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        health = ("--health-host", host, "--health-port", port)
        async with dromos("run", f"{AGENTS}:return_at_once", "--token-env", "T", *health) as it:
            ended = await it.end()

    assert status == ended, it.told
    assert said.format(port=port) in it.told
    assert "health_host" in it.told
    assert status == 78 or "health_port" in it.told
    assert "Traceback" not in it.told


# --- The options ----------------------------------------------------------------------------------


async def test_every_option_is_listed_for_people():
    async with dromos("config") as it:
        status = await it.end()

    assert 0 == status
    assert "  ping_interval = 20 s" in it.lines
    assert "      DROMOS_PING_INTERVAL" in it.lines
    assert "  message_size_limit = 1048576 bytes" in it.lines
    assert "[[connections]]" in it.lines
    listed = it.lines[it.lines.index("[[connections]]") :]
    assert "refresh_buffer, renewal" in " ".join(listed)
    assert "max_concurrent_dials" not in " ".join(listed)
    assert "[verdicts]" in listed
    assert '"permanent"' in listed[listed.index("[verdicts]") + 1]


async def test_every_option_is_listed_for_programs():
    from dromos.config.table import CONNECTION, SECTIONS

    async with dromos("config", "--json") as it:
        status = await it.end()

    told = json.loads("\n".join(it.lines))
    keys = [f"{each['section']}.{each['name']}" for each in told]
    assert 0 == status
    options = [option for each in (*SECTIONS, CONNECTION) for option in each.options()]
    assert [*(option.key for option in options), "verdicts.CODE"] == keys
    own = {each["name"] for each in told if each["per_connection"]}
    assert {"ping_interval", "refresh_buffer"} < own
    assert "max_concurrent_dials" not in own
    interval = next(each for each in told if each["name"] == "ping_interval")
    assert (20.0, "s", "DROMOS_PING_INTERVAL") == (
        interval["default"],
        interval["unit"],
        interval["variable"],
    )


async def test_a_file_is_checked_whatever_the_environment_says(tmp_path):
    good, bad = ROOT / "deploy" / "dromos.toml", tmp_path / "bad.toml"
    bad.write_text("[bridge]\nping_interval = 'often'\n")
    async with dromos("config", "--check", good, env={"DROMOS_LOOP": "trio"}) as it:
        fine = await it.end()
    async with dromos("config", "--check", bad) as other:
        wrong = await other.end()

    assert (0, [f"{good}: fine; it names 1 connection"]) == (fine, it.lines)
    assert 78 == wrong
    assert f"{bad}, line 2: ping_interval must be seconds" in other.told


CONNECTION = "[[connections]]\nid = 'c'\nurl = 'wss://localhost'\n"
ANOTHER = CONNECTION.replace("'c'", "'d'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[tokens]\ngateway = 'ftp://x'\n" + CONNECTION,
            ", line 2: [tokens] gateway must start with",
        ),
        ("[tokens]\ngateway = 'ftp://x'\n", ", line 2: [tokens] gateway must start with"),
        (
            "[tokens]\ngateway = 'http://localhost'\ntoken_env = 'T'\n" + CONNECTION,
            ", line 1: [tokens] say once where tokens come from",
        ),
        (CONNECTION, ": [tokens] say once where tokens come from"),
        (
            "[tokens]\nissuer = 'https://localhost'\n" + CONNECTION,
            ", line 2: [tokens] issuer and token_url need client_id",
        ),
        ("[tokens]\ntoken_file = '/no'\n" + CONNECTION, ", line 2: [tokens] token_file: "),
        ("[tokens]\ntoken_env = 'NO_SUCH'\n" + CONNECTION, ", line 2: [tokens] token_env: "),
        (
            "[tokens]\nprovider = 'nomod:X'\n" + CONNECTION,
            ", line 2: [tokens] provider nomod:X can't be imported: No module named 'nomod'",
        ),
        (
            "[tokens]\ntoken_env = 'T'\n" + CONNECTION + ANOTHER + "handler = 'nomod:X'\n",
            ", line 9: [[connections]] handler nomod:X can't be imported: No module named 'nomod'",
        ),
        (
            "[tokens]\ntoken_env = 'T'\n" + CONNECTION + "handler = 'os:sep'\n",
            ", line 6: [[connections]] handler os:sep: a handler has on_connect",
        ),
        (
            "[service]\nrecord = '/no/run.jsonl'\n",
            ", line 2: [service] record '/no/run.jsonl' can't be written to: No such file",
        ),
        (
            "[service]\nrecord = '/'\n",
            ", line 2: [service] record '/' can't be written to: Is a directory",
        ),
        (
            "[dialer]\nca_file = '/no'\n",
            ", line 2: [dialer] ca_file /no can't be used",
        ),
    ],
)
async def test_a_check_refuses_what_a_run_would_refuse_at_once(text, said, tmp_path):
    (tmp_path / "f.toml").write_text(text)
    command = ("config", "--check", "f.toml")
    async with dromos(*command, env={"T": "token"}, cwd=tmp_path) as it:
        status = await it.end()

    assert 78 == status, it.told
    assert it.told.startswith(f"dromos: f.toml{said}"), it.told
    assert 1 == len(it.log)


async def test_a_check_asks_for_what_a_health_port_needs(tmp_path):
    (tmp_path / "f.toml").write_text("[service]\n\nhealth_port = 0\n")
    code = (
        "import sys; sys.modules['h11'] = None; sys.argv[1:] = ['config', '--check', 'f.toml']\n"
        "from dromos.cli import main; main()"
    )
    async with process("-c", code, cwd=tmp_path) as it:
        status = await it.end()

    assert 78 == status
    said = '[service] health_port needs: pip install "dromos[service]"'
    assert [f"dromos: f.toml, line 3: {said}"] == it.log


async def test_a_check_leaves_no_recording_behind(tmp_path):
    (tmp_path / "f.toml").write_text("[service]\nrecord = 'run.jsonl'\n")
    async with dromos("config", "--check", "f.toml", cwd=tmp_path) as it:
        status = await it.end()

    assert 0 == status, it.told
    assert not (tmp_path / "run.jsonl").exists()


async def test_a_check_builds_what_a_file_names_and_opens_no_connection(tmp_path):
    (tmp_path / "mine.py").write_text(f"from {AGENTS} import Agent\nprint('imported')\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"
        one = f"[[connections]]\nid = 'c'\nurl = 'ws://{at}'\nhandler = 'mine:Agent'\n"
        two = one.replace("'c'", "'d'")
        (tmp_path / "f.toml").write_text(f"[tokens]\ngateway = 'http://{at}'\n{one}{two}")
        async with dromos("config", "--check", "f.toml", cwd=tmp_path) as it:
            status = await it.end()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert (0, ["imported", "f.toml: fine; it names 2 connections"]) == (status, it.lines), it.told


async def test_a_check_of_an_empty_file_says_that_it_names_no_connections(tmp_path):
    (tmp_path / "f.toml").write_text("")
    async with dromos("config", "--check", "f.toml", cwd=tmp_path) as it:
        status = await it.end()

    assert (0, ["f.toml: fine; it names no connections"]) == (status, it.lines), it.told


async def test_a_check_shows_what_the_user_s_code_raises(tmp_path):
    (tmp_path / "mine.py").write_text("raise ValueError('init')\n")
    (tmp_path / "f.toml").write_text("[tokens]\nprovider = 'mine:Vault'\n")
    async with dromos("config", "--check", "f.toml", cwd=tmp_path) as it:
        status = await it.end()

    assert 1 == status
    assert "dromos: mine:Vault raised ValueError: init" == it.log[0]
