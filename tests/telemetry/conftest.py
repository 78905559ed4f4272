"""PyYAML for the rules of alerts, on a machine that has none as well."""

from tests.documents.packages import other_packages, yaml

__all__ = ["other_packages", "yaml"]
