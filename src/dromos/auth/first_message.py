"""Credentials in the first message that is sent on the open link."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from dromos.auth._template import pieces
from dromos.auth._values import credential
from dromos.errors import PermanentError
from dromos.model import Handshake, Token

__all__ = ["first_message"]

_DEFAULT: Final = {"type": "auth", "access_token": "{access_token}"}
_QUOTE: Final = re.compile(r"""\\.|(")""", re.DOTALL)
_SETTING: Final = "config 'template'"


def first_message(handshake: Handshake, token: Token, now: float) -> Handshake:
    """Present credentials in a text message, sent before any other.

    Setting: `template` (default `{"type": "auth", "access_token": "{access_token}"}`),
    a JSON object or list, as such or as text, in whose strings `{field}` stands
    for a credential, and `{{` and `}}` for braces.  It is sent as JSON; what a
    credential holds can't get out of its string.

    Any other text is sent as it is, with credentials in place of `{field}`;
    between double quotes they are escaped as in JSON, so that
    `40{{"token":"{access_token}"}}` is as safe.  With braces of its own, a text
    can have fields between double quotes only.

    Raises:
        PermanentError: If a credential is missing or empty, or the template can't be read.
    """
    return handshake.with_first_message(_written(token))


def _written(token: Token) -> str:
    given: object = token.strategy.config.get("template")
    structure = _structure(given)
    if structure is None and isinstance(given, str) and given:
        return _text(token, given)
    try:
        return json.dumps(_filled(token, structure or _DEFAULT), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        pass
    raise PermanentError(f"{_SETTING} can't be written as JSON")


def _structure(given: object) -> object:
    """Return the JSON object or list that a template is, as such or as text; else None."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    return cast("object", given) if isinstance(given, Mapping | list | tuple) else None


def _filled(token: Token, value: object) -> object:
    """Return a JSON value with the credentials in its strings."""
    if isinstance(value, str):
        parts = pieces(value, setting=_SETTING)
        return "".join(text + (credential(token, field) if field else "") for text, field in parts)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, object]", value).items()
        return {key: _filled(token, one) for key, one in pairs}
    if isinstance(value, list | tuple):
        return [_filled(token, one) for one in cast("Iterable[object]", value)]
    return value


def _text(token: Token, template: str) -> str:
    """Return a text that is no JSON as a whole, with the credentials in it."""
    parts = pieces(template, setting=_SETTING)
    has_braces = any("{" in text or "}" in text for text, _ in parts)
    made = ""
    is_quoted = False
    for text, field in parts:
        made += text
        quotes = sum(1 for found in _QUOTE.finditer(text) if found[1])
        is_quoted ^= quotes % 2 == 1
        if field is None:
            continue
        if has_braces and not is_quoted:
            raise PermanentError(f"{_SETTING} has a field outside of double quotes, beside braces")
        if (len(text) - len(text.rstrip("\\"))) % 2:
            raise PermanentError(f"{_SETTING} has a field after a backslash")
        value = credential(token, field)
        made += json.dumps(value)[1:-1] if is_quoted else value
    return made
