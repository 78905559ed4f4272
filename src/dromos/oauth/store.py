"""Where a rotating grant is kept: in memory, or in a file that several processes share."""

import asyncio
import contextlib
import errno
import inspect
import json
import logging
import os
import stat
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from dromos.errors import TokenError
from dromos.model import Seconds, seconds
from dromos.oauth._expiry import duration
from dromos.oauth._thread import OneThread
from dromos.redaction import Secret

__all__ = ["FileStore", "MemoryStore", "StoredGrant", "TokenStore"]

T = TypeVar("T")

_log: Final = logging.getLogger("dromos.oauth")

LARGEST_FILE: Final = 2**18
"""Bytes: a grant is a few kilobytes."""

_VERSION: Final = 1
_SHORTEST_POLL: Final = 0.005
_LONGEST_POLL: Final = 0.25
_IO_DEADLINE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrant:
    """What has to outlive a process so that a person need not consent again.

    Attributes:
        refresh_token: What buys the next tokens; None if a server has refused it.
        access_token: The newest one, so that processes can share it; None if there is none.
        expires_at: When that expires, as Unix time; None if it is not known.
        lifetime: Seconds that it was issued for; None if they are not known.
        scopes: What it allows; None if that is not known.
        dpop_key: The private key that both tokens are bound to, as a JWK; None if they
            are not bound.
        seed: A mark of the refresh token that the user gave in the first place, so
            that another one given later is noticed; None if none was given.
    """

    refresh_token: Secret | None
    access_token: Secret | None = None
    expires_at: float | None = None
    lifetime: float | None = None
    scopes: tuple[str, ...] | None = None
    dpop_key: Secret | None = None
    seed: str | None = None


class TokenStore(Protocol):
    """Keeps one grant.  Implement it for a database or a vault.

    What `save` has returned from must survive a crash: the refresh token before it
    is dead already.
    """

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Keep everybody else who shares this store from refreshing meanwhile."""
        ...

    async def load(self) -> StoredGrant | None:
        """Return what is kept; None if there is nothing."""
        ...

    async def save(self, grant: StoredGrant, /) -> None:
        """Keep this in place of what was kept, and return once it is safe."""
        ...


class MemoryStore:
    """Keeps a grant for as long as the process lives; shared by its loops and threads."""

    def __init__(self) -> None:
        self._grant: StoredGrant | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "MemoryStore()"

    @contextlib.asynccontextmanager
    async def lock(self) -> AsyncGenerator[None]:
        """Keep every other loop and thread of this process out."""
        await _polled(lambda: self._lock.acquire(blocking=False), limit=None, what=repr(self))
        try:
            yield
        finally:
            self._lock.release()

    async def load(self) -> StoredGrant | None:
        """Return what is kept; None if there is nothing."""
        return self._grant

    async def save(self, grant: StoredGrant, /) -> None:
        """Keep this."""
        self._grant = grant


class FileStore:
    """Keeps a grant in a file that only its owner may read, safe to share between processes.

    It is written beside, synced and renamed, so that a crash leaves the old grant
    or the new one.  A second file, `<path>.lock`, is locked while somebody refreshes.

    Args:
        path: Of the file; its directory must exist.
        lock_timeout: Seconds to wait for another process that refreshes. Default 120:
            longer than any refresh takes.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the directory does not exist, or `path` is one.
    """

    _path = Path("?")  # for a repr amid the constructor

    def __init__(self, path: str | os.PathLike[str], *, lock_timeout: Seconds = 120) -> None:
        if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
        # Where a link leads: renaming onto the link itself would cut it.
        self._path = Path(os.path.realpath(path))
        if not self._path.parent.is_dir():
            raise ValueError(f"path must be in a directory that exists, not {self._path.parent}")
        if self._path.is_dir():
            raise ValueError(f"path must be a file, not the directory {self._path}")
        self._timeout = seconds("lock_timeout", lock_timeout, above=0)
        self._thread = OneThread("dromos-token-store", deadline=_IO_DEADLINE)
        self._has_warned = False

    def __repr__(self) -> str:
        return f"FileStore({str(self._path)!r})"

    @contextlib.asynccontextmanager
    async def lock(self) -> AsyncGenerator[None]:
        """Keep every other process, loop and thread out that uses the same file.

        Raises:
            TokenError: If somebody holds the lock for too long, or it can't be taken.
        """
        hold = _Hold(f"{self._path}.lock")
        try:
            await _polled(
                lambda: self._call(hold.take, "locked"), limit=self._timeout, what=repr(self)
            )
            yield
        finally:
            hold.release()

    async def load(self) -> StoredGrant | None:
        """Return what is kept; None if there is nothing.

        Raises:
            TokenError: If the file can't be read, or holds something else.
        """
        return await self._call(self._load, "read")

    async def save(self, grant: StoredGrant, /) -> None:
        """Keep this, and return once it is on the disk.  Call it under the lock.

        Raises:
            TokenError: If the file can't be written.
        """
        await self._call(lambda: _write(self._path, _encoded(grant)), "written")

    async def _call(self, function: Callable[[], T], done: str) -> T:
        try:
            return await self._thread.call(function, what=f"the token store {self._path}")
        except OSError as error:
            reason = error.strerror or type(error).__name__
        raise TokenError(f"the token store {self._path} can't be {done}: {reason}")

    def _load(self) -> StoredGrant | None:
        data = _read(self._path)
        if data is None:
            return None
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if mode & 0o077 and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the token store %s may be read by others (mode %o); make it 0600",
                self._path,
                mode,
            )
        grant = _decoded(data)
        if grant is None:
            del data
            raise TokenError(
                f"the token store {self._path} holds no grant of ours; move it away to begin anew",
                malformed=True,
            )
        return grant


async def _polled(
    take: Callable[[], bool | Awaitable[bool]], *, limit: float | None, what: str
) -> None:
    """Try to take a lock until that works.

    Polled because a thread that waits for a lock can't be cancelled, and would hold
    it for nobody once it had it.
    """
    loop = asyncio.get_running_loop()
    began, pause = loop.time(), _SHORTEST_POLL
    while True:
        taken = take()
        if await taken if inspect.isawaitable(taken) else taken:
            return
        if limit is not None and loop.time() - began > limit:
            raise TokenError(f"somebody has held the lock of {what} for over {limit:g} s")
        await asyncio.sleep(pause)
        pause = min(_LONGEST_POLL, pause * 1.5)


class _Hold:
    """A lock on a file, taken on one thread and released on another.

    Whoever waits for it may be cancelled while it is being taken: then it is let go.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._is_over = False

    def take(self) -> bool:
        """Take the lock if it is free; True if it is ours."""
        # Not under the mutex: a file system may hang, and `release` is called on the loop.
        descriptor = _locked(self._path)
        with self._mutex:
            if not self._is_over:
                self._descriptor = descriptor
                return descriptor is not None
        if descriptor is not None:
            _unlock(descriptor)
        return False

    def release(self) -> None:
        """Let it go, now or when it has been taken."""
        with self._mutex:
            self._is_over = True
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _unlock(descriptor)


