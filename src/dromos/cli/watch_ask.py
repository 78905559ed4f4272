"""Asks a health port for all of its sessions, page by page."""

from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2

from dromos.cli.watch_sessions import Round, read

__all__ = ["Port", "Unreachable", "address"]

PAGE: Final = 1000
"""Sessions in an answer: what the port gives at most."""

MOST_PAGES: Final = 1000
PATIENCE: Final = 5.0


class Unreachable(Exception):
    """The port did not answer, or not what a health port does."""


def address(text: str) -> str:
    """Return the URL of a health port, which people write in several ways.

    Args:
        text: `host:port`, `:port`, `port`, or a URL.

    Raises:
        ValueError: If it is none of these; the message shows no password.
    """
    written = text
    if text.isascii() and text.isdigit():
        text = f":{text}"
    if text.startswith(":"):
        text = f"127.0.0.1{text}"
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_one = is_one and not (parts.query or parts.fragment)
        httpx2.URL(url)  # which is stricter, such as about names of hosts
    except (ValueError, httpx2.InvalidURL):
        is_one = False
    if not is_one or not url.isprintable() or " " in url:
        shown = "this" if "@" in written else repr(written)
        raise ValueError(f"{shown} is no health port: give HOST:PORT or a URL")
    return url.rstrip("/").removesuffix("/sessions")


class Port:
    """A health port to be asked again and again.

    Args:
        url: Where it is, as `address` returns it.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/sessions"
        self._shown = _without_login(self._url)
        # The process that is asked is near; a proxy for the world outside is not meant.
        self._client = httpx2.Client(timeout=PATIENCE, trust_env=False, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self) -> Round:
        """Return all sessions.

        Raises:
            Unreachable: If it does not say; the message says why.
        """
        whole = self._page(0)
        for _ in range(MOST_PAGES):
            if len(whole.sessions) >= whole.total:
                break
            more = self._page(len(whole.sessions))
            if not more.sessions:
                break  # some have ended meanwhile
            whole = replace(whole, sessions=whole.sessions + more.sessions)
        return whole

    def _page(self, offset: int) -> Round:
        shown = self._shown
        wanted = {"offset": str(offset), "limit": str(PAGE)}
        try:
            answer = self._client.get(self._url, params=wanted)
            answer.raise_for_status()
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            raise Unreachable(f"{shown} answered {status}: is this a health port?") from error
        except httpx2.TimeoutException as error:
            raise Unreachable(f"{shown} did not answer within {PATIENCE:g} s") from error
        except httpx2.HTTPError as error:
            raise Unreachable(f"{shown} can't be reached: {error}") from error
        except UnicodeError as error:
            raise Unreachable(f"{shown} can't be reached: this is no name of a host") from error
        try:
            told: Any = answer.json()
            return read(told)
        except (ValueError, RecursionError) as error:
            why = str(error) if type(error) is ValueError else "its answer is no JSON"
            raise Unreachable(f"{shown} is no health port: {why}") from error


def _without_login(url: str) -> str:
    """Return a URL as it may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
