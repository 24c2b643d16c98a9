"""What a fold of events would have cost at falling thresholds: kept with a version, so it is light to import.

It stands in ``contract.json``, because a version is what its digests cover: a curve outside them could be exchanged
unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.core.measured import StoredResult


@dataclass(frozen=True)
class CostCurve(StoredResult):
    """Figures at falling thresholds: the first flags nothing, the last flags every row.

    Attributes:
        threshold: a score, or where the threshold goes by the amount the least saving that is worth an alert.
        cost: money that the decisions cost.
        alerts: flagged rows.
        recall: share of the positives that are flagged; 0 without positives.
    """

    threshold: tuple[float, ...]
    cost: tuple[float, ...]
    alerts: tuple[int, ...]
    recall: tuple[float, ...]

    def point_index(self, value: float) -> int:
        """The point whose decisions are those of a threshold ``value``: the lowest threshold not below it."""
        return max(0, sum(threshold >= value for threshold in self.threshold) - 1)

    def few(self, points: int, value: float) -> list[tuple[float, float, int, float]]:
        """At most ``points`` + 1 of the points, from first to last, with that of ``value`` among them."""
        last_index = len(self.threshold) - 1
        indices = {round(n * last_index / max(1, points - 1)) for n in range(min(points, last_index + 1))} | {
            self.point_index(value)
        }
        return [(self.threshold[n], self.cost[n], self.alerts[n], self.recall[n]) for n in sorted(indices)]
