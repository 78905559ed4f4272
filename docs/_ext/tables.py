"""Tables of the reference, as Markdown lines, read from the code: they can't drift from it."""

import ast
import dataclasses
import inspect
import itertools
import logging
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import dromos
from dromos import errors, events
from dromos._core import verdict
from dromos.cli.commands import cli
from dromos.cli.config import of_verdicts
from dromos.config.config import PREFIX
from dromos.config.table import CONNECTION, SECTIONS, Option
from dromos.model import Verdict
from dromos.telemetry.logs import NAMES, level_of
from dromos.telemetry.prometheus import METRICS

__all__ = ["TABLES"]

KINDS = {
    "spec": "the specification",
    "design": "our decision",
    "iana": "[IANA's registry](https://www.iana.org/assignments/websocket/websocket.xml)",
    "peers": "what other clients and their users found",
    "gateway": "how the gateway behaves",
    "openid core": "OpenID Connect Core",
}
"""What the marks in the comments of `_core/verdict.py` stand for."""

WORDS = {
    Verdict.TRANSIENT: "transient",
    Verdict.LIMITED: "limited",
    Verdict.AUTHENTICATION: "authentication",
    Verdict.BOUNDED: "bounded",
    Verdict.INTERACTION: "interaction",
    Verdict.PERMANENT: "permanent",
}


def verdict_table(name: str, *, meaning: Callable[[Any], str] = lambda _: "") -> list[str]:
    """The rows of a mapping in `_core/verdict.py`, each with the comment beside it.

    Raises:
        ValueError: If a row has no source, or a mark that nobody explains.
    """
    mapping: Mapping[Any, Verdict] = getattr(verdict, name)
    comments = _comments(Path(verdict.__file__).read_text(), name)
    if list(comments) != list(mapping):
        raise ValueError(f"{name}: the rows in the source are not those of the mapping")
    rows: list[list[str]] = []
    for key, value in mapping.items():
        source, reason = _source(comments[key])
        what = " ".join(part for part in (meaning(key), reason) if part)
        rows.append([f"`{key}`", WORDS[value], what, source])
    return _table(["Answer", "Verdict", "Why", "Source"], rows)


def close_codes() -> list[str]:
    """The verdicts on close codes."""
    return verdict_table("CLOSE_CODES")


def upgrade_statuses() -> list[str]:
    """The verdicts on HTTP statuses of the upgrade."""
    return verdict_table("UPGRADE_STATUSES", meaning=_phrase)


def gateway_statuses() -> list[str]:
    """The verdicts on the gateway's statuses."""
    return verdict_table("GATEWAY_STATUSES", meaning=_phrase)


def grant_statuses() -> list[str]:
    """The verdicts on statuses of other token endpoints."""
    return verdict_table("GRANT_STATUSES", meaning=_phrase)


def grant_codes() -> list[str]:
    """The verdicts on OAuth error codes."""
    return verdict_table("GRANT_CODES")


def verdicts() -> list[str]:
    """What each verdict means."""
    meanings = _attribute_docs(Path(inspect.getfile(Verdict)).read_text(), "Verdict")
    rows = [
        [WORDS[one], f"`Verdict.{one.name}`", f"`{one.value}`", meanings[one.name]]
        for one in Verdict
    ]
    return _table(["Verdict", "In `verdicts=`", "Letter", "Means"], rows)


def all_events() -> list[str]:
    """Every event, with its name in logs and its facts."""
    lines: list[str] = []
    for name in sorted(events.__all__):
        kind = getattr(events, name)
        if kind is events.BridgeEvent:
            continue
        named = f"In logs: `{NAMES[kind]}`, {' or '.join(_levels(kind))}."
        lines += [f"## {name}", "", named, "", *_prose(kind), ""]
        facts = _facts(kind)
        if facts:
            lines += [*_table(["Field", "Type", "Means"], facts), ""]
    return lines


def _levels(kind: type[events.BridgeEvent]) -> list[str]:
    """The levels at which an event may be logged: with and without what it need not have."""
    hints = get_type_hints(kind)
    values: dict[str, list[Any]] = {
        field.name: [RuntimeError("why") if field.name == "error" else 1]
        for field in dataclasses.fields(kind)
    }
    for name, possible in values.items():
        if type(None) in get_args(hints[name]):
            possible.append(None)
    examples = [
        kind(**dict(zip(values, each, strict=True))) for each in itertools.product(*values.values())
    ]
    return [logging.getLevelName(level) for level in sorted({level_of(each) for each in examples})]


def common_facts() -> list[str]:
    """What all events have."""
    return _table(["Field", "Type", "Means"], _facts(events.BridgeEvent, own=False))


