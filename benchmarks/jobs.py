"""What is measured: which work, with messages of which size, and how many of them."""

from dataclasses import dataclass
from typing import Final

__all__ = ["JOBS", "Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of work, for all clients alike.

    Attributes:
        name: For tables and for choosing it.
        work: `receive`, `send` or `echo`.
        size: Bytes of a message, which is a text.
        count: How many messages, or round trips, make one measurement.
        tls: Whether the link is encrypted.
    """

    name: str
    work: str
    size: int
    count: int
    tls: bool = False

    @property
    def path(self) -> str:
        """What to ask the server for."""
        return {"receive": f"/source/{self.size}", "send": "/sink", "echo": "/echo"}[self.work]

    def encrypted(self) -> "Job":
        """The same over TLS."""
        return Job(
            name=f"{self.name}, TLS", work=self.work, size=self.size, count=self.count, tls=True
        )


_PLAIN: Final = (
    Job(name="receive 256 B", work="receive", size=256, count=100_000),
    Job(name="receive 16 KiB", work="receive", size=16 * 1024, count=10_000),
    Job(name="receive 1 MiB", work="receive", size=1024 * 1024, count=150),
    Job(name="send 256 B", work="send", size=256, count=40_000),
    Job(name="send 16 KiB", work="send", size=16 * 1024, count=4_000),
    Job(name="echo 256 B", work="echo", size=256, count=4_000),
)

JOBS: Final = {job.name: job for job in (*_PLAIN, *(job.encrypted() for job in _PLAIN))}
"""All of them, by name."""
