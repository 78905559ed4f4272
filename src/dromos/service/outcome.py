"""How a service has ended, as an exit status."""

from collections.abc import Iterator
from typing import Final

from dromos._outlook import may_heal
from dromos.config.errors import ConfigError
from dromos.errors import (
    Closed,
    ConnectionClosed,
    HandshakeError,
    NotConnected,
    PermanentError,
    TokenError,
)

__all__ = ["CLEAN", "CONFIGURATION", "FAILED", "is_refusal", "is_told", "leaves", "status_of"]

CLEAN: Final = 0
FAILED: Final = 1
CONFIGURATION: Final = 78
"""`EX_CONFIG` of sysexits.h: for systemd's `RestartPreventExitStatus=`, since starting again
would not help."""


def status_of(error: BaseException) -> int:
    """Return the status for what has ended a service.

    78 is for what a configuration or a person must mend.  A failure that heals by itself is
    1, although a session may not have waited for that: a service manager does.
    """
    causes = list(leaves(error))
    return CONFIGURATION if all(_is_final(cause) for cause in causes) else FAILED


def is_refusal(error: BaseException) -> bool:
    """Whether a program only fell over nothing being taken or begun any more while we drain."""
    return all(isinstance(each, NotConnected | Closed) for each in leaves(error))


def is_told(error: BaseException) -> bool:
    """Whether a line says it all: what comes from outside is no fault of the program's code."""
    return all(_is_from_outside(each) for each in leaves(error))


def _is_from_outside(error: BaseException) -> bool:
    if isinstance(error, PermanentError) and error.__cause__ is not None:
        return _is_from_outside(error.__cause__)
    return isinstance(error, PermanentError | TokenError | HandshakeError | ConnectionClosed)


def _is_final(error: BaseException) -> bool:
    if isinstance(error, PermanentError):
        return not may_heal(error)
    return isinstance(error, ConfigError)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, or the one that is no group."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
            yield from leaves(inner)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error
