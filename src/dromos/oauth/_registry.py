"""One object for each provider in each event loop, found by everyone who asks."""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


@dataclass(slots=True, weakref_slot=True)
class _Pinned(Generic[T]):
    """An object whose provider and loop can't be replaced by others of the same `id`."""

    kept: T
    provider: object
    loop: asyncio.AbstractEventLoop


class Registry(Generic[T]):
    """Remembers one object for each provider and loop, without keeping either alive.

    Providers are told apart by identity: two that are equal are still two.
    """

    def __init__(self) -> None:
        self._by_provider: Final[
            dict[
                int,
                tuple[weakref.ref[object], weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T]],
            ]
        ] = {}
        self._pinned: Final[weakref.WeakValueDictionary[tuple[int, int], _Pinned[T]]] = (
            weakref.WeakValueDictionary()
        )

    def find(
        self, provider: object, loop: asyncio.AbstractEventLoop, make: Callable[[], T]
    ) -> tuple[T, object]:
        """Return the object of a provider and a loop, and what to hold as long as it is used.

        It lasts as long as the provider.  For a provider that can't be referred
        to weakly it lasts as long as somebody holds the second value.
        """
        key = id(provider)
        try:
            reference = weakref.ref(provider, lambda _: self._by_provider.pop(key, None))
        except TypeError:
            pinned = self._pinned.get((key, id(loop)))
            if pinned is None:
                pinned = _Pinned(kept=make(), provider=provider, loop=loop)
                self._pinned[key, id(loop)] = pinned
            return pinned.kept, pinned
        entry = self._by_provider.setdefault(key, (reference, weakref.WeakKeyDictionary()))
        kept = entry[1].get(loop)
        if kept is None:
            kept = entry[1][loop] = make()
        return kept, None
