"""Secrets that can be told from everything else, and all the places in which they might show."""

import asyncio
import base64
import contextlib
import contextvars
import copy
import dataclasses
import gc
import io
import itertools
import json
import logging
import os
import pickle
import pprint
import re
import reprlib
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Awaitable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote

T = TypeVar("T")

TESTS: Final = str(Path(__file__).parents[1]) + os.sep
SOURCE: Final = str(Path(__file__).parents[2] / "src" / "dromos") + os.sep

# --- Canaries -------------------------------------------------------------------------------------

MARK: Final = "Q7zN4k"
"""At both ends of every canary, so that a part of one is found as well, in any spelling."""

_numbers: Final = itertools.count(1)
_places: Final[dict[str, str]] = {}
_needles: Final[dict[str, str]] = {}
_signed: Final[dict[str, str]] = {}
_lock: Final = threading.Lock()
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


def canary(place: str, tail: str = "") -> str:
    """A secret that nothing else has, for one place.  `tail` has it spelled in several ways."""
    made = f"{MARK}{next(_numbers):04d}{MARK}"
    _places[made[:10]] = place
    return made + tail


def _cores(text: str) -> Iterator[str]:
    """What base64 makes of a text, wherever it stands in what is encoded."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + text.encode()).decode().rstrip("=")
        # The first and the last character depend on what is around.
        yield encoded[(0, 2, 3)[shift] : (len(text) + shift) * 8 // 6]


_SPELLINGS: Final = (MARK, MARK.encode().hex(), *_cores(MARK))


def needle(place: str, value: str | bytes) -> None:
    """Note a secret that is no canary: a key, or what was signed with one."""
    text = value.decode() if isinstance(value, bytes) else value
    with _lock:
        for line in text.splitlines():
            if _JWT.fullmatch(line):
                _signed[line] = place
            elif len(line) >= 16 and "-----" not in line:
                _needles[line] = place


def key_needles(place: str, pem: str | bytes, jwk: str | None = None) -> None:
    """Note a private key in both spellings."""
    needle(place, pem)
    if jwk is not None:
        needle(place, json.loads(jwk)["d"])


def hits(text: str, *, at_most: int = 5) -> list[str]:
    """The secrets in a text, each with what is around it."""
    with _lock:
        spelled = [*((one, "") for one in _SPELLINGS), *_needles.items()]
        # Of these there is one for each request.
        signed = {one for one in _JWT.findall(text) if one in _signed} if "eyJ" in text else set()
        spelled += [(one, _signed[one]) for one in signed]
    found: list[str] = []
    for spelling, place in spelled:
        start = text.find(spelling)
        while start >= 0 and len(found) < at_most:
            name = place or _places.get(text[start : start + 10], "a canary")
            around = text[max(0, start - 160) : start + 60]
            found.append(f"{name}: ...{around!r}")
            start = text.find(spelling, start + 400)
    return found


def _hits_in(texts: Iterator[tuple[str, str]]) -> list[str]:
    """The same in many texts, which nearly always hold none."""
    all_ = list(texts)
    if not hits("\n".join(text for _, text in all_), at_most=1):
        return []
    return [f"{where}: {hit}" for where, text in all_ for hit in hits(text)]


# --- What was sent --------------------------------------------------------------------------------

_PIECE: Final = re.compile(r"[^\s;,]+")


def sent_secrets(pairs: list[tuple[str, str]]) -> list[str]:
    """The secrets in the fields of a request, whole and in parts, longest first.

    What was made from secrets for this one request is one from now on.
    """
    found: dict[str, None] = {}
    for name, value in pairs:
        pieces = [value, *_PIECE.findall(value)]
        pieces += [piece.partition("=")[2].strip('"') for piece in pieces]
        for piece in [*pieces, *_logins(pieces)]:
            if piece.startswith("eyJ") or name.lower() in ("x-signature", "signature"):
                needle(f"what was sent as {name}", piece)
            if any(spelling in piece for spelling in _SPELLINGS) or piece in _needles:
                found[piece] = None
    return sorted(found, key=len)


def _logins(pieces: list[str]) -> Iterator[str]:
    for piece in pieces:
        with contextlib.suppress(ValueError):
            login = base64.b64decode(piece, validate=True).decode("ascii")
            yield from (login, *map(unquote, login.partition(":")[::2]))


def fields_of(request: Any) -> list[tuple[str, str]]:
    """All the fields of a request of `dromos.testing`."""
    pairs = [*request.query, *request.headers.items()]
    with contextlib.suppress(UnicodeDecodeError):
        pairs += parse_qsl(request.body.decode())
    return pairs


# --- What is said ---------------------------------------------------------------------------------


class _Ear(logging.Handler):
    """Notes each record as it would be written, and with all that it carries."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._told = told
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(self.format(record))
        self._told.append(repr(vars(record)))


