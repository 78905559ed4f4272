"""The whole harness at its smallest: it works, and says what it should; no figure is judged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.clients import Where, available, module_of
from benchmarks.idle import cases
from benchmarks.server import Server, server
from benchmarks.worker import main as work

OURS = [client for client in available() if client.startswith(("picows", "dromos"))]


@pytest.mark.slow  # a dozen processes, each with its own imports
def test_a_smoke_run_prints_a_table_and_stores_what_it_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("aiohttp", reason="make bench installs it")

    main(["--smoke", "--json", str(tmp_path / "deep" / "smoke.json")])

    shown = capsys.readouterr().out
    stored = json.loads((tmp_path / "deep" / "smoke.json").read_text())
    table = {(row["job"], row["client"]): row for row in stored["messages"]["table"]}
    assert 1.0 == table["receive 256 B", "picows"]["ratio"]
    assert {"p50", "p90", "p99"} == set(table["echo 256 B, TLS", "dromos"]["percentiles"])
    assert {"picows", "dromos"} == {row["client"] for row in stored["idle"]}
    assert 1 == stored["renewals"]["in_flight_for_one"]
    assert (0, 3) == (stored["renewals"]["lost"], stored["renewals"]["running"])
    assert not stored["startup"]["dromos"]["httpx2"]
    assert "ratios to picows" in shown
    assert stored["surroundings"]["picows"] in shown


@pytest.fixture(scope="module")
def far() -> Iterator[Server]:
    with server() as where:
        yield where


@pytest.mark.parametrize("client", OURS)
@pytest.mark.parametrize("work_", ["receive", "send", "echo"])
@pytest.mark.parametrize("tls", [False, True])
def test_each_client_does_each_job(far: Server, client: str, work_: str, tls: bool) -> None:
    pytest.importorskip("uvloop", reason="the server runs on it")
    path = {"receive": "/source/300", "send": "/sink", "echo": "/echo"}[work_]

    took = work(
        {
            "client": client,
            "work": work_,
            "size": 300,
            "count": 20,
            "loop": "asyncio",
            "url": far.url(path, tls=tls),
            "trust": far.trust,
        }
    )

    assert {"cpu", "wall"} <= set(took)
    assert ("p99" in took) == (work_ == "echo")


def test_every_client_has_a_file_with_the_three_jobs() -> None:
    for client in OURS:
        module = module_of(client)
        assert all(callable(getattr(module, work)) for work in ("receive", "send", "echo"))


def test_a_plain_address_has_no_tls() -> None:
    assert Where("ws://127.0.0.1:1/", "nowhere.pem").tls is None


def test_thousands_of_links_get_no_big_message() -> None:
    wanted = cases([1, 100, 1000, 5000])

    assert {1, 100} == {case.links for case in wanted if case.burst}
    assert {"picows", "dromos"} == {case.client for case in wanted if case.links == 5000}
    assert {"asyncio", "uvloop"} == {case.loop for case in wanted if case.links == 1000}
