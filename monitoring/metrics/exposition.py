"""The labels ``usecase`` and ``env`` on everything that Prometheus reads, so that several homes never add up.

They are put on when ``/metrics`` is written, not where something is counted: a process serves one use case in
one environment, counting costs nothing more, and the framework's own metrics carry them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

SCOPE: Final = ("usecase", "env")
"""Labels that every sample, recording rule, alert and panel carries."""
ALL: Final = "all"
"""Value of ``usecase`` on what concerns every use case of an environment: the database, the exporter itself."""
_SAMPLE: Final = re.compile(r"^([A-Za-z_:][\w:]*)(\{\}| |\{)", flags=re.MULTILINE)


def scope_labels(usecase: str, env: str) -> dict[str, str]:
    """Return the labels of one use case in one environment, by name."""
    return dict(zip(SCOPE, (usecase, env), strict=True))


def label_text(text: str, labels: Mapping[str, str]) -> str:
    """Add labels to every sample of a page in Prometheus' text format.

    Args:
        text: the page; comments stay as they are.
        labels: value by name; none of the samples has one of these names.
    """
    added_labels = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())

    def with_labels(match: re.Match[str]) -> str:
        name, ending = match.groups()
        return f"{name}{{{added_labels}" + {"{": ",", "{}": "}", " ": "} "}[ending]

    return _SAMPLE.sub(with_labels, text)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class LabelledCollector:
    """Gives what another collector gives, with labels where a sample lacks them.

    Args:
        collector: collects the families.
        labels: value by name.
    """

    def __init__(self, collector: Any, labels: Mapping[str, str]) -> None:
        self._collector = collector
        self._labels = dict(labels)

    def describe(self) -> Iterable[Any]:
        """Nothing: registering must not collect."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield the families, each sample with its labels."""
        for family in self._collector.collect():
            family.samples = [sample._replace(labels={**self._labels, **sample.labels}) for sample in family.samples]
            yield family
