"""A token in a file that somebody else replaces, such as Kubernetes' projected tokens."""

import functools
import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from typing import Final

from dromos.errors import TokenError
from dromos.model import AuthStrategy, Seconds, Token, seconds
from dromos.oauth._thread import OneThread
from dromos.oauth.static import LONGEST, checked_strategy, not_refreshable, shape_of

__all__ = ["FileToken"]

_log: Final = logging.getLogger("dromos.oauth")

_KEY: Final = secrets.token_bytes(32)
_WHITESPACE: Final = 64  # bytes around a token: a line end, as editors and `echo` leave it
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer must not hang us
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class FileToken:
    """The token in a file, for every connection; read before each dial.

    Whoever writes the file should replace it by a rename, as the kubelet does
    by swapping a symbolic link.  While there is no token in it, the last one is
    used until it expires, if it is a JWT that says when.

    Args:
        path: The file's.  Symbolic links are followed at each reading.
        strategy: How to present the token.  None (default): as an OAuth 2.0 bearer token.
        credential: The name under which the strategy looks for it, for `header` and the
            like.  None (default): the one that the strategy reads.
        timeout: Seconds for one reading, which a network file system may need.
            Default 10.
        wall: The wall clock, as Unix time; for tests.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If its value can't be right; the message names the argument.
    """

    per_connection = False
    always_read = True
    _path = "?"  # for a repr amid the constructor

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        *,
        strategy: AuthStrategy | None = None,
        credential: str | None = None,
        timeout: Seconds = 10,
        wall: Callable[[], float] = time.time,  # noqa: TID251  # the seam to the outer world
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
        named = os.fspath(path)
        if not isinstance(named, str):
            raise TypeError("path must be text, not bytes")
        if not named or "\0" in named:
            raise ValueError("path must not be empty or hold NUL")
        self._path = named
        self._shape: Final = shape_of(checked_strategy(strategy), credential)
        self._thread: Final = OneThread(
            "dromos-token-file", deadline=seconds("timeout", timeout, above=0)
        )
        self._wall: Final = wall
        self._last: Token | None = None
        self._given: bytes | None = None
        self._has_warned = False
        self._makes_do = False

    def __repr__(self) -> str:
        return f"FileToken({self._path!r})"

    async def get_token(self, connection_id: str, /) -> Token:
        """Return the token that the file holds now, or the last one while that is valid.

        Raises:
            TokenError: If the file holds no token, and the last one has expired or does
                not say when it will.
        """
        made, mark = await self._fetch("token")
        if isinstance(made, Token):
            return self._hand_out(made, mark)
        held = self._last
        # Without an expiry nobody knows how long it holds: the cache decides then.
        if held is None or held.expires_at is None or held.expires_at <= self._wall():
            raise made
        if not self._makes_do:
            self._makes_do = True
            _log.warning("%s; its last token is used until it expires", made)
        return held

    async def refresh_connection(self, connection_id: str, /) -> Token:
        """Return the file's token if it has changed since `get_token` read it.

        Raises:
            TokenError: If the file holds no token; with the code
                `refresh_not_supported` if it holds the same one.
        """
        made, mark = await self._fetch("refresh")
        if not isinstance(made, Token):
            raise made
        if mark == self._given:
            raise not_refreshable(f"token file {self._path!r} holds the same token still")
        return self._hand_out(made, mark)

    async def credentials_mark(self, connection_id: str, /) -> bytes:
        """Return what changes whenever the file's content does, and tells nothing of it."""
        return _mark(await self._read())

    def _hand_out(self, token: Token, mark: bytes) -> Token:
        self._last, self._given, self._makes_do = token, mark, False
        return token

    async def _fetch(self, step: str) -> tuple[Token | TokenError, bytes]:
        """Return the file's token or why there is none, and a mark of what it holds."""
        # Nothing is raised here: this frame holds the content.
        content = await self._read()
        return self._made(content, step), _mark(content)

    async def _read(self) -> bytes | TokenError:
        """Return the file's bytes, or why there are none."""
        read = functools.partial(_read, self._path)
        try:
            content, told = await self._thread.call(read, what=f"reading {self._path!r}")
        except TokenError as error:
            return error
        if told and not self._has_warned:
            self._has_warned = True
            _log.warning("token file %r %s", self._path, told)
        if isinstance(content, bytes):
            return content
        return self._error(content, "token")

    def _made(self, content: bytes | TokenError, step: str) -> Token | TokenError:
        """Return the token that the content is, or why it is none."""
        if isinstance(content, TokenError):
            content.step = step
            return content
        text = _text(content)
        made = None if text is None else self._shape.read(text)
        if isinstance(made, Token):
            return made
        return self._error("is not text in UTF-8" if made is None else made, step)

    def _error(self, problem: str, step: str) -> TokenError:
        # `malformed` makes it bounded: permanent at first, a few tries once it has worked.
        return TokenError(f"token file {self._path!r} {problem}", step=step, malformed=True)


def _read(path: str) -> tuple[bytes | str, str | None]:
    """Return a file's bytes or why there are none, and what to warn of."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        return f"can't be opened: {error.strerror}", None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return "is not a regular file", None
        # One call, so that a file replaced meanwhile is read from one moment.
        content = os.read(descriptor, LONGEST + _WHITESPACE + 1)
        told = _exposure(path, descriptor, facts)
    except OSError as error:
        return f"can't be read: {error.strerror}", None
    finally:
        os.close(descriptor)
    return ("is over 16 KiB" if len(content) > LONGEST + _WHITESPACE else content), told


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:  # whose object holds the bytes
        return None


def _exposure(path: str, descriptor: int, facts: os.stat_result) -> str | None:
    """Say that others may read or replace a file, if whoever runs us can do something about it.

    Orchestrators mount secrets as 0644 or 0444 for lack of a better way: Kubernetes
    behind a `..data` link or read-only, Docker read-only.  What another user owns is
    that user's to protect.
    """
    if not hasattr(os, "geteuid") or facts.st_uid != os.geteuid() or not facts.st_mode & 0o077:
        return None
    real = os.path.realpath(path)
    is_projected = any(part.startswith("..") for part in real.split(os.sep))
    is_read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    if is_projected or is_read_only:
        return None
    return f"is open to others (mode {stat.S_IMODE(facts.st_mode):04o}); 0600 keeps it private"


def _mark(content: bytes | TokenError) -> bytes:
    # A failure to read is told by its text, so that another one is another state.
    told = str(content).encode() if isinstance(content, TokenError) else b"=" + content.strip()
    return hmac.digest(_KEY, told, hashlib.sha256)
