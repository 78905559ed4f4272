"""The page of the health port, in a browser: what it shows, and what nobody can make it do."""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import pytest

from dromos import Bridge, Handler
from dromos._http_server import HttpConnection, Reply
from dromos.oauth import StaticToken
from dromos.service import HealthServer
from dromos.service.health import Health
from dromos.service.page import page
from dromos.testing import FarSide
from tests.service.browser import dom, needs_chromium, pixels, screenshot

EVIL = "<img src=x onerror=\"document.title='PWNED'\"><script>document.title='PWNED'</script>"


class Agent(Handler):
    pass


def session(number, state="open", **more):
    now = time.time()
    return {
        "connection_id": f"c-{number}",
        "session": number,
        "endpoint": "wss://far.example/ws",
        "state": state,
        "since": now - 60,
        "link": 7 if state == "open" else None,
        "next_link": None,
        "attempts": 0,
        "last_error": None,
        "last_error_type": None,
        "last_error_at": None,
        "next_attempt_at": None,
        "token_expires_at": now + 3600,
        "latency": 0.012,
        "counters": {"received": 0, "sent": 0},
    } | more


PAUSE = 2
"""Seconds of the process between two rounds of the page, as these ports tell it."""


@asynccontextmanager
async def port(sessions, *, later=None, failing_from=None):
    """A port with the true page and these sessions; from one answer on it fails.

    Args:
        sessions: Those of each round, or of the first one.
        later: What makes those of a later round, of the number of rounds before it.
        failing_from: How many questions are answered.
    """
    asked, began, rounds = [], time.time(), -1
    async with Bridge(StaticToken("t")) as bridge:
        health = Health(bridge)

        def answer(request):
            nonlocal rounds
            asked.append(request.target)
            query = parse_qs(urlsplit(request.target).query)
            if not request.target.startswith("/sessions"):
                return health.answer(request)
            if failing_from is not None and len(asked) > failing_from:
                return Reply(status=503, headers=(), body=b"")
            offset, limit = int(query["offset"][0]), int(query["limit"][0])
            rounds += not offset
            known = later(rounds) if later and rounds else sessions
            told = {
                "version": "1.2.3",
                "now": began + PAUSE * rounds,
                "ready": True,
                "draining": False,
                "total": len(known),
                "open": 0,
                "offset": offset,
                "sessions": known[offset : offset + limit],
            }
            return Reply(
                status=200,
                headers=(("Content-Type", "application/json"), ("Connection", "close")),
                body=json.dumps(told).encode(),
            )

        async def serve(reader, writer):
            http = HttpConnection(reader, writer)
            request = await http.read_request(time.time)
            if request is not None:
                writer.write(http.encode(answer(request)))
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked


