"""Examines a connection: `dromos doctor`."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from dromos._driver.endpoint import check_url
from dromos.cli.flags import NumberRange, a_header
from dromos.cli.sources import Tokens, misuse_if, source, token_options
from dromos.cli.told import CLEAN, CONFIGURATION, FAILED, told
from dromos.demo.words import escape
from dromos.doctor.examine import STEPS, examine
from dromos.doctor.finding import Finding, Report
from dromos.doctor.subject import Subject

__all__ = ["doctor"]

COLUMN: Final = max(map(len, STEPS))
SIGNS: Final = {"pass": ("ok", "green"), "warn": ("WARN", "yellow"), "fail": ("FAIL", "red")}


@click.command()
@click.argument("url")
@token_options
@click.option("--header", "-H", multiple=True, metavar="'NAME: VALUE'", help="Send a header.")
@click.option("--subprotocol", multiple=True, metavar="NAME", help="Offer a subprotocol.")
@click.option("--proxy", metavar="URL", help="Go through this proxy.")
@click.option("--ca", metavar="FILE", help="Trust the authorities in this file, and no others.")
@click.option(
    "--timeout",
    type=NumberRange(1, 600),
    default=30,
    show_default=True,
    help="Seconds for everything.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    url: str,
    header: Sequence[str],
    subprotocol: Sequence[str],
    proxy: str | None,
    ca: str | None,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Examine the way to the far side at URL, step by step, and say what to do.

    Name, TCP, proxy, TLS, token, handshake, ping, close: each passes, warns, or says why not.
    The parts are those that a bridge uses, so what fails here would fail there.  The token is
    not shown.  At a gateway none is refreshed.  Without any option about tokens, what needs
    one is skipped.

    Exit status: 0 nothing failed, 1 something did, 2 wrong usage, 78 what trying again can't
    mend.
    """
    tokens = Tokens.of(options)
    with told():
        report = asyncio.run(
            _examined(
                lambda: _subject(url, tokens, header, subprotocol, proxy, ca),
                within=timeout,
                tell=(lambda finding: None) if as_json else _print,
            )
        )
    if as_json:
        click.echo(json.dumps(_as_json(report)))
    sys.exit(CLEAN if report.healthy else CONFIGURATION if report.hopeless else FAILED)


async def _examined(
    make: Callable[[], Subject], *, within: float, tell: Callable[[Finding], None]
) -> Report:
    with misuse_if(True):
        subject = make()
        subject.dialer()
    try:
        return await examine(subject, within=within, tell=tell)
    finally:
        close = getattr(subject.source, "aclose", None)
        if close is not None:
            await close()


def _subject(
    url: str,
    tokens: Tokens,
    header: Sequence[str],
    subprotocol: Sequence[str],
    proxy: str | None,
    ca: str | None,
) -> Subject:
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(f"--ca {ca} can't be used: {error.strerror or error}") from error
    return Subject(
        url=check_url(url, allow_insecure=tokens.insecure),
        source=None if tokens.is_silent else source(tokens),
        connection_id=tokens.connection_id or "dromos",
        headers=[a_header(text) for text in header],
        subprotocols=subprotocol,
        proxy=proxy,
        context=context,
        environment=os.environ,
    )


def _print(finding: Finding) -> None:
    """Write a finding as a line, and what to do as another below it."""
    sign, colour = SIGNS.get(finding.outcome, ("-", ""))
    took = "" if finding.took is None else f"  ({finding.took * 1000:.0f} ms)"
    mark = click.style(f"{sign:<4}", fg=colour or None, bold=finding.outcome == "fail")
    said = "skipped: " * (finding.outcome == "skip") + escape(finding.said)
    click.echo(f"{mark}  {finding.step:<{COLUMN}}  {said}{took}")
    if finding.advice:
        click.echo(f"      {'':<{COLUMN}}  -> {escape(finding.advice)}")


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "target": report.target,
        "healthy": report.healthy,
        "hopeless": report.hopeless,
        "steps": [
            {
                "step": finding.step,
                "outcome": finding.outcome,
                "said": finding.said,
                "advice": finding.advice or None,
                "took": None if finding.took is None else round(finding.took, 6),
                "facts": dict(finding.facts),
            }
            for finding in report.findings
        ],
    }
