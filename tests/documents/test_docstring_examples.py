"""Every example in a docstring runs, to its last statement, against servers on loopback."""

import asyncio
import importlib
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import dromos
import dromos.sync
from dromos.oauth import StaticToken
from dromos.testing import FarSide, Gateway
from dromos.testing.virtual import VirtualTime
from tests.documents.docstrings import EXAMPLES, Enough, Example, Steps, docstrings
from tests.documents.test_other_blocks import parse
from tests.documents.world import World
from tests.oauth.token_server import TokenServer

PYTHON = [example for example in EXAMPLES if example.is_python]
OTHERS = [example for example in EXAMPLES if not example.is_python]

IDS = ("your-connection-id", "connection-id", "c-1", "c-2")
PUBLIC = ("dromos", "dromos.oauth", "dromos.testing", "dromos.testing.memory")

prometheus_client = pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')
pytest.importorskip("opentelemetry", reason='needs "dromos[otel]"')
pytest.importorskip("jwt", reason='needs "dromos[jwt]"')


# ---------------------------------------------------------------- what an example may take as given


class Agent:
    """Says hello, and closes its session when it hears something: any session ends so."""

    def __init__(self) -> None:
        self.greetings = 0

    def on_connect(self, send: Any) -> None:
        self.greetings += 1
        self.send = send
        send("hello")

    def on_message(self, message: Any) -> None:
        self.send.close()

    def on_disconnect(self, error: Exception | None) -> None:
        pass


class Stays(Agent):
    """Goes on."""

    def on_message(self, message: Any) -> None:
        pass


class Leaves(Agent):
    """Closes its session as it begins."""

    def on_connect(self, send: Any) -> None:
        send.close()


@contextmanager
def world() -> Iterator[World]:
    """Servers on a thread of their own, since an example may own the main one."""
    begun: list[World] = []
    ready = threading.Event()
    ends = asyncio.Event()

    async def stand() -> None:
        async with (
            Gateway() as gateway,
            FarSide(gateway=gateway, echo=True, rate=50) as far,
            TokenServer() as issuer,
        ):
            for connection_id in IDS:
                gateway.add(connection_id, lifetime=3600)
            begun.append(World(gateway, far, issuer))
            ready.set()
            await ends.wait()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=runner.run, args=(stand(),), name="the world")
        thread.start()
        try:
            assert ready.wait(60)
            yield begun[0]
        finally:
            loop.call_soon_threadsafe(ends.set)
            thread.join()


def here(text: str, around: World) -> str:
    """The same with real addresses, and files in this folder."""
    real = around.addresses | {
        "wss://host/ws": around.far.url,
        "https://oauth2.googleapis.com/token": f"{around.issuer.url}/token",
        "/var/lib/agent/": "",
        "/var/run/secrets/tokens/": "",
        "port=8080": "port=0",
    }
    for written, here in real.items():
        text = text.replace(written, here)
    return text


def given(example: Example, around: World) -> dict[str, Any]:
    """What an example takes for granted: what is public where it stands, and what readers have."""
    package = example.module.rpartition(".")[0]
    threads = example.module.startswith("dromos.sync")
    names: dict[str, Any] = {"asyncio": asyncio, "dromos": dromos}
    for name in (*PUBLIC, package, example.module):
        names |= public(importlib.import_module(name))
    if threads:
        names |= public(dromos.sync)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return names | {
        "Agent": Agent,
        "MyAgent": Stays,
        "account": "agent@example.com",
        "gateway": around.gateway,
        "handler": Leaves(),
        "key_pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        "tokens": StaticToken(around.gateway.access_token("c-1")),
        "url": around.gateway.url,
        "wanted": [("c-1", around.far.url), ("c-2", around.far.url)],
    }


def public(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


# ---------------------------------------------------------------- running one


def play(example: Example, steps: Steps, names: dict[str, Any]) -> None:
    """Run an example, and then what it has made, until each of its statements has run."""
    names |= {"_begun": steps.begun, "_done": steps.done}

    async def awaited() -> None:
        async with dromos.Bridge(names["tokens"]) as bridge:
            await eval(steps.code, {**names, "bridge": bridge})

    def threads() -> None:
        with dromos.sync.Bridge(names["tokens"]) as bridge:
            exec(steps.code, {**names, "bridge": bridge})

    try:
        if steps.awaits:
            asyncio.run(awaited())
        elif example.module.startswith("dromos.sync"):
            threads()
        else:
            exec(steps.code, names)
    except Enough:
        pass
    except SystemExit:
        assert not steps.left, "a program ends for another reason"


async def use(made: dict[str, Any], far: FarSide) -> None:
    """Do with what an example has made what it is for."""
    if isinstance(made.get("bridge"), dromos.Bridge):
        async with made["bridge"] as bridge:
            await bridge.maintain_websocket("c-1", far.url, Agent())
    elif made["tokens"].__class__.__module__ != StaticToken.__module__:
        assert await made["tokens"].get_token("c-1")


def run(example: Example, around: World) -> None:
    """Run an example, and what it has made or defined.

    Raises:
        AssertionError: If one of its statements has not run.
    """
    steps = Steps(here(example.text, around), str(example))
    names = given(example, around)
    play(example, steps, names)
    steps.ends = False
    for name, made in list(names.items()):
        if name.startswith("test_"):
            made(VirtualTime())
    if not steps.awaits:
        asyncio.run(use(names, around.far))
    assert [] == steps.left


@pytest.mark.parametrize("example", PYTHON, ids=str)
def test_an_example_runs_to_its_last_statement(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prometheus_client, "REGISTRY", prometheus_client.CollectorRegistry())
    (tmp_path / "agent").write_text("a-token-of-a-workload")
    with world() as around:
        (tmp_path / "dromos.toml").write_text(f'[tokens]\ngateway = "{around.gateway.url}"\n')
        if "failures(" in example.text:
            around.far.accept_then_close(1008, "not you")

        run(example, around)


# ---------------------------------------------------------------- all of them, and those that fail


def test_the_examples_are_found():
    """Those of the ways in, of sources, of telemetry and of `dromos.testing` among them."""
    found = {str(example) for example in PYTHON}

    assert len(PYTHON) >= 30
    assert {
        "dromos.bridge:Bridge",
        "dromos.bridge:Bridge.connect",
        "dromos.oauth.gateway:OAuthClient",
        "dromos.service.launch:run",
        "dromos.sync",
        "dromos.testing.virtual:VirtualTime",
    } <= found


@pytest.mark.parametrize("example", OTHERS, ids=str)
def test_what_is_no_python_is_a_picture_or_a_command(example: Example):
    """A slip of syntax would otherwise hide an example."""
    if example.text.startswith("dromos "):
        parse(shlex.split(example.text)[1:])
    else:
        assert re.search("[─│┌└├▶▲]", example.text), example.text


def test_no_example_is_written_in_another_way():
    """Else it would not be found."""
    other = re.compile(r"^\s*(>>>|```|\.\. |Examples?:)|::$", re.MULTILINE)

    assert [] == [(module, owner) for module, owner, text in docstrings() if other.search(text)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("await bridge.conect()", AttributeError),
        ("from dromos.oauth import OAuthClent", ImportError),
        ("Brige(tokens)", NameError),
        ("Bridge(tokens, ping_intervall=1)", TypeError),
        ("def unused():\n    Bridge(tokens)", AssertionError),
    ],
)
def test_an_example_that_is_wrong_is_told(wrong: str, error: type[Exception]):
    example = Example(module="dromos.bridge", owner="", text=wrong, is_python=True)
    with world() as around, pytest.raises(error):
        run(example, around)
