"""Obeys: performs the core's commands on asyncio, and owns every task and timer."""

from dromos._driver.callbacks import Callbacks
from dromos._driver.options import Options, Parts
from dromos._driver.session import Session

__all__ = ["Callbacks", "Options", "Parts", "Session"]
