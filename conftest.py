"""What every test run needs, those of examples in documents included."""

import asyncio


def pytest_configure() -> None:
    # looptime asks for the current event loop in tests without one as well.  Before 3.14 asyncio
    # then makes a loop that nobody closes, a warning and so an error; unless it was told "none".
    asyncio.set_event_loop(None)
