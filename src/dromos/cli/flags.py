"""Flags and arguments: what the command line says, in the library's words and back."""

import click

__all__ = ["a_header", "in_words_of_the_command"]


def in_words_of_the_command(message: str) -> str:
    """Say flags where the library says arguments."""
    for argument, flag in (
        ("endpoint_url", "URL"),
        ("allow_insecure_transport=True", "--insecure"),
        ("connection_id", "--connection-id"),
        ("token_url", "--token-url"),
        ("issuer", "--issuer"),
        ("base_url", "--gateway"),
    ):
        message = message.replace(argument, flag)
    return message


def a_header(text: str) -> tuple[str, str]:
    """Return a header that was written as `NAME: VALUE`.

    Raises:
        click.UsageError: If it was not; the message shows the name only.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError("a header is NAME: VALUE")
    return name.strip(), value.strip()
