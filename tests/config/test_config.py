"""What a file and the environment say, which of them goes first, and where they are wrong."""

import sys
import traceback
from dataclasses import replace

import pytest

from dromos import Bridge, BridgeError, Config, Outbox, RetryPolicy, Verdict
from dromos.config import (
    ConfigError,
    ConnectionSettings,
    DialerSettings,
    ServiceSettings,
    TokenSettings,
)
from dromos.oauth import ClientCredentials, EnvToken, FileToken, OAuthClient

ONE = """[[connections]]
id = "one"
url = "wss://far.example/ws"
"""

WHOLE = """
[tokens]
gateway = "http://localhost:8081"

[bridge]
ping_interval = "30s"
max_link_age = "1h30m"
send_buffer_limit = "1MiB"
renewal = "keep"

[retry]
max_backoff = 120
jitter = 0.5

[outbox]
ttl = "none"
when_full = "wait"

[verdicts]
4003 = "permanent"
503 = "transient"

[dialer]
subprotocols = ["a", "b"]
headers = { X-Team = "agents" }

[service]
health_port = 8080
drain_timeout = "20s"

[[connections]]
id = "one"
url = "wss://far.example/ws"

[[connections]]
id = "two"
url = "wss://far.example/ws"
handler = "agents:Second"
refresh_buffer = "1m"
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "dromos.toml"
        path.write_text(text)
        return path

    return write


def read(path, **environ):
    return Config.from_toml(path, environ=environ)


# --- What is read ---------------------------------------------------------------------------------


def test_a_file_says_everything(write):
    config = read(write(WHOLE))

    assert TokenSettings(gateway="http://localhost:8081") == config.tokens
    assert ServiceSettings(health_port=8080, drain_timeout=20) == config.service
    assert {
        "ping_interval": 30.0,
        "max_link_age": 5400.0,
        "send_buffer_limit": 2**20,
        "renewal": "keep",
        "retry_policy": RetryPolicy(max_backoff=120, jitter=0.5),
        "outbox": Outbox(ttl=None, when_full="wait"),
        "verdicts": {4003: Verdict.PERMANENT, 503: Verdict.TRANSIENT},
    } == config.options
    assert (
        ConnectionSettings(id="one", url="wss://far.example/ws"),
        ConnectionSettings(
            id="two",
            url="wss://far.example/ws",
            handler="agents:Second",
            options={"refresh_buffer": 60.0},
        ),
    ) == config.connections
    assert isinstance(config.bridge(), Bridge)


def test_an_empty_file_says_what_is_so_by_default(write):
    config = read(write(""))

    assert Config() == config
    assert {} == config.options


def test_one_token_may_serve_two_places(write):
    config = read(write(ONE + ONE.replace("/ws", "/other")))

    assert ["one", "one"] == [each.id for each in config.connections]


def test_the_environment_goes_before_the_file(write):
    config = read(
        write(WHOLE),
        DROMOS_PING_INTERVAL="none",
        DROMOS_RETRY_MAX_BACKOFF="3m",
        DROMOS_HEALTH_PORT="none",
        DROMOS_TOKEN_ENV="TOKEN",
        DROMOS_ALLOW_INSECURE_TRANSPORT="yes",
    )

    assert config.options["ping_interval"] is None
    assert 180.0 == config.options["retry_policy"].max_backoff
    assert 0.5 == config.options["retry_policy"].jitter
    assert config.options["allow_insecure_transport"] is True
    assert ServiceSettings(drain_timeout=20) == config.service
    assert TokenSettings(token_env="TOKEN", allow_insecure_transport=True) == config.tokens


def test_the_program_goes_before_both(write):
    config = read(write(WHOLE), DROMOS_PING_INTERVAL="40", DROMOS_HEALTH_PORT="9")
    bridge = config.bridge(ping_interval=50)

    assert 50 == bridge._options["ping_interval"]
    assert 1 == config.with_service(health_port=1).service.health_port
    assert config.with_service(health_port=None).service.health_port is None


def test_what_a_connection_says_of_its_own_session_goes_before_all(write):
    config = read(write(WHOLE + "ping_interval = '7s'\n"), DROMOS_PING_INTERVAL="40")

    assert 40 == config.options["ping_interval"]
    assert [{}, {"refresh_buffer": 60.0, "ping_interval": 7.0}] == [
        each.options for each in config.connections
    ]


def test_the_environment_alone_is_enough():
    config = Config.from_env(
        environ={
            "DROMOS_GATEWAY": "http://localhost:8081",
            "DROMOS_CONNECTION_ID": "one",
            "DROMOS_CONNECTION_URL": "wss://far.example/ws",
            "DROMOS_OUTBOX_MAX_BYTES": "64KiB",
            "PATH": "/bin",
        }
    )

    assert (ConnectionSettings(id="one", url="wss://far.example/ws"),) == config.connections
    assert Outbox(max_bytes=2**16) == config.options["outbox"]
    assert isinstance(config.source(), OAuthClient)


def test_the_prefix_can_be_another():
    config = Config.from_env("AGENT_", environ={"AGENT_HEALTH_PORT": "1", "DROMOS_LOOP": "x"})

    assert 1 == config.service.health_port


def test_variables_of_others_are_left_alone():
    """Kubernetes sets such for a Service of that name, and programs have their own."""
    config = Config.from_env(
        environ={
            "DROMOS_SERVICE_HOST": "10.0.0.1",
            "DROMOS_PORT": "tcp://10.0.0.1:80",
            "DROMOS_PORT_80_TCP_ADDR": "10.0.0.1",
            "DROMOS_API": "x",
        }
    )

    assert Config() == config


# --- Sources and dialers --------------------------------------------------------------------------


def test_each_source_of_tokens_is_made(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("t")
    monkeypatch.setenv("OUR_SECRET", "s")
    server = {"issuer": "https://login.example", "client_id": "a"}
    made = [
        TokenSettings(gateway="http://localhost:8081"),
        TokenSettings(token_env="TOKEN"),
        TokenSettings(token_file=str(tmp_path / "token")),
        TokenSettings(**server, client_secret_env="OUR_SECRET"),
    ]

    kinds = [type(Config(tokens=settings).source()) for settings in made]

    assert [OAuthClient, EnvToken, FileToken, ClientCredentials] == kinds


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "say once where tokens come from"),
        ({"gateway": "http://localhost", "token_env": "A"}, "say once where tokens come from"),
        ({"issuer": "https://login.example"}, "need client_id"),
        ({"issuer": "https://x.example", "client_id": "a", "client_secret_env": "NONE"}, "no NONE"),
        ({"provider": "nowhere"}, "must be MODULE:NAME"),
        ({"provider": "os:path"}, "has no get_token"),
        ({"gateway": "http://elsewhere.example"}, "allow_insecure_transport"),
    ],
)
def test_a_source_that_can_not_work_is_a_configuration_error(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        Config(tokens=TokenSettings(**settings)).source()


@pytest.mark.parametrize("missing", ["jwt", "cryptography", None])
def test_a_private_key_that_can_not_sign_is_a_configuration_error(missing, tmp_path, monkeypatch):
    (tmp_path / "key.pem").write_text("a secret that is no key")
    if missing is None:
        pytest.importorskip("jwt", reason="needs the extra jwt")
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    settings = TokenSettings(
        issuer="https://login.example", client_id="a", private_key_file=str(tmp_path / "key.pem")
    )
    problem = "private_key is no PEM" if missing is None else r'pip install "dromos\[jwt\]"'

    with pytest.raises(ConfigError, match=f"^private_key_file can't be used: .*{problem}") as told:
        Config(tokens=settings).source()

    assert "no key" not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"gateway": "ftp://x"}, "gateway must start with http"),
        ({"token_env": "a token"}, "token_env must be of letters"),
        ({"token_file": "a\0b"}, "token_file must"),
        (
            {"issuer": "https://a", "client_id": "a", "refresh_store": "/nowhere/at/all"},
            "refresh_store must be in a directory that exists",
        ),
    ],
)
def test_a_refusal_calls_an_option_what_it_is_called(settings, problem):
    with pytest.raises(ConfigError, match=f"^{problem}"):
        Config(tokens=TokenSettings(**settings)).source()


def test_a_provider_that_raises_is_no_configuration_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising_provider.py").write_text("def make():\n    raise ValueError('init')\n")

    with pytest.raises(
        BridgeError, match=r"^raising_provider:make raised ValueError: init$"
    ) as told:
        Config(tokens=TokenSettings(provider="raising_provider:make")).source()

    assert not isinstance(told.value, ConfigError)
    assert isinstance(told.value.__cause__, ValueError)


def test_a_module_must_be_named_in_full():
    with pytest.raises(ConfigError, match="must be MODULE:NAME"):
        Config(tokens=TokenSettings(provider=".near:make")).source()


def test_secrets_of_a_dialer_are_looked_up(tmp_path, monkeypatch, write):
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("OUR_KEY", "from a variable")
    config = read(
        write(f"""
