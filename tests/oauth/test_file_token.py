"""Tokens in files: what the kubelet does to them, and what goes wrong with files."""

import asyncio
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dromos._core.schedule import Need
from dromos.errors import TokenError
from dromos.interfaces import TokenProvider
from dromos.model import AuthStrategy, Verdict
from dromos.oauth import file as file_module
from dromos.oauth.cache import cache_for
from dromos.oauth.file import FileToken
from tests.oauth.test_simple_sources import (  # noqa: F401
    CANARY,
    failure,
    jwt,
    quiet_logs,
    verdicts,
)

NOW = 2_000_000_000.0


class World:
    """A wall clock that stands still, and a file."""

    def __init__(self, path: Path) -> None:
        self.now = NOW
        self.path = path
        self.source = FileToken(path, wall=lambda: self.now)

    def write(self, text: str | bytes) -> None:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.path.chmod(0o600)

    async def read(self) -> str:
        return (await self.source.get_token("c")).access_token


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "token")


# --- What is in the file --------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["{}", "{}\n", "{}\r\n", "\n  {}\t\n"])
async def test_whitespace_around_a_token_is_not_of_it(world: World, around: str) -> None:
    world.write(around.format(CANARY))

    assert await world.read() == CANARY
    assert isinstance(world.source, TokenProvider)
    assert (world.source.per_connection, world.source.always_read) == (False, True)
    assert CANARY not in str(vars(world.source))


async def test_a_jwts_times_are_hints(world: World) -> None:
    world.write(jwt(iat=NOW, exp=NOW + 3607))

    token = await world.source.get_token("c")

    assert (NOW + 3607, 3607.0) == (token.expires_at, token.lifetime)


async def test_a_file_may_hold_an_api_key(tmp_path: Path) -> None:
    strategy, path = AuthStrategy("header", {"header_name": "X-Key"}), tmp_path / "key"
    path.write_text(f"{CANARY} with spaces\n")
    path.chmod(0o600)

    key = await FileToken(path, strategy=strategy).get_token("c")
    named = await FileToken(str(path), strategy=strategy, credential="k").get_token("c")

    assert {"api_key": f"{CANARY} with spaces"} == dict(key.credentials)
    assert {"k": f"{CANARY} with spaces"} == dict(named.credentials)
    assert strategy == key.strategy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (f"{CANARY} {CANARY}", "other characters"),
        (f"{CANARY}\n{CANARY}", "line break"),
        (f"{CANARY}\0", "other characters"),
        (f"{CANARY}é", "other characters"),
        (CANARY.encode() + b"\xff", "UTF-8"),
        (CANARY.encode("utf-16"), "UTF-8"),
        ("\ufeff" + CANARY, "other characters"),
        ("x" * 16385, "16 KiB"),
        (CANARY * 100_000, "16 KiB"),
    ],
    ids=[*"abcdefghijk"],
)
async def test_what_is_no_token_is_bounded_and_unseen(
    world: World, content: str | bytes, problem: str
) -> None:
    world.write(content)

    error = await failure(world.source)

    assert str(world.path) in str(error)
    assert problem in str(error)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)


async def test_the_longest_token_fits(world: World) -> None:
    world.write("x" * 16384 + "\r\n")

    assert len(await world.read()) == 16384


# --- What is no such file -------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def under_a_file(path: Path) -> None:
    path.parent.joinpath("file").write_text("")
    path.symlink_to(path.parent / "file" / "token")


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, fifo, device, loop, under_a_file, lambda path: None],
    ids=["directory", "fifo", "device", "loop", "under a file", "missing"],
)
async def test_what_is_no_regular_file_fails_at_once_and_by_name(
    world: World, make: Callable[[Path], None]
) -> None:
    make(world.path)
    started = time.monotonic()

    error = await failure(world.source)

    assert time.monotonic() - started < 5
    assert str(world.path) in str(error)
    assert isinstance(error, TokenError)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(await failure(world.source, refresh=True))


async def test_a_file_that_may_not_be_read_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(CANARY)
    real = os.open

    def refuse(path: Any, *arguments: Any) -> int:
        if path == str(world.path):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)

    error = await failure(world.source)

    assert "Permission denied" in str(error)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def test_no_descriptor_is_left_open(world: World) -> None:
    world.path.mkdir()
    before = descriptors()

    for _ in range(20):
        await failure(world.source)

    after = descriptors()
    assert after <= before + 2


async def test_a_file_system_that_hangs_does_not_hang_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release, real = threading.Event(), os.open
    world.write(jwt(exp=NOW + 60))
    source = FileToken(world.path, timeout=0.02, wall=lambda: world.now)

    def hang(path: Any, *arguments: Any) -> int:
        release.wait(10)
        return real(path, *arguments)

    monkeypatch.setattr(file_module.os, "open", hang)
    error = await failure(source)
    release.set()

    assert str(world.path) in str(error)
    assert "took over 0.02 s" in str(error)
    assert (Verdict.TRANSIENT, Verdict.TRANSIENT) == verdicts(error)


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes", 5, None])
def test_what_can_be_no_path_is_refused(path: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^path must "):
        FileToken(path)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"strategy": "x"}, {"credential": ""}])
