"""Many sessions as one: started, stopped and listed, and each failure told."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias, Unpack

from dromos._driver import Session, end
from dromos._driver.endpoint import Veiled
from dromos._options import SessionOptions
from dromos._streams import Failures, FailureStream, log_failure
from dromos.errors import Closed, PermanentError
from dromos.interfaces import Endpoint, Handler
from dromos.model import Seconds, SessionFailure, seconds
from dromos.snapshot import Snapshot

__all__ = ["Group"]

Begin: TypeAlias = Callable[[str, Veiled, Handler, SessionOptions], Session]


@dataclass(frozen=True, slots=True)
class _Member:
    session: Session
    task: asyncio.Task[None]


class Group:
    """Sessions of one bridge that begin and end by themselves, as `bridge.supervise` makes it.

        async with bridge.supervise() as group:
            group.start("c-1", "wss://host/ws", Agent())
            group.start("c-2", "wss://host/ws", Agent())
            async for failure in group.failures(until_idle=True):
                print(failure.connection_id, failure.error)

    A failure that nobody has taken from `failures()` when the block is left is raised
    then, in an `ExceptionGroup`; if the block is left by another exception, it is written
    to the log of `dromos`.  Each one is an event as well, `SessionEnded`.

    `len(group)` counts the running sessions, and iterating a group gives their connection
    ids.  All methods belong to the event loop that the block was entered on.
    """

    def __init__(self, *, begin: Begin) -> None:
        """Take what makes a session; `Bridge.supervise` calls this."""
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._members: dict[str, _Member] = {}
        self._failures = Failures(is_idle=lambda: not self._members)
        self._is_closed = False

    # ------------------------------------------------------------ the block

    async def __aenter__(self) -> Self:
        """Return at once; nothing runs yet.

        Raises:
            RuntimeError: If it was entered before.
        """
        if self._loop is not None:
            raise RuntimeError("a group can be entered once; call bridge.supervise again")
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every session, and raise the failures that nobody has taken.

        Raises:
            ExceptionGroup: Of one `PermanentError` for each of them.
        """
        await self.close()
        unseen = self._failures.take_all()
        if kind is None and unseen:
            raise _unseen(unseen, self._failures.dropped)
        for failure in unseen:
            log_failure(failure, "nobody took this failure")

    async def close(self, timeout: Seconds = 5.0) -> None:
        """End every session of the group, as `Bridge.close` does; none can be started any more.

        Args:
            timeout: Seconds after which the callbacks that are left are cancelled, and
                links are closed within their `close_timeout`.  Default 5.

        Raises:
            TypeError: If `timeout` is no duration.
            ValueError: If `timeout` is negative or not finite.
        """
        within = seconds("timeout", timeout)
        self._is_closed = True
        try:
            await self._end(list(self._members.values()), within)
        finally:
            self.finish()

    # ------------------------------------------------------------ its sessions

    def start(
        self,
        connection_id: str,
        endpoint_url: Endpoint,
        handler: Handler,
        **options: Unpack[SessionOptions],
    ) -> None:
        """Begin a session, and return at once.  Its first attempt may have to wait its turn.

        Args:
            connection_id: As for `Bridge.maintain_websocket`.
            endpoint_url: As for `Bridge.maintain_websocket`.
            handler: As for `Bridge.maintain_websocket`.
            **options: Options for this session in place of the bridge's.

        Raises:
            RuntimeError: If a session of this connection runs in the group already, if
                the group was not entered, or if it or its bridge is closed.
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has a value that can't work.
        """
        endpoint = Veiled(endpoint_url)
        del endpoint_url
        loop = self._open_loop()
        if isinstance(connection_id, str) and connection_id in self._members:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RuntimeError(
                f"connection_id {connection_id!r} runs in this group already; "
                f"await group.stop({connection_id!r}) first"
            )
        session = self._begin(connection_id, endpoint, handler, options)
        task = loop.create_task(self._keep(session), name=f"dromos-{session.number}")
        self._members[connection_id] = _Member(session, task)
        task.add_done_callback(functools.partial(self._task_ended, session))

    async def stop(self, connection_id: str, timeout: Seconds = 5.0) -> bool:
        """End a session politely, and wait until it is over; then it may be started again.

        Args:
            connection_id: Which.
            timeout: Seconds after which its callbacks are cancelled, and its link is
                closed within its `close_timeout`.  Default 5.

        Returns:
            Whether there was one: False if none of this connection runs in the group, be
            it that it has failed in this moment.

        Raises:
            TypeError: If `timeout` is no duration.
            ValueError: If `timeout` is negative or not finite.
        """
        within = seconds("timeout", timeout)
        member = self._members.get(connection_id)
        if member is None:
            return False
        await self._end([member], within)
        return True

    def sessions(self) -> tuple[Snapshot, ...]:
        """Return what each running session looks like now, the oldest first."""
        return tuple(member.session.snapshot() for member in self._members.values())

    def failures(self, *, until_idle: bool = False) -> FailureStream:
        """Return the sessions that have failed for good, as they do, to be iterated.

        Each failure is told once, and one task may wait for them at a time.  Up to 1,024
        wait for somebody who takes them; the oldest ones are dropped then, counted in
        `.dropped`, and written to the log.

        Args:
            until_idle: Whether the iteration ends once no session runs.  False (default)
                goes on while the group is open, be it empty at times; in either case it
                ends when the group or its bridge is closed.
        """
        return FailureStream(self._failures, until_idle=until_idle)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._members))

    def __contains__(self, connection_id: object) -> bool:
        return connection_id in self._members

    def __repr__(self) -> str:
        return f"<Group of {len(self)} running sessions, {len(self._failures)} failures to tell>"

    # ------------------------------------------------------------ behind it

    def finish(self) -> None:
        """Note that the group is over; the bridge calls this when it is closed."""
        self._is_closed = True
        self._failures.end()

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            raise Closed("the group is closed")
        if self._loop is None:
            raise RuntimeError("enter the group first: async with bridge.supervise() as group")
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("a group belongs to the event loop that it was entered on")
        return self._loop

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        except PermanentError as error:
            # Whoever is told may want to start it again at once.
            self._forget(session)
            # Its frames hold on to the whole session, for as long as nobody takes it.
            self._failures.put(_failure(session, _without_our_frames(error)))

    def _task_ended(self, session: Session, task: asyncio.Task[None]) -> None:
        session.note_end()  # cancelled before its first step, it could not say so
        self._forget(session)

    def _forget(self, session: Session) -> None:
        member = self._members.get(session.connection_id)
        if member is not None and member.session is session:
            del self._members[session.connection_id]
            self._failures.look_again()

    async def _end(self, members: list[_Member], within: float) -> None:
        here = asyncio.current_task()
        sessions = [member.session for member in members]
        tasks = [member.task for member in members if not member.session.owns(here)]
        try:
            await end(sessions, within)
        finally:
            if tasks:
                await asyncio.wait(tasks)


def _failure(session: Session, error: PermanentError) -> SessionFailure:
    last = session.snapshot()
    return SessionFailure(
        connection_id=last.connection_id,
        session=last.session,
        endpoint=last.endpoint,
        error=error,
        at=last.since,
    )


def _without_our_frames(error: PermanentError) -> PermanentError:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("dromos."):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _unseen(failures: list[SessionFailure], dropped: int) -> ExceptionGroup[PermanentError]:
    for failure in failures:
        failure.error.add_note(f"session of {failure.connection_id!r} at {failure.endpoint}")
    more = f", and {dropped} before them" if dropped else ""
    text = f"{len(failures)} sessions of the group failed{more}, and nobody was told"
    return ExceptionGroup(text, [failure.error for failure in failures])