def all_errors() -> list[str]:
    """Every error, with its attributes."""
    lines: list[str] = []
    for name in sorted(errors.__all__, key=_depth_first):
        kind = getattr(errors, name)
        parents = [base.__name__ for base in kind.__mro__[1:] if base.__name__ in errors.__all__]
        lines += [f"## {name}", ""]
        lines += [f"A `{parents[0]}`.", ""] if parents else []
        lines += [*_prose(kind), ""]
        if _section(kind, "Attributes"):
            lines += [*_attributes(kind, "Attribute"), ""]
    return lines


def bridge_options() -> list[str]:
    """The options of `Bridge`, with their defaults."""
    means = dict(_section(dromos.Bridge.__init__, "Args"))
    signature = inspect.signature(dromos.Bridge.__init__)
    rows = []
    for name, parameter in signature.parameters.items():
        if name == "self":
            continue
        default = "" if parameter.default is parameter.empty else _default(parameter.default)
        rows.append([f"`{name}`", default, means[name]])
    return _table(["Option", "Default", "Is"], rows)


def retry_options() -> list[str]:
    """The fields of `RetryPolicy`."""
    return _fields(dromos.RetryPolicy)


def outbox_options() -> list[str]:
    """The fields of `Outbox`."""
    return _fields(dromos.Outbox)


def snapshot_facts() -> list[str]:
    """The fields of `Snapshot`."""
    return _attributes(dromos.Snapshot, "Field")


def counters() -> list[str]:
    """The fields of `Counters`."""
    return _attributes(dromos.Counters, "Counter")


def config_options() -> list[str]:
    """The options of a configuration, table by table, each with its variable."""
    lines: list[str] = []
    head = ["Option and variable", "Default", "Means"]
    for section in (*SECTIONS, CONNECTION):
        title = f"[[{section.name}]]" if section is CONNECTION else f"[{section.name}]"
        rows = [_config_row(option) for option in section.options()]
        lines += [f"## `{title}`", "", *_table(head, rows), ""]
    told = of_verdicts()
    row = [f"`{told['name']}`", "", f"{told['text']} *Form: {told['form']}.*"]
    return [*lines, f"## `[{told['section']}]`", "", *_table(head, [row]), ""]


def _config_row(option: Option) -> list[str]:
    variable = option.variable(PREFIX)
    name = f"`{option.name}`<br>`{variable}`" if variable else f"`{option.name}`"
    default = "" if option.is_required else _default(option.default)
    return [name, default, f"{option.text} *Form: {option.kind.form}.*"]


def metrics() -> list[str]:
    """Every metric, with its labels."""
    rows = []
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        by = f", by {labels}" if labels else ""
        rows.append([f"`{metric.name}`<br>{metric.kind}{by}", metric.meaning])
    return _table(["Metric", "Tells"], rows)


def otel_metrics() -> list[str]:
    """The same in OpenTelemetry."""
    rows = [[f"`{metric.name}`", f"`{metric.otel}`", f"`{metric.unit}`"] for metric in METRICS]
    return _table(["In Prometheus", "In OpenTelemetry", "Unit"], rows)


def commands() -> list[str]:
    """Every command with its options, as `--help` has them."""
    lines: list[str] = []
    for name, command in sorted(cli.commands.items()):
        lines += [f"## dromos {name}", "", *_help(command), ""]
        rows = [
            _command_row(option) for option in command.params if isinstance(option, click.Option)
        ]
        lines += [*_table(["Option", "Means"], rows), ""]
    return lines


def exit_statuses() -> list[str]:
    """What each command ends with, from its `--help`."""
    rows: list[list[str]] = []
    for name, command in sorted(cli.commands.items()):
        said = re.search(r"Exit status: (.*?)\.\s*(?:\n\n|\Z)", command.help or "", re.DOTALL)
        if said is None:
            raise ValueError(f"dromos {name} does not say what it ends with")
        rows.append([f"`dromos {name}`", said[1]])
    return _table(["Command", "Ends with"], rows)


def _help(command: click.Command) -> list[str]:
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    paragraphs = (command.help or "").split("\n\n")
    text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
    return ["```text", f"dromos {command.name} {usage}", "```", "", text.replace("<", "\\<")]


def _command_row(option: click.Option) -> list[str]:
    names = ", ".join(f"`{name}`" for name in option.opts)
    metavar = "" if option.is_flag else option.make_metavar(click.Context(click.Command("")))
    shown = f" Default {option.default}." if option.show_default else ""
    return [f"{names} {metavar}".strip(), f"{option.help}{shown}"]


TABLES: dict[str, Callable[[], list[str]]] = {
    "close-codes": close_codes,
    "upgrade-statuses": upgrade_statuses,
    "gateway-statuses": gateway_statuses,
    "grant-statuses": grant_statuses,
    "grant-codes": grant_codes,
    "verdicts": verdicts,
    "events": all_events,
    "common-facts": common_facts,
    "errors": all_errors,
    "bridge-options": bridge_options,
    "retry-options": retry_options,
    "outbox-options": outbox_options,
    "config-options": config_options,
    "metrics": metrics,
    "otel-metrics": otel_metrics,
    "commands": commands,
    "exit-statuses": exit_statuses,
    "snapshot": snapshot_facts,
    "counters": counters,
}
"""What the directive `from-code` can be asked for."""


