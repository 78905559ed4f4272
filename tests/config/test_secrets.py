"""No secret shows itself in a configuration, in what is made of it, or in what is wrong with it."""

import traceback

import pytest

from dromos import Config
from dromos.config import ConfigError, ConnectionSettings, DialerSettings, TokenSettings

SECRET = "Xq7-canary-Zw9"

FILE = """
[tokens]
issuer = "https://login.example"
client_id = "agent"
client_secret_env = "OUR_SECRET"

[dialer]
proxy = { env = "OUR_PROXY" }
headers = { Authorization = { env = "OUR_SECRET" } }

[[connections]]
id = "one"
url = "wss://far.example/ws?key=Xq7-canary-Zw9"
"""


def test_what_is_made_of_a_configuration_shows_none(tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_SECRET", SECRET)
    monkeypatch.setenv("OUR_PROXY", f"http://me:{SECRET}@proxy.example")
    (tmp_path / "dromos.toml").write_text(FILE)
    config = Config.from_toml(tmp_path / "dromos.toml", environ={})
    bridge = config.bridge()

    shown = [repr(each) for each in (config, config.connections, config.dialer, bridge)]
    shown += [repr(config.source()), repr(bridge._dialer)]
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    "text",
    [
        f"[tokens]\nclient_secret = '{SECRET}'\n",
        f"[tokens]\ngateway = 'http://me:{SECRET}@gateway.example'\n",
        f"[dialer]\nheaders = {{ Authorization = '{SECRET}' }}\n",
        f"[dialer]\nproxy = 'http://me:{SECRET}@proxy.example'\n",
        f"[[connections]]\nid = 'one'\nurl = 'http://far.example?key={SECRET}'\n",
        f"[[connections]]\nid = 'one'\nurl = 'wss://me:{SECRET}@far.example'\n",
        f"[bridge]\nping_interval = '{SECRET}'\n",
        f"[bridge]\nrenewal = '{SECRET}'\n",
        f"[service]\nhealth_port = '{SECRET}'\n",
        f"client_secret = '{SECRET}' '\n",
    ],
)
def test_what_is_wrong_shows_none(tmp_path, text):
    (tmp_path / "dromos.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config.from_toml(tmp_path / "dromos.toml", environ={}).source()

    error = caught.value
    lines = traceback.TracebackException.from_exception(error)
    assert SECRET not in "".join([str(error), repr(error), *lines.format()])


def test_settings_of_a_program_show_none():
    shown = [
        repr(ConnectionSettings(id="one", url=f"wss://far.example/ws?key={SECRET}")),
        repr(DialerSettings(proxy=f"http://me:{SECRET}@proxy", headers={"Authorization": SECRET})),
        repr(TokenSettings(client_secret_env="OUR_SECRET")),
        repr(TokenSettings(gateway=f"http://me:{SECRET}@gateway.example")),
        repr(TokenSettings(issuer=f"https://me:{SECRET}@login.example")),
        repr(TokenSettings(token_url=f"https://login.example/token?key={SECRET}")),
    ]

    assert SECRET not in "".join(shown)
