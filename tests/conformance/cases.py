"""Which cases each engine has to pass, which it may fail, and what its sessions accept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dromos._options import SessionOptions
from dromos.dialers import PicowsDialer, WebsocketsDialer
from dromos.interfaces import Dialer

__all__ = ["ENGINES", "FULL", "GROUPS", "LARGE", "REDUCED", "Engine", "group_of", "options_for"]

GROUPS: Final = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing",
    9: "limits and performance",
    10: "automatic fragmentation",
    12: "permessage-deflate",
    13: "permessage-deflate, parameters",
}
"""Autobahn's groups; there is no 8 and no 11."""

HEAVY: Final = frozenset({9, 12, 13})
"""Those that keep both sides busy, and so would let a short one beside them come too late."""

FULL: Final = ("*",)

REDUCED: Final = (
    *(f"{group}.*" for group in GROUPS if group not in HEAVY),
    *("9.1.1", "9.1.4", "9.1.6", "9.2.1", "9.2.4", "9.3.3", "9.4.1", "9.5.3", "9.6.3", "9.7.1"),
    *("12.1.1", "12.1.11", "12.2.3", "13.2.2", "13.3.2", "13.7.11"),
)

LARGE: Final = SessionOptions(
    message_size_limit=16 * 2**20, fragment_limit=2**17, send_buffer_limit=32 * 2**20
)
"""What group 9 needs: messages of 16 MiB or of 65,537 fragments, and room to send them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A dialer under test.

    Attributes:
        name: Autobahn's agent.
        dialer: Opens its links.
        groups: What it has to pass.
        exceptions: The cases it must fail, and why each is none of our doing.
    """

    name: str
    dialer: Dialer
    groups: frozenset[int]
    exceptions: Mapping[str, str] = field(default_factory=dict[str, str])

    def cases(self, offered: Sequence[str]) -> list[str]:
        """Return those of the server's cases that are this engine's."""
        return [case for case in offered if group_of(case) in self.groups]


ENGINES: Final = (
    Engine(
        name="picows",
        dialer=PicowsDialer(),
        groups=frozenset(GROUPS) - {12, 13},  # it does not compress, and offers nothing
        exceptions={
            "7.1.2": "two CLOSE frames in one read: picows' parser looks one frame ahead, and "
            "answers the second one with 1002 before we hear of the first; the session "
            "ends all the same, for the reason that the first one gave",
        },
    ),
    Engine(
        name="websockets",
        dialer=WebsocketsDialer(compression="deflate"),
        groups=frozenset(GROUPS),
        exceptions={},
    ),
)


def group_of(case: str) -> int:
    """Return the group of "9.1.6": 9."""
    return int(case.partition(".")[0])


def options_for(case: str) -> SessionOptions:
    """Return what a session of this case has in place of the defaults."""
    return LARGE if group_of(case) == 9 else SessionOptions()
