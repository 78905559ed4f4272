"""Dialers: what opens links, one engine per file.

Each is imported when it is first asked for, so that `import dromos` does not pay
for an engine that is not used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dromos.dialers.picows import PicowsDialer
    from dromos.dialers.websockets import WebsocketsDialer

__all__ = ["PicowsDialer", "WebsocketsDialer"]


def __getattr__(name: str) -> Any:
    if name == "PicowsDialer":
        from dromos.dialers.picows import PicowsDialer

        return PicowsDialer
    if name == "WebsocketsDialer":
        from dromos.dialers.websockets import WebsocketsDialer

        return WebsocketsDialer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
