"""One event of each kind, with something in every field."""

from dataclasses import fields
from typing import Any, get_type_hints

from dromos import events
from dromos.errors import ConnectionClosed
from dromos.events import BridgeEvent

KINDS = [
    kind
    for name in events.__all__
    if (kind := getattr(events, name)) is not BridgeEvent and issubclass(kind, BridgeEvent)
]


def example(kind: type[BridgeEvent], **more: Any) -> BridgeEvent:
    """An event of this kind."""
    hints = get_type_hints(kind)
    samples: dict[Any, Any] = {int: 3, float: 1.5, str: "x", bool: True}
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "error":
            values["error"] = ConnectionClosed(code=1006)
        elif field.name == "messages" and not field.repr:
            values["messages"] = ("a message's content",)
        else:
            values[field.name] = samples.get(hints[field.name], 2)
    return kind(**values | more)