[tokens]
token_env = "T"
[dialer]
headers = {{ Authorization = {{ env = "OUR_KEY" }}, Cookie = {{ file = "{tmp_path}/key" }} }}
""")
    )
    dialer = config.bridge()._dialer

    assert "from a variable" in str(vars(dialer))
    assert "from a file" in str(vars(dialer))
    assert "from a" not in repr(config)


def test_an_engine_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match='engine must be "picows" or "websockets"'):
        DialerSettings(engine="picow")


def test_an_engine_is_chosen(write):
    pytest.importorskip("websockets", reason="needs the extra websockets")
    from dromos.dialers import WebsocketsDialer

    config = read(write('[tokens]\ntoken_env = "T"\n[dialer]\nengine = "websockets"\n'))

    assert isinstance(config.bridge()._dialer, WebsocketsDialer)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ca_file": "/nowhere.pem"}, "ca_file /nowhere.pem can't be used"),
        ({"headers": {"X": {"env": "NOT_SET"}}}, "X refers to the variable NOT_SET"),
        ({"proxy": {"file": "/nowhere"}}, "proxy refers to a file that can't be read"),
        ({"proxy": "ftp://proxy"}, "proxy"),
    ],
)
def test_a_dialer_that_can_not_work_is_a_configuration_error(settings, problem):
    config = Config(tokens=TokenSettings(token_env="T"), dialer=DialerSettings(**settings))

    with pytest.raises(ConfigError, match=problem):
        config.bridge()


# --- What is wrong, and where ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[bridge]\nping_intervall = 3\n", 2, r"no ping_intervall; did you mean ping_interval\?"),
        ("\n[brigde]\n", 2, r"no \[brigde\] in a configuration; did you mean bridge\?"),
        ("colour = 3\n", 1, "no colour in a configuration"),
        ("[bridge]\n\nping_interval = 'often'\n", 3, "ping_interval must be seconds"),
        ("[bridge]\nping_timeout = 0\n", 2, "ping_timeout must be more than 0"),
        ("[bridge]\nmessage_size_limit = '4 MB'\n", 2, "message_size_limit must be bytes"),
        ("[bridge]\nallow_insecure_transport = 3\n", 2, "must be true or false"),
        ("[retry]\nmin_backoff = 90\n", 1, "max_backoff"),
        ("[retry]\nmax_attempts = 0\n", 2, "max_attempts must be at least 1"),
        ("[outbox]\nwhen_full = 'drop'\n", 2, 'when_full must be "error" or'),
        ("[service]\nhealth_port = 70000\n", 2, "health_port must be 0 to 65535"),
        ("[service]\nloop = 'trio'\n", 2, "loop must be"),
        ("[verdicts]\nsoon = 'permanent'\n", 2, "by close code or HTTP status"),
        ("[verdicts]\n4003 = 'forever'\n", 2, "4003 must be one of transient"),
        ("[[connections]]\nid = 'a'\n", 1, "lacks its url"),
        (ONE + "[[connections]]\nid='a'\nurl = 'http://x'\n", 6, "url must begin with"),
        ("[[connections]]\nid='a'\nurl='wss://x'\nping_timeout=-1\n", 4, "ping_timeout must be"),
        ("[[connections]]\nid='a'\nurl='ws://far.example'\n", 3, "allow_insecure_transport"),
        ("[connections]\nid='a'\n", 1, r"\[\[connections\]\]"),
        (ONE + ONE, 4, "connection one is here a second time, with the same url; leave one of"),
        ("bridge = 3\n", 1, "bridge must be a table"),
        ("\n[bridge.outbox]\nttl = 3\n", 2, r"no outbox; it is a table of its own: \[outbox\]"),
        (
            "[bridge]\nretry_policy = 3\n",
            2,
            r"no retry_policy; it is a table of its own: \[retry\]",
        ),
        ("[bridge]\n[bridge.verdicts]\n", 2, r"it is a table of its own: \[verdicts\]"),
        (
            "[[connections]]\nid='a'\nurl='ws://[::1]:99999'\n",
            3,
            "url has a port that is no number",
        ),
        ("[[connections]]\nid='a'\nurl='ws://far.example'\n", 3, "allow_insecure_transport = true"),
        ("[bridge]\nping_interval = \n", 2, "this is not TOML"),
        ("[dialer]\nproxy = 'http://me:secret@proxy'\n", 2, "proxy holds a password"),
        ("[dialer]\nheaders = { Authorization = 'secret' }\n", 2, "Authorization is a secret"),
        ("[dialer]\nheaders = { X = 3 }\n", 2, "headers must be a table"),
        ("[tokens]\nclient_secret = 'secret'\n", 2, "no client_secret; did you mean client_secret"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(write, text, line, problem):
    path = write(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        read(path)

    assert (str(path), line) == (caught.value.source, caught.value.line)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert "secret@" not in str(caught.value)
    assert "'secret'" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (
            "[tokens]\ngateway = 'localhost:8081'\n",
            2,
            "gateway must start with http:// or https://",
        ),
        (
            "[tokens]\ngateway = 'http://far.example'\n",
            2,
            "gateway .* allow_insecure_transport = true",
        ),
        (
            "[tokens]\ngateway = 'http://localhost:99999'\n",
            2,
            "gateway has a port that is no number",
        ),
        ("\n[tokens]\ngateway = 'http://localhost'\ntoken_env = 'A'\n", 2, "say once where tokens"),
        ("[service]\n", None, "say once where tokens come from"),
        ("[tokens]\ntoken_env = 'A'\n[dialer]\nca_file = '/no'\n", 4, "ca_file /no can't be used"),
    ],
)
def test_what_is_found_wrong_later_is_named_with_its_file_and_line(write, text, line, problem):
    path = write(text)
    config = read(path)
    with pytest.raises(ConfigError, match=problem) as caught:
        config.bridge()

    assert (str(path), line) == (caught.value.source, caught.value.line)


def test_what_the_program_says_instead_is_not_blamed_on_the_file(write):
    read_from = read(write("[tokens]\ngateway = 'http://localhost'\n"))
    config = replace(read_from, tokens=TokenSettings(gateway="http://far.example"))
    with pytest.raises(ConfigError, match=r"^gateway must be https") as caught:
        config.source()

    assert (None, None) == (caught.value.source, caught.value.line)


def test_the_file_is_known_still_once_the_service_is_another(write):
    config = read(write("[tokens]\ngateway = 'http://far.example'\n")).with_service(health_port=0)
    with pytest.raises(ConfigError) as caught:
        config.source()

    assert 2 == caught.value.line


def test_what_a_variable_refers_to_is_named_with_the_variable():
    config = Config.from_env(environ={"DROMOS_GATEWAY": "http://far.example"})
    with pytest.raises(ConfigError, match="DROMOS_ALLOW_INSECURE_TRANSPORT=true") as caught:
        config.source()

    assert "DROMOS_GATEWAY" == caught.value.source


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("DROMOS_PING_INTERVALL", "3", r"did you mean DROMOS_PING_INTERVAL\?"),
        ("DROMOS_PING_INTERVAL", "often", "ping_interval must be seconds"),
        ("DROMOS_PING_INTERVAL", "-3", "ping_interval must be more than 0"),
        ("DROMOS_HEALTH_PORT", "tcp://10.0.0.1:80", "enableServiceLinks: false"),
        ("DROMOS_FRAGMENT_LIMIT", "1e3", "fragment_limit must be a whole number"),
        ("DROMOS_CONNECTION_ID", "a", "lacks its url"),
    ],
)
def test_a_variable_that_can_not_work_is_named(name, value, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        Config.from_env(environ={name: value})

    assert name == caught.value.source


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xfc\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1d", 86400),
    ],
)
def test_durations_are_written_as_people_do(text, seconds):
    config = Config.from_env(environ={"DROMOS_PING_TIMEOUT": text})

    assert seconds == config.options["ping_timeout"]


@pytest.mark.parametrize("text", ["", "5 parsecs", "m5", "1h 30m", "nan", "inf", "-5s", "5m3"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="ping_timeout must be"):
        Config.from_env(environ={"DROMOS_PING_TIMEOUT": text})