class Cells(HTMLParser):
    """The table's body as texts, and the page's title and heading."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.title, self._stack = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        self._stack.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag):
        while self._stack and self._stack.pop()[0] != tag:
            pass

    def handle_data(self, data):
        names = [name for name, _ in self._stack]
        if "td" in names:
            self.rows[-1][-1] += data + " "
        elif ("h1", "title") in self._stack:
            self.title += data

    @property
    def sessions(self):
        return [[" ".join(cell.split()) for cell in row] for row in self.rows if row]


def test_the_page_is_one_file_that_loads_nothing_and_only_sets_texts():
    html = page().decode()

    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in html
    assert ["data:,"] == re.findall(r'(?:src|href)="([^"]*)"', html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert not re.search(r"\son[a-z]+=", html)


@needs_chromium
async def test_a_real_bridge_is_shown_on_its_own_port(tmp_path):
    async with FarSide() as far, Bridge(StaticToken("t")) as bridge:
        tasks = [
            asyncio.create_task(bridge.maintain_websocket(f"c-{n}", far.url, Agent()))
            for n in range(2)
        ]
        await far.wait_for(lambda: len(far.open_links) == 2)
        async with HealthServer(bridge, port=0) as server:
            shown = Cells(await dom(f"http://127.0.0.1:{server.port}/", tmp_path))
        await bridge.close()
        await asyncio.gather(*tasks)

    assert "2 of 2 open" == shown.title
    assert [[f"c-0 {far.url}", "open"], [f"c-1 {far.url}", "open"]] == [
        row[:2] for row in shown.sessions
    ]


@needs_chromium
async def test_those_with_trouble_come_first_with_what_became_of_them(tmp_path):
    sessions = [
        session(
            1,
            link_since=time.time() - 7200,
            last_error="no answer",
            last_error_at=time.time() - 7300,
        ),
        session(
            2,
            "waiting",
            next_attempt_at=time.time() + 1000,
            attempts=3,
            last_error="refused with 503",
            last_error_at=time.time() - 600,
            token_expires_at=time.time() - 5,
        ),
    ]
    async with port(sessions) as (url, _):
        waiting, well = Cells(await dom(url, tmp_path)).sessions

    assert ["c-2 wss://far.example/ws", "waiting"] == waiting[:2]
    assert "expired" == waiting[6]
    assert waiting[7].startswith("in 1")
    assert "refused with 503 10 min ago, 3 failed in a row" == waiting[10]
    assert "no answer 2 h 01 min ago" == well[10]
    assert ["7", "2 h 00 min", "12 ms"] == well[3:6]


@needs_chromium
async def test_what_changes_between_two_rounds_is_drawn_again(tmp_path):
    def later(rounds):
        counted = {"received": 1000 * rounds, "sent": 7 * rounds}
        return [session(1, link=8, counters=counted), session(3), session(4)]

    async with port([session(1), session(2, "waiting")], later=later) as (url, asked):
        first = Cells(await dom(url, tmp_path, budget=PAUSE * 500))
        rounds = len(asked)
        last = Cells(await dom(url, tmp_path, budget=PAUSE * 3500))

    assert rounds < len(asked)
    assert ["c-2 wss://far.example/ws", "c-1 wss://far.example/ws"] == [
        row[0] for row in first.sessions
    ]
    assert ["", ""] == first.sessions[1][8:10], "a rate takes two rounds"
    assert "3 of 3 open" == last.title
    assert ["1", "3", "4"] == [row[0][2] for row in last.sessions]
    assert ["open", "8", "500", "3.5"] == [last.sessions[0][at] for at in (1, 3, 8, 9)]
    assert ["0", "0"] == last.sessions[1][8:10]


@needs_chromium
async def test_texts_of_strangers_stay_texts(tmp_path):
    async with port([session(1, last_error=EVIL, connection_id=EVIL, state=EVIL)]) as (url, asked):
        html = await dom(url, tmp_path)

    assert "PWNED" not in re.search(r"<title>(.*?)</title>", html)[1]
    assert EVIL in Cells(html).sessions[0][0]
    assert "<img" not in html
    assert {"/", "/sessions"} == {target.partition("?")[0] for target in asked}


@needs_chromium
async def test_10_000_sessions_are_counted_and_the_first_are_shown(tmp_path):
    states = ["waiting"] * 3 + ["open"] * 9_997
    async with port([session(n, state) for n, state in enumerate(states)]) as (url, asked):
        html = await dom(url, tmp_path, budget=15_000)

    shown = Cells(html)
    assert "9,997 of 10,000 open" == shown.title
    assert 200 == len(shown.sessions)
    assert ["waiting"] * 3 == [row[1] for row in shown.sessions[:3]]
    assert "the first 200 of 10,000" in html
    assert "/sessions?offset=9000&limit=1000" in asked


@needs_chromium
async def test_a_process_that_is_gone_is_said_and_its_last_words_stay(tmp_path):
    async with port([session(1)], failing_from=2) as (url, asked):
        html = await dom(url, tmp_path, budget=12_000)

    assert re.search(r'id="alarm" role="alert">The process can\'t be reached since .*503', html)
    assert "c-1" in Cells(html).sessions[0][0]
    assert 'class="stale"' in html
    assert len(asked) >= 4, "it goes on asking"


def brightness(rows):
    return sum(sum(pixel) for row in rows for pixel in row) / (765 * len(rows) * len(rows[0]))


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [480, 1200])
async def test_it_can_be_looked_at_by_day_and_night_on_a_desk_and_on_a_phone(tmp_path, dark, width):
    async with port([session(n) for n in range(3)]) as (url, _):
        image = await screenshot(url, tmp_path, width=width, dark=dark)

    rows = pixels(image)
    assert (700, {width}) == (len(rows), {len(row) for row in rows})
    paper, drawn = rows[0][0], [row for row in rows if len(set(row)) > 1]
    assert len(drawn) > 100, "there is something on it"
    assert brightness(rows) < 0.2 if dark else brightness(rows) > 0.8
    assert {paper} == {pixel for row in rows for pixel in row[-8:]}, "nothing sticks out"
