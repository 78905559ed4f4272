"""The Grafana dashboard and the alert rules, against what a real bridge exports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dromos
from dromos import events
from dromos.telemetry.prometheus import METRICS, PrometheusMetrics
from dromos.telemetry.timing import CALLBACKS
from tests.driver.harness import URL, PlainNotes
from tests.telemetry.scrape import Scrape, scripted_run

prometheus_client = pytest.importorskip("prometheus_client", reason='needs "dromos[prometheus]"')

pytestmark = pytest.mark.looptime

OPERATIONS = Path(__file__).parents[2] / "docs/operations"
ALERTS = OPERATIONS / "alerts.yml"
DASHBOARD = OPERATIONS / "grafana-dashboard.json"

ADDED_BY_A_SERVER = {"job", "instance"}
IF_ASKED_FOR = {"connection_id"}


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[Any]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


@pytest.fixture
def rules(yaml: Any) -> list[Any]:
    loaded = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Every PromQL expression that we hand out, by where it stands."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["definition"]
    return found | alerts()


def alerts() -> dict[str, str]:
    """The rules' expressions, read without a YAML library, which not every environment has."""
    pattern = r"- alert: (\w+)\n +expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)"
    found = re.findall(pattern, ALERTS.read_text(encoding="utf-8"))
    return {f"alert {name}": " ".join((folded or line).split()) for name, folded, line in found}


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in an expression, with the labels that it is selected by."""
    for name, matchers in re.findall(r"\b(bridge_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers or ""))


def groupings(expression: str) -> set[str]:
    lists = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", expression)
    return {label.strip() for names in lists for label in names.split(",")} - {""}


async def exported() -> Scrape:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)
    metrics.observe_loop_lag(0.01)
    metrics.timed(PlainNotes()).on_disconnect(None)
    seen = Scrape(registry)
    await stage.cancel()
    return seen


async def test_every_metric_and_label_that_is_asked_for_is_exported() -> None:
    seen = await exported()

    asked = 0
    for where, expression in expressions().items():
        known: set[str] = set()
        for name, labels in selectors(expression):
            asked += 1
            assert name in seen.names, f"{where} asks for {name}"
            having = {label for labels in seen.labels(name) for label in labels}
            known |= having
            assert labels <= having | ADDED_BY_A_SERVER, f"{where} selects {name} by {labels}"
        assert groupings(expression) <= known | ADDED_BY_A_SERVER | IF_ASKED_FOR, where
    assert asked > 30


async def test_every_value_that_a_label_is_compared_with_can_occur() -> None:
    seen = await exported()

    compared = 0
    for where, expression in expressions().items():
        for name, matchers in re.findall(r"\b(bridge_\w+)\{([^}]*)\}", expression):
            for label, pattern in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                if label in ADDED_BY_A_SERVER:
                    continue
                values = {labels.get(label) for labels in seen.labels(name)}
                compared += 1
                assert set(pattern.split("|")) <= values, f"{where}: {label} is never {pattern}"
    assert compared >= 6


@pytest.mark.parametrize("per_connection", [False, True])
def test_every_counter_that_an_alert_uses_is_0_before_anything_has_happened(
    per_connection: bool,
) -> None:
    # Prometheus sees no growth in a series that begins at 1: the first failure would be missed.
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry, per_connection=per_connection)
    metrics.on_event(events.SessionStarted(session=1, endpoint=URL, connection_id="c-1"))
    seen = Scrape(registry)

    used = 0
    for where, expression in alerts().items():
        for name, matchers in re.findall(r"\b(bridge_\w+_total)\b(?:\{([^}]*)\})?", expression):
            used += 1
            wanted = dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))
            for label, pattern in (wanted or {"": ""}).items():
                for value in pattern.split("|"):
                    of_it = {label: value} if label else {}
                    assert seen.has(name, **of_it), f"{where}: {name} {of_it}"
                    assert 0 == seen.total(name, **of_it)
    assert used > 5
    ours = seen.labels("bridge_sessions_ended_total")
    assert {"c-1" if per_connection else None} == {labels.get("connection_id") for labels in ours}


def test_every_callback_that_can_fail_has_failed_0_times_before_it_did() -> None:
    registry = prometheus_client.CollectorRegistry()
    PrometheusMetrics(registry=registry)
    seen = Scrape(registry)

    reported = {
        method
        for file in (Path(dromos.__file__).parent).rglob("*.py")
        for method in re.findall(r'_failed\(\s*"(\w+)",', file.read_text(encoding="utf-8"))
    }
    assert {"on_message", "dedupe", "correlate"} <= reported
    for method in reported | set(CALLBACKS):
        assert 0 == seen.value("bridge_handler_failures_total", method=method)


async def test_every_histogram_that_an_alert_uses_is_there_before_anything_has_happened() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)
    metrics.on_event(events.SessionStarted(session=1, endpoint=URL))
    before, after = Scrape(registry), await exported()

    for name in re.findall(r"\b(bridge_\w+_bucket)\b", " ".join(alerts().values())):
        assert 0 == before.total(name)
        later = [labels for labels in after.labels(name) if labels.get("endpoint", URL) == URL]
        assert all(labels in before.labels(name) for labels in later)


async def test_every_metric_is_shown_on_the_dashboard() -> None:
    seen = await exported()

    shown = {name for e in expressions().values() for name, _ in selectors(e)}
    stems = {re.sub(r"_(bucket|count|sum)$", "", name) for name in seen.names}
    assert stems == {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}


def test_alerts_judge_an_agent_whose_metrics_tell_its_connections_apart() -> None:
    by_endpoint = {metric.name for metric in METRICS if "endpoint" in metric.labels}

    judged = 0
    for where, expression in alerts().items():
        for labels, rest in re.findall(
            r"sum without \(([^)]*)\) *(.*?)(?=sum without|$)", expression
        ):
            (name,) = {re.sub("_bucket$", "", found) for found, _ in selectors(rest)}
            if name in by_endpoint:
                judged += 1
                assert "connection_id" in labels.split(", "), where
    assert judged >= 3


def test_the_dashboard_can_be_imported_anywhere() -> None:
    loaded = dashboard()

    assert "id" not in loaded, "an id belongs to one server"
    assert loaded["uid"]
    assert loaded["schemaVersion"] >= 36
    assert "datasource" == loaded["templating"]["list"][0]["type"]
    for panel in panels():
        assert {"type": "prometheus", "uid": "${datasource}"} == panel["datasource"]
        assert panel["title"]
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            assert panel["datasource"] == target["datasource"]


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]

    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len(ids) == len(set(ids))


def test_the_rules_are_what_was_read_of_them(rules: list[Any]) -> None:
    assert alerts() == {f"alert {rule['alert']}": rule["expr"] for rule in rules}


def test_every_alert_says_how_bad_it_is_and_what_it_means(rules: list[Any]) -> None:
    names = [rule["alert"] for rule in rules]

    assert len(names) == len(set(names)) > 5
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize("pair", ["()", "[]", "{}"])
def test_what_is_opened_in_an_expression_is_closed(pair: str) -> None:
    for where, expression in expressions().items():
        depth = 0
        for char in expression:
            depth += (char == pair[0]) - (char == pair[1])
            assert depth >= 0, where
        assert 0 == depth, where


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
def test_prometheus_itself_takes_every_expression(tmp_path: Path) -> None:
    # A dashboard's variables are no PromQL; what Grafana puts in their place is.
    recorded = [
        {"record": f"checked:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions().values())
        if not expression.startswith("label_values")
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))

    for rules_file in (ALERTS, file):
        done = subprocess.run(
            [str(PROMTOOL), "check", "rules", str(rules_file)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
def test_alerts_fire_for_who_is_in_trouble_and_not_for_who_is_idle() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(Path(__file__).with_name("alerts_test.yml"))],
        check=False,
        capture_output=True,
        text=True,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
def test_open_is_a_share_of_all_sessions_whatever_instance_has_them(tmp_path: Path) -> None:
    expression = expressions()["Open A"].replace("$job", ".*").replace("$instance", ".*")
    series = {
        # One instance has its only session open, the other one of 99.
        'bridge_connection_status{instance="few"}': "1",
        'bridge_sessions{instance="few",state="open"}': "1",
        'bridge_sessions{instance="few",state="waiting"}': "0",
        'bridge_connection_status{instance="many"}': "0.0101",
        'bridge_sessions{instance="many",state="open"}': "1",
        'bridge_sessions{instance="many",state="waiting"}': "98",
    }
    played = {
        "interval": "1m",
        "input_series": [{"series": name, "values": value} for name, value in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "0m",
                "exp_samples": [{"labels": "{}", "value": 0.02}],
            }
        ],
    }
    file = tmp_path / "open.json"
    file.write_text(json.dumps({"tests": [played]}))

    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], check=False, capture_output=True, text=True
    )

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
async def test_prometheus_itself_finds_nothing_wrong_with_what_is_exported() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusMetrics(registry=registry)
    stage = await scripted_run(metrics.on_event)
    metrics.watch(stage.bridge)
    text = prometheus_client.generate_latest(registry)
    await stage.cancel()

    done = subprocess.run(  # noqa: ASYNC221 - virtual time stands still meanwhile
        [str(PROMTOOL), "check", "metrics"], check=False, input=text, capture_output=True
    )

    assert (0, b"") == (done.returncode, done.stdout + done.stderr)
