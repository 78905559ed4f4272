"""The authorization servers that are not ours, for every test in this folder that asks for one."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that has to install oidc-provider the time for it; nobody knows which it is."""
    if installed().exists():
        return
    for item in items:
        if "oidc_process" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(INSTALL_WITHIN + 120))
