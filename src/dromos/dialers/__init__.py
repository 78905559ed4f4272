"""Dialers: what opens links, one engine per file.

The default is imported when it is first asked for, so that `import dromos`
does not pay for an engine that is not used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dromos.dialers.picows import PicowsDialer

__all__ = ["PicowsDialer"]


def __getattr__(name: str) -> Any:
    if name == "PicowsDialer":
        from dromos.dialers.picows import PicowsDialer

        return PicowsDialer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
