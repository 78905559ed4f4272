"""Where rotating grants are kept: nothing is lost, shown, or held by two at once."""
# ruff: noqa: ASYNC240  # files in a directory of the test's own

import asyncio
import contextlib
import dataclasses
import errno
import gc
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dromos.errors import TokenError
from dromos.oauth import store as store_module
from dromos.oauth.store import FileStore, MemoryStore, StoredGrant, TokenStore
from dromos.redaction import Secret

CANARY = "canary-7f3a"
PATIENCE = 60.0  # seconds, for a machine that has other things to do

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock and modes are POSIX")


def full(text: str = "a") -> StoredGrant:
    """A grant without an empty field, told from others by a text."""
    grant = StoredGrant(
        refresh_token=Secret(f"{CANARY}-refresh-{text}"),
        access_token=Secret(f"{CANARY}-access-{text}"),
        expires_at=1_800_000_000.125,
        lifetime=3600.5,
        scopes=("read", "écrire"),
        dpop_key=Secret(f'{{"kty": "EC", "d": "{CANARY}"}}'),
        seed="0123456789abcdef",
    )
    assert all(getattr(grant, field.name) for field in dataclasses.fields(grant))
    return grant


@pytest.fixture(autouse=True)
def quiet_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing secret is logged by any test here."""
    caplog.set_level(logging.DEBUG)
    yield
    assert CANARY not in caplog.text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "grant.json"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, path: Path) -> TokenStore:
    return MemoryStore() if request.param == "memory" else FileStore(path)


async def failure(doing: Awaitable[object]) -> TokenError:
    """What it raises, after a search for secrets in all that a crash reporter sees."""
    with pytest.raises(TokenError) as caught:
        await doing
    error = caught.value
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert CANARY not in "".join(frames.format())
    assert CANARY not in repr(error) + str(vars(error))
    return error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, data: str | bytes) -> None:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(0o600)


def in_a_thread(coroutine: Callable[[], Any]) -> threading.Thread:
    """Run it in a loop of its own."""
    thread = threading.Thread(target=lambda: asyncio.run(coroutine()), daemon=True)
    thread.start()
    return thread


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        await asyncio.sleep(0.005)


def descriptors() -> int:
    """How many are open; what only waits to be collected is not counted."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


# --- What both promise ----------------------------------------------------------------------------


async def test_a_new_store_holds_nothing(store: TokenStore) -> None:
    assert await store.load() is None


@pytest.mark.parametrize(
    "grant",
    [
        full(),
        StoredGrant(refresh_token=None),
        StoredGrant(refresh_token=Secret("r"), scopes=()),
        dataclasses.replace(full(), access_token=None, expires_at=None),
    ],
    ids=["full", "empty", "no scopes", "no access token"],
)
async def test_each_field_comes_back_as_it_was(store: TokenStore, grant: StoredGrant) -> None:
    await store.save(grant)

    assert grant == await store.load()


async def test_the_newest_grant_counts(store: TokenStore) -> None:
    for text in "abc":
        await store.save(full(text))

    assert full("c") == await store.load()


async def test_no_store_shows_what_it_keeps(store: TokenStore) -> None:
    await store.save(full())

    assert CANARY not in repr(store)
    assert CANARY not in repr(await store.load())
    assert CANARY not in str(dataclasses.asdict(StoredGrant(refresh_token=None)))


async def test_a_lock_keeps_other_tasks_out(store: TokenStore) -> None:
    inside, order = [0], list[int]()

    async def work(number: int) -> None:
        async with store.lock():
            inside[0] += 1
            assert inside == [1]
            await asyncio.sleep(0.001)
            order.append(number)
            inside[0] -= 1

    await asyncio.gather(*(work(number) for number in range(8)))

    assert list(range(8)) == sorted(order)


