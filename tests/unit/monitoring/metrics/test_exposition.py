"""Labels that are put on every sample when it is written."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families as families

from monitoring.metrics.exposition import LabelledCollector, label_text, scope_labels


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    Gauge("plain", "Text with a {brace} and plain 1.0", registry=found).set(3)
    Counter("asked", "Requests", ["path"], registry=found).labels('/a b{"}\\').inc(2)
    Histogram("took_seconds", "Time", ["path"], registry=found, buckets=(0.1, 1.0)).labels("x\ny").observe(0.5)
    return found


@pytest.mark.parametrize("name", ["fraud", 'a "b"', "back\\slash", "two\nlines"])
def test_every_sample_of_a_page_gets_the_labels_and_keeps_its_own(name: str) -> None:
    text = generate_latest(registry()).decode()
    before = [one for family in families(text) for one in family.samples]
    labelled = label_text(text, scope_labels(name, "prod"))
    after = [one for family in families(labelled) for one in family.samples]
    assert len(before) > 6
    assert [(one.name, one.labels, one.value) for one in after] == [
        (one.name, one.labels | {"usecase": name, "env": "prod"}, one.value) for one in before
    ]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in labelled.splitlines() if line.startswith("#")] == comments


def test_a_sample_with_empty_braces_gets_the_labels() -> None:
    assert label_text("up{} 1\nup 2 1700000000\n", {"env": "dev"}) == 'up{env="dev"} 1\nup{env="dev"} 2 1700000000\n'


def test_a_collector_adds_only_what_a_sample_lacks() -> None:
    class Own:
        def collect(self) -> list[object]:
            mine = Gauge("mine", "One", ["usecase"], registry=None)
            mine.labels("churn").set(1)
            return [*mine.collect(), *Gauge("ours", "All", registry=None).collect()]

    page = CollectorRegistry()
    page.register(LabelledCollector(Own(), scope_labels("all", "dev")))
    found = {one.name: one.labels for family in page.collect() for one in family.samples}
    assert found == {"mine": {"usecase": "churn", "env": "dev"}, "ours": {"usecase": "all", "env": "dev"}}
