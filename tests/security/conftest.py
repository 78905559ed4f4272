"""The authorization servers that are not ours, and a watch on every log."""

import logging
from collections.abc import Iterator

import pytest

from tests.oauth.servers.fixtures import (  # noqa: F401
    INSTALL_WITHIN,
    installed,
    oidc,
    oidc_process,
    oidc_tap,
    toolkit,
    toolkit_process,
    toolkit_tap,
)
from tests.security.ways import CANARY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that has to install oidc-provider the time for it; nobody knows which it is."""
    if installed().exists():
        return
    for item in items:
        if "oidc_process" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(INSTALL_WITHIN + 120))


@pytest.fixture(autouse=True)
def quiet_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No logger says a secret, at DEBUG or above."""
    with caplog.at_level(logging.DEBUG):
        yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            assert CANARY not in f"{record.getMessage()} {vars(record)}"