# ---------------------------------------------------------------- reading the source


def _comments(source: str, name: str) -> dict[Any, str]:
    """The comment beside each row of a mapping's literal."""
    table = next(
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name
    )
    literal = next(node for node in ast.walk(table) if isinstance(node, ast.Dict))
    on_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        ast.literal_eval(key): on_line.get(value.end_lineno or 0, "")
        for key, value in zip(literal.keys, literal.values, strict=True)
        if key is not None
    }


def _source(comment: str) -> tuple[str, str]:
    """A comment such as "[rfc 6455 7.4.1] going away", as its source and its reason."""
    found = re.match(r"\[([^\]]+)\]\s*(.*)", comment)
    if found is None:
        raise ValueError(f"a verdict without a source: {comment!r}")
    mark, reason = found.groups()
    rfc = re.fullmatch(r"rfc (\d+) ([\d.]+)", mark)
    if rfc:
        number, section = rfc.groups()
        url = f"https://www.rfc-editor.org/rfc/rfc{number}#section-{section}"
        return f"[RFC {number}, {section}]({url})", reason
    openid = re.fullmatch(r"openid core ([\d.]+)", mark)
    if openid:
        return f"OpenID Connect Core, {openid[1]}", reason
    if mark not in KINDS:
        raise ValueError(f"nobody says what the source [{mark}] is")
    return KINDS[mark], reason


def _attribute_docs(source: str, name: str) -> dict[str, str]:
    """The strings that follow the assignments in a class."""
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    docs: dict[str, str] = {}
    for assigned, text in itertools.pairwise(body):
        if isinstance(assigned, ast.Assign) and isinstance(text, ast.Expr):
            docs[ast.unparse(assigned.targets[0])] = ast.literal_eval(text.value)
    return docs


def _section(thing: Any, title: str) -> list[tuple[str, str]]:
    """The entries of a section in a docstring of Google's style."""
    text = inspect.getdoc(thing) or ""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    if found is None:
        return []
    entries: list[tuple[str, str]] = []
    for line in inspect.cleandoc(found[1]).splitlines():
        head = re.match(r"\*{0,2}(\w+): (.*)", line)
        if head and not line.startswith(" "):
            entries.append((head[1], head[2]))
        elif line.strip() and entries:
            name, before = entries[-1]
            entries[-1] = (name, f"{before} {line.strip()}")
    return entries


def _prose(thing: Any) -> list[str]:
    """A docstring without its sections."""
    text = inspect.getdoc(thing) or ""
    kept = re.sub(r"^(Attributes|Args|Raises):\n((?:[ ]+.*\n?|\n)+)", "", text, flags=re.MULTILINE)
    return re.sub(r"  +", " ", kept).strip().splitlines()


def _facts(kind: type, *, own: bool = True) -> list[list[str]]:
    """The fields of an event: name, type, and what its docstring says of it."""
    common = {field.name for field in dataclasses.fields(events.BridgeEvent)}
    means = dict(_section(kind, "Attributes"))
    return [
        [f"`{field.name}`", f"`{_type(field.type)}`", means.get(field.name, "")]
        for field in dataclasses.fields(kind)
        if not own or field.name not in common
    ]


def _attributes(kind: type, head: str) -> list[str]:
    rows = [[f"`{name}`", means] for name, means in _section(kind, "Attributes")]
    return _table([head, "Is"], rows)


def _fields(kind: type) -> list[str]:
    means = dict(_section(kind, "Attributes"))
    rows = [
        [f"`{field.name}`", _default(field.default), means[field.name]]
        for field in dataclasses.fields(kind)
    ]
    return _table(["Field", "Default", "Is"], rows)


def _depth_first(name: str) -> tuple[str, ...]:
    """Puts each error after its base, and both after their elder siblings."""
    kind = getattr(errors, name)
    line = [base.__name__ for base in reversed(kind.__mro__) if base.__name__ in errors.__all__]
    return tuple(line)


def _phrase(status: int) -> str:
    found = next((one.phrase for one in HTTPStatus if one == status), "")
    return f"{found}." if found else ""


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _default(value: object) -> str:
    if isinstance(value, str):
        return f'`"{value}"`'
    if value in ((), {}):
        return "none"
    if isinstance(value, float) and value.is_integer():
        return f"`{value:.0f}`"
    return f"`{value}`"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table, without its last column where nothing stands in it."""
    if rows and not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return list(_lines([head, ["---"] * len(head), *rows]))


def _lines(rows: list[list[str]]) -> Iterator[str]:
    for row in rows:
        cells = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
