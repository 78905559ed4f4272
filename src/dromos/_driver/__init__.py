"""Obeys: performs the core's commands on asyncio, and owns every task and timer."""

from dromos._driver.callbacks import Callbacks
from dromos._driver.ending import end
from dromos._driver.options import Options, Parts
from dromos._driver.sending import Sender, done_future
from dromos._driver.session import Session
from dromos._driver.turnstile import Turnstile
from dromos._driver.watchdog import Unwatched, Watchdog, the_watchdog

__all__ = [
    "Callbacks",
    "Options",
    "Parts",
    "Sender",
    "Session",
    "Turnstile",
    "Unwatched",
    "Watchdog",
    "done_future",
    "end",
    "the_watchdog",
]
