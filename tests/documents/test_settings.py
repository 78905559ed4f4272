"""Configurations, manifests and units in the pages, as those read them who have to."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click import UsageError

from dromos.config import Config
from dromos.config.table import SECTIONS
from dromos.dialers._choice import SWITCH
from tests.documents.pages import DOCS, PAGES, Block, Page
from tests.documents.test_other_blocks import blocks, parse

DEPLOY = DOCS.parent / "deploy"
HOOK = DOCS.parent / "hatch_build.py"
VARIABLES = {option.variable("DROMOS_") for section in SECTIONS for option in section.options()}
VARIABLES |= {"DROMOS_CONNECTION_ID", "DROMOS_CONNECTION_URL", "DROMOS_CONNECTION_HANDLER"}
VARIABLES |= {SWITCH, *re.findall(r"\bDROMOS_[A-Z]+\b", HOOK.read_text())}


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


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_variable_that_a_page_names_exists(page: Page):
    named = set(re.findall(r"\bDROMOS_[A-Z_]+\b", page.text))

    assert named <= VARIABLES


# ---------------------------------------------------------------- Kubernetes, systemd


def test_variables_in_a_manifest_are_taken(yaml: Any):
    volume, variables = Page("howto/kubernetes.md").blocks("yaml")
    said = {each["name"]: each["value"] for each in yaml.safe_load(variables.text)["env"]}
    config = Config.from_env(environ=said)

    assert (8080, "0.0.0.0") == (config.service.health_port, config.service.health_host)
    assert "your-connection-id" == config.connections[0].id
    (identity,) = yaml.safe_load(volume.text)["volumes"]
    assert "serviceAccountToken" in identity["projected"]["sources"][0]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_all_yaml_is_yaml(block: Block, yaml: Any):
    assert all(yaml.safe_load_all(block.text))


def test_a_credential_of_systemd_is_where_the_variable_says(tmp_path: Path):
    (drop_in,) = Page("howto/systemd.md").blocks("ini")
    (toml,) = Page("howto/systemd.md").blocks("toml")
    heading, *lines = drop_in.text.splitlines()
    said = dict(line.split("=", 1) for line in lines)
    variable, value = said["Environment"].split("=", 1)
    config = read(toml.text, tmp_path, **{variable: value})

    assert "[Service]" == heading
    assert f"%d/{said['LoadCredential'].partition(':')[0]}" == config.tokens.client_secret_file


def test_what_is_included_starts_what_there_is(yaml: Any, tmp_path: Path):
    unit = (DEPLOY / "systemd" / "agent.service").read_text()
    _, deployment = yaml.safe_load_all((DEPLOY / "kubernetes" / "agent.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    parse_run(container["args"], tmp_path)
    parse_run(shlex.split(re.findall(r"^ExecStart=(.*)$", unit, re.M)[0]), tmp_path)


def parse_run(command: list[str], folder: Path) -> None:
    """Check a `dromos run` of another machine, with a file here in place of that one's."""
    path, *arguments = command
    assert "dromos" == Path(path).name
    (folder / "dromos.toml").touch()
    parse([str(folder / "dromos.toml") if word.endswith(".toml") else word for word in arguments])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_includes_or_links_to_is_there(page: Page):
    folder = (DOCS / page.path).parent
    included = re.findall(r"```\{literalinclude\} (\S+)", page.text)
    linked = re.findall(r"\]\((?!\w+:)([^)#]+)", page.text)

    assert all((folder / file).exists() for file in included + linked)


def test_the_page_of_exit_codes_has_those_that_there_are():
    from dromos.service import outcome

    text = Page("reference/exit-codes.md").text
    rows = re.findall(r"^\| ([\d, ]+) \|", text, re.M)
    listed = {int(code) for row in rows for code in row.split(",")}

    ours = {value for value in vars(outcome).values() if isinstance(value, int)}
    assert ours <= listed
    assert {UsageError.exit_code, 130, 143} == listed - ours
