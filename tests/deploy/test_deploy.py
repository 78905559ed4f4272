"""The files in deploy/: read by the programs that they are for, and true to our defaults."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dromos import Config
from dromos.config import ServiceSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "agent.service"


@pytest.fixture
def manifests(yaml):
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "agent.yaml").read_text()))


def test_the_configuration_can_work():
    config = Config.from_toml(DEPLOY / "dromos.toml", environ={})

    assert 1 == len(config.connections)
    assert config.source()


def settings():
    lines = (line for line in UNIT.read_text().splitlines() if "=" in line)
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_systemd_understands_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    text = UNIT.read_text().replace("/opt/agent/.venv/bin/dromos", sys.executable)
    (tmp_path / "agent.service").write_text(text)
    done = subprocess.run(
        [analyze, "verify", str(tmp_path / "agent.service")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)


def test_the_unit_leaves_time_to_drain_and_is_held_down_by_what_a_person_must_mend():
    unit = settings()

    assert float(unit["TimeoutStopSec"]) > float(ServiceSettings().drain_timeout)
    assert "78" == unit["RestartPreventExitStatus"]
    assert "notify" == unit["Type"]


def test_kubernetes_probes_what_we_serve_and_leaves_time_to_drain(tmp_path, manifests):
    config_map, deployment = manifests
    (tmp_path / "dromos.toml").write_text(config_map["data"]["dromos.toml"])
    config = Config.from_toml(tmp_path / "dromos.toml", environ={})
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert "0.0.0.0" == config.service.health_host
    assert [config.service.health_port] == [port["containerPort"] for port in container["ports"]]
    assert "/livez" == container["livenessProbe"]["httpGet"]["path"]
    assert "/readyz" == container["readinessProbe"]["httpGet"]["path"]
    assert pod["terminationGracePeriodSeconds"] > float(config.service.drain_timeout)
    assert pod["enableServiceLinks"] is False


def test_kubectl_can_read_the_manifests():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    manifest = DEPLOY / "kubernetes" / "agent.yaml"
    done = subprocess.run(
        [kubectl, "label", "--local", "--dry-run=client", "-o", "json", "-f", manifest, "a=b"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert '"kind": "Deployment"' in done.stdout
