"""Fixtures of the pages' tests."""

from tests.documents.packages import other_packages, yaml

__all__ = ["other_packages", "yaml"]