@contextlib.contextmanager
def listening(told: list[str]) -> Generator[None]:
    """Note all that is logged, warned of, printed, or that nobody has caught."""
    with (
        _all_loggers(told),
        _printed(told),
        _uncaught(told),
        _long_reprs(),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        yield
        gc.collect()  # what was never awaited, or never closed, says so now
        told += [f"{one.message} {one!r}" for one in warned]


@contextlib.contextmanager
def _all_loggers(told: list[str]) -> Generator[None]:
    ear, root = _Ear(told), logging.getLogger()
    every = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [(one, one.level, one.disabled) for one in [root, *every]]
    others = root.handlers[:]  # pytest's would only repeat it
    deaf = [one for one in every if not one.propagate]
    raises = logging.raiseExceptions
    try:
        logging.raiseExceptions = True
        root.handlers[:] = []
        root.setLevel(logging.DEBUG)
        for one in [root, *deaf]:
            one.addHandler(ear)
        for one in every:
            one.setLevel(logging.NOTSET)
        yield
    finally:
        logging.raiseExceptions = raises
        for one in [root, *deaf]:
            one.removeHandler(ear)
        root.handlers[:] = others
        for one, level, disabled in before:
            one.setLevel(level)
            one.disabled = disabled


@contextlib.contextmanager
def _printed(told: list[str]) -> Generator[None]:
    """Note what goes to the two outputs, by Python or by anybody's C."""
    text = io.StringIO()
    with tempfile.TemporaryFile() as file:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield
        finally:
            for number, copied in kept.items():
                os.dup2(copied, number)
                os.close(copied)
        file.seek(0)
        told += [text.getvalue(), file.read().decode(errors="replace")]


@contextlib.contextmanager
def _uncaught(told: list[str]) -> Generator[None]:
    def note(about: Any) -> None:
        lines = traceback.format_exception(about.exc_type, about.exc_value, about.exc_traceback)
        told.append(f"uncaught: {about!r} {''.join(lines)}")

    before = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = threading.excepthook = note
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = before


@contextlib.contextmanager
def _long_reprs() -> Generator[None]:
    """asyncio cuts what it shows; a longer token, or a shorter line, would show more."""
    shown = reprlib.aRepr
    before = {name: value for name, value in vars(shown).items() if name.startswith("max")}
    try:
        for name in before:
            setattr(shown, name, 20 if name == "maxlevel" else 5000)
        yield
    finally:
        for name, value in before.items():
            setattr(shown, name, value)


# --- What an object shows -------------------------------------------------------------------------

CLEAR: Final[Mapping[tuple[str, str], str]] = {
    ("Token", "access_token"): "documented: the bearer token in the clear",
    ("Credentials", "*"): "reading a value by its name gives it in the clear",
    ("DevicePrompt", "user_code"): "to be shown to the person",
    ("DevicePrompt", "complete_url"): "to be shown to the person; it holds the code",
    ("ConnectionRequest", "auth_url"): "where the person is sent; its query holds the state",
    ("ConnectionRequest", "state"): "what the redirect back is compared with",
    ("Handshake", "url"): "what strategies shape and dialers send",
    ("Handshake", "headers"): "what strategies shape and dialers send",
    ("Handshake", "subprotocols"): "what strategies shape and dialers send",
    ("Handshake", "first_message"): "what strategies shape and the driver sends",
    ("PermanentError", "unsent"): "the user's own messages, handed back",
    ("PermanentError", "unknown"): "the user's own messages, handed back",
    ("DeliveryUnknown", "messages"): "the user's own messages, handed back",
    ("MessagesUnsent", "messages"): "the user's own messages, handed back",
}
"""Public attributes that give a secret in the clear, by class, each with the reason."""

WHOLE: Final[Mapping[str, str]] = {
    "DevicePrompt": "made to be handed on, to another process if need be: it can be copied",
    "ConnectionRequest": "made to be kept until the person comes back: it can be copied",
    "PermanentError": "an error that is sent to another process keeps the messages that it returns",
    "InteractionRequired": "as PermanentError",
    "DeliveryUnknown": "an event keeps the messages that it returns",
    "MessagesUnsent": "an event keeps the messages that it returns",
    "SessionEnded": "holds a PermanentError",
    "EventStream": "holds events",
}
"""Classes whose attributes in `CLEAR` go along where a whole object is copied or taken apart."""


TAKEN_APART: Final[Mapping[str, str]] = {
    "Handshake": "`asdict` only reads attributes, all of which are in the first table",
}
"""Classes whose attributes in `CLEAR` go along where `dataclasses` takes an object apart."""


def _is_clear(value: object, name: str) -> bool:
    return any((kind.__name__, name) in CLEAR for kind in type(value).__mro__)


def _takes_along(value: object) -> bool:
    return any(kind.__name__ in WHOLE for kind in type(value).__mro__)


def renderings(value: object) -> Iterator[tuple[str, str]]:
    """All that shows an object without being asked for a secret: by how, and what."""
    yield "repr", repr(value)
    yield "str", str(value)
    yield "format", f"{value}|{value!s}|{value!r}|{value!a}|{value:}"
    yield "percent", "%s %r" % (value, value)  # noqa: UP031 - old ways are ways
    yield "pformat", pprint.pformat(value)
    yield "in a container", repr([{"it": (value,)}])
    yield "JSON", json.dumps({"it": value}, default=repr)
    yield from _attributes(value)
    yield from _copies(value)


SHOWN: Final = ("repr", "str", "format", "percent", "pformat", "in a container", "JSON")


def _attributes(value: object) -> Iterator[tuple[str, str]]:
    for name in dir(value):
        if name.startswith("_") or _is_clear(value, name):
            continue
        try:
            found = getattr(value, name)
        except Exception as error:
            yield f".{name} raises", f"{error!r}"
            continue
        if not callable(found):
            yield f".{name}", f"{found!r} {found!s} {pprint.pformat(found)}"
    with contextlib.suppress(TypeError):
        public = {k: v for k, v in vars(value).items() if k[:1] != "_" and not _is_clear(value, k)}
        yield "vars", repr(public)


def _copies(value: object) -> Iterator[tuple[str, str]]:
    def try_(how: str, make: Any) -> Iterator[tuple[str, str]]:
        try:
            made = make()
        except Exception as error:  # it may refuse, and say why
            yield f"{how} refused", f"{error!r}"
        else:
            yield how, made.decode("latin-1") if isinstance(made, bytes) else repr(made)

    yield from try_("copy", lambda: copy.copy(value))
    yield from try_("deepcopy", lambda: copy.deepcopy(value))
    if _takes_along(value):
        return
    is_whole = type(value).__name__ not in TAKEN_APART
    if is_whole and dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from try_("asdict", lambda: dataclasses.asdict(value))
        yield from try_("astuple", lambda: dataclasses.astuple(value))
    for protocol in (0, 2, pickle.HIGHEST_PROTOCOL):
        yield from try_("pickle", lambda protocol=protocol: pickle.dumps(value, protocol))


# --- What an error shows --------------------------------------------------------------------------

EXEMPT_FRAMES: Final[Mapping[str, str]] = {
    TESTS: "the user's own functions: what they hold is theirs, and so is what they show",
}
"""Whose frames may hold a secret, by the start of the file's name, each with the reason."""

EXEMPT_LOCALS: Final[Mapping[tuple[str, str], str]] = {
    ("Lane._on_message", "message"): "a received message is the user's, and no credential of ours",
    ("Lane._on_messages", "message"): "as above",
    ("Connection.send", "message"): "a message to send is the user's: the caller's frame has it",
    ("Connection.request", "text"): "as for `send`",
    ("LoopThread.run", "make"): "as for `send`, from a thread",
    **{
        (where, "message"): "as for `send`, on its way to the link"
        for where in (
            *("Connection.request", "Connection._ask", "Connection._write", "Connection._post"),
            *("Requests.begin", "Sender.__call__", "KeptSender.__call__", "Outlet.post"),
            *("Outlet.check", "Outlet.check_size", "Outlet.refuse_unsendable", "size_of"),
            *("Ledger.admit", "PicowsLink.send", "ProtocolLink.send"),
        )
    },
}
"""Variables in our frames that may hold a secret: by function and name, each with the reason."""

EXEMPT_STACKS: Final[Mapping[str, str]] = {
    f"{os.sep}site-packages{os.sep}": (
        "a request that is under way is in the frames of the HTTP library that writes it; no "
        "exception that leaves this library leads there"
    ),
    f"{os.sep}lib{os.sep}python": "as above, for the standard library beneath it",
}
"""Whose frames may do so besides while an operation is under way, by a part of the file's name."""


def _is_users(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(tuple(EXEMPT_FRAMES))


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that hangs on it, suppressed contexts included."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def laid_open(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that a crash reporter takes of an error: by where, and what."""
    for one in chain(error):
        kind = type(one).__name__
        yield f"{kind}'s text", f"{one} {one!r} {one.args!r}"
        yield (
            f"{kind}'s attributes",
            repr({k: v for k, v in vars(one).items() if not _is_clear(one, k)}),
        )
        yield from _frames(one.__traceback__, kind)
        # It calls `repr` of every local, and would fail where one does.
        report = traceback.TracebackException.from_exception(one, capture_locals=True)
        yield f"{kind}'s report", "".join(report.format_exception_only())


def _frames(trace: TracebackType | None, kind: str) -> Iterator[tuple[str, str]]:
    for frame, line in traceback.walk_tb(trace):
        if _is_users(frame):
            continue
        where = f"{kind} at {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
        yield from _locals(frame, where)


def _locals(frame: FrameType, where: str) -> Iterator[tuple[str, str]]:
    for name, value in list(frame.f_locals.items()):
        if (frame.f_code.co_qualname, name) not in EXEMPT_LOCALS:
            yield f"{where}, {name}", repr(value)


def stacks(tasks: "set[asyncio.Task[Any]]") -> Iterator[tuple[str, str]]:
    """What tasks that are under way show: their stacks, and the locals of our frames in them."""
    for task in tasks:
        printed = io.StringIO()
        task.print_stack(file=printed)
        yield f"the stack of {task.get_name()}", f"{printed.getvalue()} {task!r}"
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
            if frame is not None and not _is_elsewhere(frame):
                yield from _locals(frame, f"{task.get_name()} in {frame.f_code.co_qualname}")
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _is_elsewhere(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return _is_users(frame) or any(part in name for part in EXEMPT_STACKS)


# --- One sweep ------------------------------------------------------------------------------------


@dataclass
class Sweep:
    """What came to light while a part of the library ran through all of its paths.

    Attributes:
        told: Secrets in logs, warnings and outputs.
        shown: Secrets that an object showed.
        opened: Secrets in what an error carries, or a stack.
        errors: How many errors of each class there were.
        objects: How many objects of each class were looked at.
        heard: How much was said, in characters.
        arrived: How many requests with secrets in them reached a server.
        rendered: How many events were rendered in every way that there is.
    """

    told: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    heard: int = 0
    arrived: int = 0
    rendered: int = 0
    turns: int = 0

    def saw(self, *values: object) -> None:
        """Look at objects from all sides."""
        for value in values:
            name = type(value).__name__
            self.objects[name] += 1
            self.shown += [f"{name}, {hit}" for hit in _hits_in(renderings(value))]

    def shows(self, value: object) -> None:
        """Look only at how an object shows itself, not at copies of it."""
        told = [(how, text) for how, text in renderings(value) if how in SHOWN]
        self.shown += [f"{type(value).__name__}, {hit}" for hit in _hits_in(iter(told))]

    def failed(self, error: BaseException) -> None:
        """Look at an error from all sides, inside and out."""
        self.errors[type(error).__name__] += 1
        for one in chain(error):
            self.saw(one)
        self.opened += _hits_in(laid_open(error))

    def fields(self, name: str, fields: Mapping[str, Any]) -> None:
        """Look at what a structured logger was given."""
        text = f"{name} {fields!r} {[str(value) for value in fields.values()]}"
        self.shown += [f"field of {name}: {hit}" for hit in hits(text)]

    def happened(self, event: Any) -> None:
        """Look at an event, and at the error that it tells of."""
        self.saw(event)
        error = getattr(event, "error", None)
        if isinstance(error, BaseException):
            self.failed(error)

    def turn(self) -> bool:
        """Alternate."""
        self.turns += 1
        return self.turns % 2 == 0

    def looked_at(self, tasks: "set[asyncio.Task[Any]]") -> None:
        """Look at tasks that are under way."""
        self.opened += _hits_in(stacks(tasks))

    async def of(self, awaitable: Awaitable[T]) -> T | None:
        """Await something, and look at what it returns or raises."""
        try:
            result = await awaitable
        except (Exception, asyncio.CancelledError) as error:
            self.failed(error)
            return None
        self.saw(result)
        return result

    async def all_of(self, *awaitables: Awaitable[Any], at_once: int = 40) -> None:
        """Do the same with many, side by side."""
        room = asyncio.Semaphore(at_once)

        async def one(awaitable: Awaitable[Any]) -> None:
            async with room:
                await self.of(awaitable)

        await asyncio.gather(*map(one, awaitables))

    def contexts(self) -> None:
        """Look at the context variables here."""
        text = repr({name.name: value for name, value in contextvars.copy_context().items()})
        self.shown += [f"context: {hit}" for hit in hits(text)]

    def caught(self, function: Any, *arguments: Any, **options: Any) -> None:
        """Call something, and look at what it returns or raises."""
        try:
            self.saw(function(*arguments, **options))
        except Exception as error:
            self.failed(error)

    def refused(self, make: Any, *arguments: Any, **options: Any) -> None:
        """Call what must raise, and look at that; ours are the frames from there on."""
        try:
            made = make(*arguments, **options)
        except Exception as error:
            self.failed(error)
        else:
            raise AssertionError(f"{make} took {sorted(options)} and made {made!r}")


@contextlib.contextmanager
def sweeping() -> Generator[Sweep]:
    """Run something within, in this thread or any other, and judge all that it said."""
    sweep, told = Sweep(), list[str]()
    with listening(told):
        yield sweep
    sweep.heard = sum(map(len, told))
    sweep.told = [hit for text in told for hit in hits(text)]
