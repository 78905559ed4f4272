"""The page that the health port shows to people: one file that loads nothing but `/sessions`."""

from functools import cache
from importlib import resources

__all__ = ["page"]


@cache
def page() -> bytes:
    """Return the page as HTML in UTF-8."""
    return resources.files("dromos.service").joinpath("page.html").read_bytes()