async def test_a_lock_keeps_other_threads_and_loops_out(store: TokenStore) -> None:
    inside, most, ended = [0], [0], list[int]()

    async def work() -> None:
        for _ in range(5):
            async with store.lock():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                await asyncio.sleep(0.002)
                inside[0] -= 1
        ended.append(1)

    threads = [in_a_thread(work) for _ in range(4)]
    await until(lambda: not any(thread.is_alive() for thread in threads))

    assert [1, 4] == [most[0], len(ended)]


async def test_an_error_under_the_lock_releases_it(store: TokenStore) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.lock():
            raise ZeroDivisionError

    async with asyncio.timeout(PATIENCE), store.lock():
        pass


@pytest.mark.parametrize("is_free", [False, True])
async def test_a_waiter_that_is_cancelled_at_any_step_leaves_nothing_behind(
    store: TokenStore, is_free: bool
) -> None:
    async def wait() -> None:
        async with store.lock():
            await asyncio.sleep(PATIENCE)

    async with store.lock():
        pass  # whatever is made once, is made
    before = descriptors()
    for steps in range(25):
        async with contextlib.AsyncExitStack() as stack:
            if not is_free:
                await stack.enter_async_context(store.lock())
            waiter = asyncio.create_task(wait())
            for _ in range(steps):
                await asyncio.sleep(0 if steps % 2 else 0.0005)
            waiter.cancel()
            await asyncio.wait([waiter])
            assert waiter.cancelled()
        async with asyncio.timeout(PATIENCE), store.lock():
            pass

    await until(lambda: descriptors() <= before)


async def test_a_loop_that_was_closed_under_the_lock_does_not_keep_it(store: TokenStore) -> None:
    held = threading.Event()

    async def hold() -> None:
        async with store.lock():
            held.set()
            await asyncio.Event().wait()

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # which would say that a task was forgotten
        task = loop.create_task(hold())
        while not held.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        del task
        loop.close()

    await asyncio.get_running_loop().run_in_executor(None, run)
    gc.collect()

    async with asyncio.timeout(PATIENCE), store.lock():
        pass


