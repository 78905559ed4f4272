"""The listener in C beside the one in Python."""

import os

EXPECTED = os.environ.get("DROMOS_EXPECT_COMPILED") == "1"
"""Whether this run is to fail where the compiled listener is not in use."""
