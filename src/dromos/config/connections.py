"""The connections that a configuration names, each of them tried out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from dromos._driver.endpoint import check_url
from dromos.bridge import Bridge
from dromos.config.reading import Document, Place, Written, options_of, refused
from dromos.config.settings import ConnectionSettings
from dromos.config.table import CONNECTION, PER_CONNECTION, Option

__all__ = ["connections", "try_out"]

_OURS: Final = tuple(CONNECTION.kinds)

_ENTRY: Final = replace(CONNECTION, kinds={**CONNECTION.kinds, **PER_CONNECTION})
"""What a connection may have in a file: its own, and options in place of the bridge's."""


def connections(
    document: Document,
    variables: Sequence[tuple[Option, Written]],
    bridge_options: Mapping[str, Any],
) -> tuple[ConnectionSettings, ...]:
    """Return the one connection of the variables, or else those of the file.

    Raises:
        ConfigError: If one is incomplete, or would be refused; it names where that is written.
    """
    single = {option.name: one for option, one in variables if option.section is CONNECTION}
    if single:
        place = next(iter(single.values())).place
        return (_made(single, place, bridge_options),)
    tables = document.tables.get("connections", [])
    if not isinstance(tables, list):
        wrong = document.place("connections")
        raise wrong.error("connections must be tables: [[connections]]", key="connections")
    made: list[ConnectionSettings] = []
    for nth, table in enumerate(cast("list[object]", tables)):
        found = options_of(document, _ENTRY, table, nth=nth)
        written = {option.name: one for option, one in found}
        place = document.place("connections", nth=nth)
        one = _made(written, place, bridge_options)
        _refuse_twice(one, made, place)
        made.append(one)
    return tuple(made)


def try_out(options: Mapping[str, Any]) -> None:
    """Give options to a bridge that nobody runs.

    Raises:
        TypeError: If one has the wrong type; the message names it.
        ValueError: If one has a value that can't work; the message names it.
    """
    Bridge(_NO_TOKENS, **options)


def _made(
    written: Mapping[str, Written], place: Place, bridge_options: Mapping[str, Any]
) -> ConnectionSettings:
    missing = [name for name in ("id", "url") if name not in written]
    if missing:
        lacks = " and ".join(missing)
        raise place.error(f"a connection lacks its {lacks}", key="connections")
    values = {name: one.value for name, one in written.items()}
    own = {name: values.pop(name) for name in _OURS if name in values}
    together = {**bridge_options, **values}
    try:
        try_out(together)
        check_url(own["url"], allow_insecure=bool(together.get("allow_insecure_transport")))
    except (ValueError, TypeError) as error:
        problem = str(error).replace("endpoint_url", "url")
        raise refused(problem, "connections", written, place) from None
    return ConnectionSettings(**own, options=values)


def _refuse_twice(one: ConnectionSettings, others: Sequence[ConnectionSettings], at: Place) -> None:
    """Refuse to keep the same session twice; far sides often allow one link for each token.

    One id with several URLs is not refused: its sessions share a token, and one refreshes it.

    Raises:
        ConfigError: If another one has this id and this URL.
    """
    if any((each.id, each.url) == (one.id, one.url) for each in others):
        said = (
            f"connection {one.id} is here a second time, with the same url; leave one of them out"
        )
        raise at.error(said, key="connections")


class _NoTokens:
    """Stands for the source of tokens while options are tried out."""

    async def get_token(self, connection_id: str, /) -> Any:
        raise AssertionError("nobody runs a bridge that options are tried out on")


_NO_TOKENS: Final = _NoTokens()