# --- Files: what they are, and who may read them --------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "error", "words"),
    [
        (7, TypeError, "path must be a str or a path, not int"),
        ("nowhere/at/all", ValueError, "in a directory that exists"),
        (".", ValueError, "must be a file, not the directory"),
    ],
)
def test_a_path_is_checked_at_once(
    tmp_path: Path, argument: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        FileStore(tmp_path / argument if isinstance(argument, str) else argument)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
def test_a_timeout_is_checked_at_once(path: Path, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="lock_timeout"):
        FileStore(path, lock_timeout=timeout)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
async def test_only_the_owner_may_read_the_file_whatever_the_umask(path: Path, umask: int) -> None:
    store = FileStore(path)
    before = os.umask(umask)
    try:
        await store.save(full())
        assert 0o600 == mode(path)
        await store.save(full("b"))
    finally:
        os.umask(before)

    assert 0o600 == mode(path)
    assert full("b") == await store.load()


async def test_a_file_that_others_may_read_is_warned_of_once_and_mended(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(path)
    await store.save(full())
    path.chmod(0o644)

    for _ in range(3):
        assert full() == await store.load()

    (record,) = caplog.records
    assert ("dromos.oauth", logging.WARNING) == (record.name, record.levelno)
    assert str(path) in record.getMessage()
    assert "644" in record.getMessage()
    await store.save(full())
    assert 0o600 == mode(path)


async def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target, link = folder / "real", tmp_path / "link"
    write(target, "")
    link.symlink_to(target)
    inode = target.stat().st_ino

    await FileStore(link).save(full())

    assert link.is_symlink()
    assert inode != target.stat().st_ino
    assert full() == await FileStore(target).load()
    assert {"link", "elsewhere"} == {each.name for each in tmp_path.iterdir()}


async def test_a_link_that_leads_nowhere_is_filled(tmp_path: Path) -> None:
    target, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(target)
    store = FileStore(link)
    assert await store.load() is None

    await store.save(full())

    assert link.is_symlink()
    assert full() == await FileStore(target).load()


async def test_two_names_of_one_file_have_one_lock(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    async with FileStore(path).lock():
        error = await failure(entered(FileStore(link, lock_timeout=0.05)))

    assert str(path) in str(error)


async def entered(store: TokenStore) -> None:
    async with store.lock():
        pass


# --- Files: what may be in their place ------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\0" * 100,
        b"\xff\xfe" + CANARY.encode(),
        CANARY.encode(),
        b"[]",
        b"null",
        b"7" * 10_000,
        b"[" * 100_000,
        json.dumps({"refresh_token": CANARY}).encode(),
        json.dumps({"version": 1, "serial": 7, "lineage": CANARY}).encode(),
        json.dumps({"version": 2, "refresh_token": CANARY}).encode(),
        (CANARY * 100_000).encode(),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_what_holds_no_grant_is_named_and_left_alone(path: Path, content: bytes) -> None:
    write(path, content)
    store = FileStore(path)

    error = await failure(store.load())

    assert str(path) in str(error)
    assert "move it away" in str(error)
    assert error.malformed
    assert content == path.read_bytes()


async def test_a_grant_that_was_cut_anywhere_is_none(path: Path) -> None:
    store = FileStore(path)
    await store.save(full())
    whole = path.read_bytes()

    for length in range(1, len(whole) - 2, 7):
        write(path, whole[:length])
        await failure(store.load())


@pytest.mark.parametrize("count", [10, 10_000, 100_000])
async def test_what_is_saved_can_be_loaded_whatever_a_server_says_of_scopes(
    path: Path, count: int
) -> None:
    scopes = tuple(f"scope-{number}" for number in range(count))
    store = FileStore(path)

    await store.save(StoredGrant(refresh_token=Secret("rt-2"), seed="s", scopes=scopes))

    kept = await store.load()
    assert kept is not None
    assert Secret("rt-2") == kept.refresh_token
    assert (scopes if count <= 10_000 else None) == kept.scopes


async def test_an_empty_file_is_a_place_to_begin(path: Path) -> None:
    write(path, "")

    assert await FileStore(path).load() is None


async def test_fields_of_wrong_types_are_left_out(path: Path) -> None:
    odd = {"refresh_token": CANARY, "access_token": 7, "expires_at": "soon", "lifetime": True}
    write(path, json.dumps({"version": 1, **odd, "scopes": ["a", 1], "seed": [], "dpop_key": ""}))

    assert StoredGrant(refresh_token=Secret(CANARY)) == await FileStore(path).load()


async def test_a_directory_that_took_the_files_place_is_told(path: Path) -> None:
    store = FileStore(path)
    path.mkdir()

    assert str(path) in str(await failure(store.load()))
    assert str(path) in str(await failure(store.save(full())))
    assert not list(path.parent.glob("*.new"))


async def test_a_fifo_does_not_hang(path: Path) -> None:
    os.mkfifo(path)
    os.mkfifo(f"{path}.new")
    store = FileStore(path)

    assert "regular file" in str(await failure(store.load()))
    await store.save(full())

    assert full() == await store.load()


async def test_another_name_of_the_file_beside_is_not_written_to(
    path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write(other, "mine")
    os.link(other, f"{path}.new")

    await FileStore(path).save(full())

    assert "mine" == other.read_text()


async def test_a_lock_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    Path(f"{path}.lock").symlink_to(tmp_path / "elsewhere")

    assert str(path) in str(await failure(entered(FileStore(path))))
    assert not (tmp_path / "elsewhere").exists()


async def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = FileStore(folder / "grant")
    folder.rmdir()

    assert await store.load() is None
    for doing in (store.save(full()), entered(store)):
        assert str(folder) in str(await failure(doing))


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, suffix: str, reason: int) -> None:
    """Let a function of `os` fail for files with a name that ends so."""
    real: Callable[..., Any] = getattr(os, name)

    def refusing(what: Any, *others: Any, **named: Any) -> Any:
        target = os.readlink(f"/dev/fd/{what}") if isinstance(what, int) else os.fspath(what)
        if target.endswith(suffix):
            if name == "write" and len(others[0]) > 10:
                return real(what, others[0][:10])  # the disk is full in the middle of it
            raise OSError(reason, os.strerror(reason), target)
        return real(what, *others, **named)

    monkeypatch.setattr(os, name, refusing)


async def test_a_file_that_may_not_be_read_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(path)
    await store.save(full())
    refuse(monkeypatch, "open", path.name, errno.EACCES)

    assert f"{path} can't be read: Permission denied" in str(await failure(store.load()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("open", errno.EACCES),
        ("open", errno.EROFS),
        ("open", errno.EMFILE),
        ("write", errno.ENOSPC),
        ("write", errno.EDQUOT),
        ("fsync", errno.EIO),
        ("fchmod", errno.EPERM),
        ("rename", errno.EXDEV),
    ],
)
async def test_a_save_that_fails_leaves_the_old_grant_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: int
) -> None:
    store = FileStore(path)
    await store.save(full("old"))
    before = descriptors()
    with monkeypatch.context() as patch:
        # Since 3.14 pathlib has another name for it.
        for each in ("rename", "replace") if name == "rename" else (name,):
            refuse(patch, each, ".new", reason)
        for _ in range(3):
            error = await failure(store.save(full("new")))

    assert f"{path} can't be written: {os.strerror(reason)}" in str(error)
    assert full("old") == await store.load()
    assert [path.name] == os.listdir(path.parent)
    await until(lambda: descriptors() <= before)
    await store.save(full("new"))
    assert full("new") == await store.load()


def test_a_file_that_may_not_grow_keeps_the_old_grant(path: Path) -> None:
    script = """
import asyncio, os, resource, sys
from dromos.errors import TokenError
from dromos.oauth.store import FileStore, StoredGrant
from dromos.redaction import Secret

async def main():
    store = FileStore(sys.argv[1])
    await store.save(StoredGrant(refresh_token=Secret("old")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    for _ in range(3):
        try:
            await store.save(StoredGrant(refresh_token=Secret("new" * 1000)))
        except TokenError as error:
            assert sys.argv[1] in str(error), error
        else:
            raise AssertionError("it was saved")
    assert (await store.load()).refresh_token == Secret("old")
    assert os.listdir(os.path.dirname(sys.argv[1])) == [os.path.basename(sys.argv[1])]

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script, str(path)], env=env(), check=True, timeout=100)


def env() -> dict[str, str]:
    """An environment in which a process of its own finds what we have found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_grant(path: Path) -> None:
    """Forked by one that has imported everything: twenty kills are quick then."""
    script = """
import asyncio, itertools, os, random, signal, sys, time
from dromos.oauth.store import FileStore, StoredGrant
from dromos.redaction import Secret

path = sys.argv[1]
chance = random.Random(7)

def grant(number):
    text = f"{number:06}" * 5000
    return StoredGrant(refresh_token=Secret(text), access_token=Secret(text), seed=text)

async def save_for_ever(started):
    store = FileStore(path)
    for number in itertools.count():
        await store.save(grant(number))
        if number == 0:
            os.write(started, b"x")

for _ in range(20):
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(save_for_ever(says))
    os.read(hears, 1)
    time.sleep(chance.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(hears)
    os.close(says)
    kept = asyncio.run(FileStore(path).load())
    assert kept == grant(int(kept.seed[:6])), "it is torn"
    name = os.path.basename(path)
    assert set(os.listdir(os.path.dirname(path))) <= {name, f"{name}.new"}
asyncio.run(FileStore(path).save(grant(0)))
assert os.listdir(os.path.dirname(path)) == [name]
print("whole")
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(path)],
        env=env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert ("whole\n", "") == (ran.stdout, ran.stderr)


# --- Files: the lock ------------------------------------------------------------------------------


@contextlib.contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock until it is told otherwise."""
    script = """
import asyncio, sys
from dromos.oauth.store import FileStore

async def main():
    async with FileStore(sys.argv[1]).lock():
        print("held", flush=True)
        sys.stdin.readline()

asyncio.run(main())
print("released", flush=True)
sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        env=env(),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert b"held\n" == process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def test_a_lock_keeps_other_processes_out_and_is_passed_on(path: Path) -> None:
    with holder(path) as process:
        error = await failure(entered(FileStore(path, lock_timeout=0.05)))
        assert str(path) in str(error)
        assert "0.05 s" in str(error)
        assert (None, None, False) == (error.status, error.code, error.malformed)
        waiter = asyncio.create_task(entered(FileStore(path)))
        await asyncio.sleep(0.02)
        assert not waiter.done()

        assert process.stdin is not None
        process.stdin.write(b"\n")

        async with asyncio.timeout(PATIENCE):
            await waiter


async def test_a_lock_is_free_once_its_holder_was_killed(path: Path) -> None:
    with holder(path) as process:
        waiter = asyncio.create_task(entered(FileStore(path)))
        await asyncio.sleep(0.02)
        assert not waiter.done()

        process.send_signal(signal.SIGKILL)

        async with asyncio.timeout(PATIENCE):
            await waiter


def test_a_child_that_was_forked_under_the_lock_does_not_keep_it(path: Path) -> None:
    script = """
import asyncio, os, signal, sys, time
from dromos.oauth.store import FileStore

async def main():
    async with FileStore(sys.argv[1]).lock():
        child = os.fork()
        if child == 0:
            time.sleep(100)
            os._exit(0)
    try:
        async with FileStore(sys.argv[1], lock_timeout=0.2).lock():
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

asyncio.run(main())
"""
    command = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    subprocess.run(command, env=env(), check=True, timeout=100)


async def test_a_lock_can_be_waited_for_no_longer_than_said(path: Path) -> None:
    async with FileStore(path).lock():
        before = descriptors()
        for _ in range(3):
            await failure(entered(FileStore(path, lock_timeout=0.02)))
        await until(lambda: descriptors() <= before)


async def test_a_lock_leaves_one_file_that_nobody_else_may_open(path: Path) -> None:
    store = FileStore(path)
    for _ in range(3):
        await entered(store)

    assert [f"{path.name}.lock"] == os.listdir(path.parent)
    assert 0o600 == mode(Path(f"{path}.lock"))


async def test_a_lock_that_hangs_does_not_hang_the_loop_and_is_let_go_when_it_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_IO_DEADLINE", 0.05)
    hangs, real, came = threading.Event(), store_module._locked, list[int | None]()

    def slow(place: str) -> int | None:
        # If it held up the loop, nobody would end this wait.
        assert hangs.wait(PATIENCE)
        came.append(real(place))
        return came[-1]

    monkeypatch.setattr(store_module, "_locked", slow)
    try:
        error = await failure(entered(FileStore(path)))
        assert not hangs.is_set()
    finally:
        hangs.set()
    await until(lambda: came)
    monkeypatch.setattr(store_module, "_locked", real)

    assert "0.05 s" in str(error)
    await entered(FileStore(path, lock_timeout=PATIENCE))


async def test_a_store_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_IO_DEADLINE", 0.05)
    hangs = threading.Event()
    store = FileStore(path)
    monkeypatch.setattr(store_module, "_read", lambda _: hangs.wait(PATIENCE) and None)
    try:
        error = await failure(store.load())
    finally:
        hangs.set()

    assert str(path) in str(error)
    assert "0.05 s" in str(error)
