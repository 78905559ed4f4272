"""Texts with credentials to be filled in, written `{field}`."""

from string import Formatter

from dromos.errors import PermanentError

__all__ = ["pieces"]


def pieces(template: str, *, setting: str) -> list[tuple[str, str | None]]:
    """Return a template as texts, each with the credential's field that follows it, or None.

    `{{` and `}}` are literal braces, as in `str.format`; a field is a plain name.

    Args:
        template: The text.
        setting: Where it is from, for messages.

    Raises:
        PermanentError: If a brace encloses no field.
    """
    try:
        parsed = list(Formatter().parse(template))
    except ValueError:
        parsed = [("", "", "", "")]
    # A format specification or conversion would be a second language, for nothing.
    if any(field is not None and (not field or more or how) for _, field, more, how in parsed):
        raise PermanentError(
            f"{setting} holds a brace that encloses no credential field; a literal one is doubled"
        )
    return [(text, field) for text, field, _, _ in parsed]
