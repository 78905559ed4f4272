"""What is known of a user's callable before it is called."""

import inspect

__all__ = ["is_async"]


def is_async(function: object) -> bool:
    """Whether calling this is known to give a coroutine; a plain function may return one too."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - an object with async __call__
    )