def test_options_are_checked_and_named(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must "):
        FileToken("token", **options)


# --- The last token while there is none -----------------------------------------------------------


@pytest.mark.parametrize("content", [None, "", "half a tok"])
async def test_the_last_token_is_kept_until_it_expires(
    world: World, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    good = jwt(exp=NOW + 600)
    world.write(good)
    assert await world.read() == good
    world.path.unlink() if content is None else world.write(content)

    world.now += 599
    assert await world.read() == good
    assert await world.read() == good
    world.now += 2

    error = await failure(world.source)
    assert (Verdict.BOUNDED, Verdict.BOUNDED) == verdicts(error)
    assert caplog.text.count("its last token is used") == 1
    assert good not in caplog.text


async def test_a_truncated_jwt_passes_for_another_token_but_not_for_an_empty_one(
    world: World,
) -> None:
    # Nobody can tell half a token from a whole one: writers should rename.
    good = jwt(exp=NOW + 600)
    world.write(good)
    await world.read()

    world.write(good[:-9])

    assert await world.read() == good[:-9]


async def test_a_token_without_expiry_is_not_kept_here(world: World) -> None:
    world.write(CANARY)
    await world.read()
    world.path.unlink()

    assert "No such file" in str(await failure(world.source))


async def test_the_cache_keeps_a_token_without_expiry_all_the_same(world: World) -> None:
    world.write(CANARY)
    cache = cache_for(world.source, judge=lambda error, worked: verdicts(error)[worked])
    await cache.obtain("c", need=Need.DIAL)
    world.path.unlink()

    assert (await cache.obtain("c", need=Need.DIAL)).token.access_token == CANARY
    await cache.aclose()


# --- Refusals -------------------------------------------------------------------------------------


async def test_a_changed_file_is_another_token(world: World) -> None:
    world.write("first")
    await world.read()
    mark = await world.source.credentials_mark("c")

    error = await failure(world.source, refresh=True)
    assert getattr(error, "code", None) == "refresh_not_supported"
    world.write("second\n")

    assert mark != await world.source.credentials_mark("c")
    assert (await world.source.refresh_connection("c")).access_token == "second"
    assert getattr(await failure(world.source, refresh=True), "code", None)
    world.path.unlink()
    assert getattr(await failure(world.source, refresh=True), "step", None) == "refresh"
    assert mark != await world.source.credentials_mark("c")


async def test_a_refused_token_is_replaced_through_the_cache_once_the_file_has_changed(
    world: World,
) -> None:
    world.write("first")
    cache = cache_for(world.source, judge=lambda error, worked: verdicts(error)[worked])
    held = await cache.obtain("c", need=Need.DIAL)
    world.write("second")

    other = await cache.obtain("c", need=Need.REPLACE, generation=held.lease.generation)

    assert other.token.access_token == "second"
    await cache.aclose()


# --- The kubelet ----------------------------------------------------------------------------------


class Volume:
    """A projected volume: `token` leads to `..data/token`, and `..data` to a directory."""

    def __init__(self, root: Path, mode: int = 0o644) -> None:
        self.root, self.mode, self.number = root, mode, 0
        self.publish("token-0")
        (root / "token").symlink_to("..data/token")

    def publish(self, text: str) -> None:
        """Swap in a new directory as the kubelet's atomic writer does."""
        self.number += 1
        fresh = self.root / f"..2026_11_23_{self.number}"
        fresh.mkdir()
        (fresh / "token").write_text(text)
        (fresh / "token").chmod(self.mode)
        data, old = self.root / "..data", None
        if data.is_symlink():
            old = self.root / os.readlink(data)
        (self.root / "..data_tmp").symlink_to(fresh.name)
        os.rename(self.root / "..data_tmp", data)
        if old is not None:
            (old / "token").unlink()
            old.rmdir()


async def test_the_kubelets_swap_is_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume = Volume(tmp_path)
    source = FileToken(tmp_path / "token")
    assert (await source.get_token("c")).access_token == "token-0"

    volume.publish("token-1")

    assert (await source.get_token("c")).access_token == "token-1"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_readers_that_race_the_swap_see_whole_tokens(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    source = FileToken(tmp_path / "token", wall=lambda: NOW)
    tokens = [jwt(exp=NOW + 600, pad="x" * 900, number=number) for number in range(150)]
    volume.publish(tokens[0])
    await source.get_token("c")
    swapping = threading.Thread(target=lambda: [volume.publish(token) for token in tokens[1:]])

    swapping.start()
    seen: set[str] = set()
    while swapping.is_alive():
        found = await asyncio.gather(*(source.get_token(f"c{n}") for n in range(4)))
        seen.update(token.access_token for token in found)
    swapping.join()

    assert seen <= set(tokens)
    assert (await source.get_token("c")).access_token == tokens[-1]


# --- Who may read it ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
async def test_a_file_open_to_others_is_told_once(
    world: World, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("text")
    world.path.chmod(mode)

    for _ in range(3):
        await world.read()

    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.name == "dromos.oauth"
    assert str(world.path) in record.getMessage()
    assert f"{mode:04o}" in record.getMessage()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
async def test_a_private_file_is_not_told_of(
    world: World, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("text")
    world.path.chmod(mode)

    await world.read()

    assert caplog.records == [r for r in caplog.records if r.levelno < logging.WARNING]


@pytest.mark.parametrize("why", ["another's", "read-only"])
async def test_what_we_cannot_change_is_not_told_of(
    world: World, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("text")
    world.path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    if why == "another's":
        monkeypatch.setattr(file_module.os, "geteuid", lambda: os.getuid() + 1)
    else:
        monkeypatch.setattr(
            file_module.os, "fstatvfs", lambda _: type("Facts", (), {"f_flag": os.ST_RDONLY})
        )

    await world.read()

    assert caplog.records == [r for r in caplog.records if r.levelno < logging.WARNING]


def test_its_repr_shows_the_path_only(world: World) -> None:
    assert f"FileToken({str(world.path)!r})" == repr(world.source)