def _locked(path: str) -> int | None:
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unlock(descriptor: int) -> None:
    import fcntl

    try:
        # Closing it is not enough where a child was forked meanwhile: it holds a copy.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes | None:
    try:
        # A FIFO that somebody has put there would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return os.read(descriptor, LARGEST_FILE + 1) or None
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    # The same name each time, so that a crash leaves at most one.  The lock keeps others away.
    beside = path.with_name(f"{path.name}.new")
    # Made anew: what lies there may be a FIFO, or have a second name.
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    # The rename itself is only safe once the directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _encoded(grant: StoredGrant) -> bytes:
    data = _written(grant, grant.scopes)
    # Tokens are bounded where they come from, and scopes are not: what would not be read
    # again must not be written, or the grant is lost for a list that only informs.
    return data if len(data) <= LARGEST_FILE else _written(grant, None)


def _written(grant: StoredGrant, scopes: tuple[str, ...] | None) -> bytes:
    told = {
        "version": _VERSION,
        "refresh_token": _revealed(grant.refresh_token),
        "access_token": _revealed(grant.access_token),
        "expires_at": grant.expires_at,
        "lifetime": grant.lifetime,
        "scopes": None if scopes is None else list(scopes),
        "dpop_key": _revealed(grant.dpop_key),
        "seed": grant.seed,
    }
    return json.dumps(told, indent=1).encode() + b"\n"


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _decoded(data: bytes) -> StoredGrant | None:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    told = cast("Mapping[str, Any]", found)
    # Other programs number their files as well.
    if told.get("version") != _VERSION or "refresh_token" not in told:
        return None
    return StoredGrant(
        refresh_token=_secret(told, "refresh_token"),
        access_token=_secret(told, "access_token"),
        expires_at=duration(told.get("expires_at")),
        lifetime=duration(told.get("lifetime")),
        scopes=_scopes(told.get("scopes")),
        dpop_key=_secret(told, "dpop_key"),
        seed=seed if isinstance(seed := told.get("seed"), str) else None,
    )


def _scopes(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    names = [one for one in cast("list[object]", value) if isinstance(one, str)]
    return tuple(names) if len(names) == len(cast("list[object]", value)) else None


def _secret(told: Mapping[str, Any], name: str) -> Secret | None:
    value = told.get(name)
    return Secret(value) if isinstance(value, str) and value else None
