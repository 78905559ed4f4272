"""The error for a configuration that can't work."""

from dromos.errors import BridgeError

__all__ = ["ConfigError"]


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
