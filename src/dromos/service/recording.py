"""Adds what happens to a file, event by event, with a sample of the sessions each second."""

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

from dromos.config.errors import ConfigError
from dromos.events import BridgeEvent
from dromos.snapshot import Snapshot
from dromos.telemetry.json_lines import as_line, as_record, sample

__all__ = ["Recording", "check_record"]

EVERY: Final = 1.0
"""Seconds between two samples, from which a timeline draws messages a second."""

_log: Final = logging.getLogger("dromos")


class Recording:
    """A file of JSON lines, which `dromos timeline` draws.

    It is added to, so that what a restart follows is not lost.  A disk that is full ends the
    recording with one warning, and nothing else.
    """

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            ConfigError: If it can't be written to.
        """
        try:
            self._out = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise _refused(path, error.strerror) from None
        self._is_over = False
        if _is_torn(path):
            with contextlib.suppress(OSError):  # the first event tells it
                self._out.write("\n")  # or its end and our first event would be one line

    def on_event(self, event: BridgeEvent) -> None:
        """Write an event: what `Bridge(on_event=...)` takes."""
        self._write([as_record(event)])

    async def sample_on(self, snapshots: Callable[[], Iterable[Snapshot]]) -> NoReturn:
        """Write, again and again, how many messages each session has received and sent.

        Args:
            snapshots: Returns the sessions as they are, such as `Bridge.snapshots`.
        """
        while True:
            self._write(sample(snapshots(), at=time.time()))
            await asyncio.sleep(EVERY)

    def close(self) -> None:
        """Write no more."""
        try:
            self._out.close()
        except OSError as error:
            self._give_up(error)
        self._is_over = True

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        if self._is_over:
            return
        try:
            self._out.writelines(as_line(record) + "\n" for record in records)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        # What could not be written is still in the buffer, and fails once more when it is closed.
        if not self._is_over:
            self._is_over = True
            _log.warning("the recording ends here, it can't be written to: %s", error.strerror)


def check_record(path: str) -> None:
    """Say whether a recording could be written there, and touch nothing.

    Raises:
        ConfigError: If it could not.
    """
    file = Path(path)
    there = file if file.exists() else file.parent
    if file.is_dir():
        raise _refused(path, os.strerror(errno.EISDIR))
    if there is not file and not there.is_dir():
        raise _refused(path, os.strerror(errno.ENOENT))
    if not os.access(there, os.W_OK):
        raise _refused(path, os.strerror(errno.EACCES))


def _refused(path: str, why: str | None) -> ConfigError:
    return ConfigError(f"record {path!r} can't be written to: {why}")


def _is_torn(path: str) -> bool:
    """Whether a file ends within a line, as a full disk or a machine that crashed leaves it."""
    try:
        # Of a pipe nothing can be read again.
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # whoever may write it need not be allowed to read it
