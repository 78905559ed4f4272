"""Configurations, manifests and units in the pages, as those read them who have to."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dromos.config import Config
from dromos.config.table import SECTIONS
from dromos.service.outcome import CONFIGURATION
from tests.documents.pages import PAGES, Block, Page
from tests.documents.test_other_blocks import blocks, parse

KUBERNETES, SYSTEMD = Page("howto/kubernetes.md"), Page("howto/systemd.md")
VARIABLES = {option.variable("DROMOS_") for section in SECTIONS for option in section.options()}
VARIABLES |= {"DROMOS_CONNECTION_ID", "DROMOS_CONNECTION_URL", "DROMOS_CONNECTION_HANDLER"}


def read(toml: str, folder: Path, **variables: str) -> Config:
    file = folder / "dromos.toml"
    file.write_text(toml)
    return Config.from_toml(file, environ=variables)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_configuration_is_read(block: Block, tmp_path: Path):
    assert read(block.text, tmp_path) != Config()


def test_a_configuration_with_a_slip_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="health_prot"):
        read("[service]\nhealth_prot = 8080\n", tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_variable_that_a_page_names_exists(page: Page):
    named = set(re.findall(r"\bDROMOS_[A-Z_]+\b", page.text))

    assert named <= VARIABLES


# ---------------------------------------------------------------- Kubernetes


def test_the_manifest_is_consistent_with_what_is_served(yaml: Any, tmp_path: Path):
    manifest, *_ = KUBERNETES.blocks("yaml")
    settings, deployment = yaml.safe_load_all(manifest.text)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = read(settings["data"]["dromos.toml"], tmp_path)

    (mount,) = container["volumeMounts"]
    assert f"{mount['mountPath']}/dromos.toml" == container["command"][-1]
    parse_run(container["command"], tmp_path)
    assert [config.service.health_port] == [port["containerPort"] for port in container["ports"]]
    assert "127.0.0.1" != config.service.health_host
    probes = {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert {"/livez", "/readyz"} == probes
    assert float(config.service.drain_timeout) < pod["terminationGracePeriodSeconds"]


def test_the_other_yaml_is_read_and_its_variables_are_taken(yaml: Any, tmp_path: Path):
    _, volume, variables = KUBERNETES.blocks("yaml")
    said = {each["name"]: each["value"] for each in yaml.safe_load(variables.text)["env"]}
    config = Config.from_env(environ=said)

    assert (8080, "0.0.0.0") == (config.service.health_port, config.service.health_host)
    assert "your-connection-id" == config.connections[0].id
    (identity,) = yaml.safe_load(volume.text)["volumes"]
    assert "serviceAccountToken" in identity["projected"]["sources"][0]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_all_yaml_is_yaml(block: Block, yaml: Any):
    assert all(yaml.safe_load_all(block.text))


# ---------------------------------------------------------------- systemd


def unit() -> dict[str, dict[str, list[str]]]:
    """The unit, by section and setting; a setting may be said twice."""
    (block,) = SYSTEMD.blocks("ini")
    said: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in filter(None, block.text.splitlines()):
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = said.setdefault(heading[1], {})
        else:
            name, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(name, []).append(value)
    return said


def test_the_unit_starts_what_there_is_and_leaves_it_down_where_that_is_right(tmp_path: Path):
    service = unit()["Service"]
    (start,) = service["ExecStart"]
    (toml,) = SYSTEMD.blocks("toml")
    said = dict(line.split("=", 1) for line in service["Environment"])
    config = read(toml.text, tmp_path, **said)

    parse_run(shlex.split(start), tmp_path)
    assert 8080 == config.service.health_port
    assert "%d/secret" == config.tokens.client_secret_file
    assert [str(CONFIGURATION)] == service["RestartPreventExitStatus"]
    assert float(config.service.drain_timeout) < float(service["TimeoutStopSec"][0])
    assert ["notify"] == service["Type"]


def parse_run(command: list[str], folder: Path) -> None:
    """Check a `dromos run` of another machine, with its file in place of that one's."""
    path, *arguments = command
    assert "dromos" == Path(path).name
    parse([str(folder / "dromos.toml") if word.endswith(".toml") else word for word in arguments])


def test_the_page_of_exit_codes_has_those_that_there_are():
    from dromos.service import outcome

    text = Page("reference/exit-codes.md").text
    listed = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.M) for code in row.split(",")
    }

    ours = {value for value in vars(outcome).values() if isinstance(value, int)}
    assert ours <= listed
    assert {130, 143} == listed - ours
