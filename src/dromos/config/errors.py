"""The errors for a configuration that can't work, and for what it names."""

from dromos.errors import BridgeError

__all__ = ["ConfigError", "Raised"]


class ConfigError(BridgeError, ValueError):
    """A configuration can't work; trying again won't mend it.

    Attributes:
        problem: What is wrong, and what to do.
        source: The file or the variable that says so; None if it is neither.
        line: The line in the file, or None.
        key: The option, such as `"bridge.ping_interval"`, or None.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.source = source
        self.line = line
        self.key = key

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.source, self.line and f"line {self.line}") if part)
        return f"{where}: {self.problem}" if where else self.problem


class Raised(BridgeError):
    """What a configuration names raised, as it was imported or made; the `__cause__` is that.

    It is a program's fault and no configuration's, whatever the type of the cause.

    Attributes:
        name: What raised, such as `"module:name"`.
    """

    def __init__(self, name: str, error: Exception) -> None:
        kind, said = type(error).__name__, str(error)
        super().__init__(f"{name} raised {kind}: {said}" if said else f"{name} raised {kind}")
        self.name = name
