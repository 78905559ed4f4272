"""What every test run needs, those of examples in documents included."""

import asyncio
import signal


def pytest_configure() -> None:
    # The background job of a shell ignores SIGINT, which tests press as Ctrl-C.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # looptime asks for the current event loop in tests without one as well.  Before 3.14 asyncio
    # then makes a loop that nobody closes, a warning and so an error; unless it was told "none".
    asyncio.set_event_loop(None)
