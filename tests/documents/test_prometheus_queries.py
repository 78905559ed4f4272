"""The queries of docs/howto/prometheus-and-grafana.md name metrics and labels that exist."""

import re

from dromos.telemetry.prometheus import METRICS
from tests.documents.pages import PAGES, Page

LABELS = {metric.name: set(metric.labels) for metric in METRICS}
SUFFIXES = ("", "_bucket", "_sum", "_count")


def metric_of(name: str) -> str | None:
    return next((m for m in LABELS if name in [m + suffix for suffix in SUFFIXES]), None)


def test_every_metric_that_a_page_names_exists():
    for page in PAGES:
        named = set(re.findall(r"\bbridge_[a-z_]+\b", page.text))
        unknown = {name for name in named if metric_of(name) is None}

        assert set() == unknown, page.path


def test_every_label_in_a_query_is_one_of_its_metric():
    text = Page("howto/prometheus-and-grafana.md").text
    queries = re.findall(r"\b(bridge_[a-z_]+)\{([^}]*)\}", text)

    assert queries
    for name, selectors in queries:
        metric = metric_of(name)
        assert metric is not None
        assert set(re.findall(r"(\w+)=", selectors)) <= LABELS[metric]
