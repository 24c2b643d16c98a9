"""What a use case promises, checked before anything runs: ``incumbent check my.toml``.

Loading already refuses a file that contradicts itself. Here are the checks that need judgement (will
the labels be there in time, can a comparison ever end) and those that execute the declarations on a
small made-up sample: does one event give the same values online, offline and through JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from bentos.check.sample import sample_problems
from bentos.errors import IncumbentError
from bentos.features.plan import FeaturePlan
from bentos.usecase.declarations import CalendarFeature, ColumnFeature, WindowFeature
from bentos.usecase.definition import UseCase
from bentos.windows.aggregates import AGGREGATES
from monitoring.core.durations import format_duration

Status = Literal["PASS", "WARN", "FAIL"]
Problem = tuple[Literal["WARN", "FAIL"], str]
_WEEK = timedelta(days=7)
_LONGEST_MONTH = 31
_OUTCOME_NAME = re.compile(r"(^|_)(is_)?(fraud|chargeback|label|target|outcome|churned?|default(ed)?)(_|$)")
"""Words that rarely name anything known when an event is scored."""


@dataclass(frozen=True)
class ConformanceFinding:
    """The result of one check: FAIL must be mended, WARN is worth a look."""

    name: str
    status: Status
    detail: str


@dataclass(frozen=True)
class ConformanceReport:
    """Every check of one use case, in a fixed order."""

    usecase: str
    findings: tuple[ConformanceFinding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; warnings pass."""
        return all(f.status != "FAIL" for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        rows = [{"name": f.name, "status": f.status, "detail": f.detail} for f in self.findings]
        return {"usecase": self.usecase, "passed": self.passed, "findings": rows}


def check_usecase(usecase: UseCase) -> ConformanceReport:
    """Run every check; nothing is read or written outside this process."""
    return ConformanceReport(usecase.name, tuple(_run(usecase, *entry) for entry in _CHECKS))


def _run(
    usecase: UseCase, name: str, pass_detail: str, check: Callable[[UseCase], Iterator[Problem]]
) -> ConformanceFinding:
    try:
        problems = list(check(usecase))
    except IncumbentError as exc:
        problems = [("FAIL", str(exc))]
    if not problems:
        return ConformanceFinding(name, "PASS", pass_detail)
    status: Status = "FAIL" if any(s == "FAIL" for s, _ in problems) else "WARN"
    return ConformanceFinding(name, status, "; ".join(text for _, text in problems))


def _columns(usecase: UseCase) -> Iterator[Problem]:
    observed = usecase.label.observed_at
    if any(observed in (c.name, c.external_name) for c in usecase.columns):
        yield "FAIL", f"{observed!r} says when the label became known; it is not known when the event is scored"
    for feature in usecase.features:
        column = getattr(feature, "column", None)
        if column is not None and _OUTCOME_NAME.search(column):
            yield "WARN", f"feature {feature.name!r} reads {column!r}: make sure it is known when the event is scored"
        if usecase.incumbent is not None and column == usecase.incumbent.column:
            yield "WARN", f"feature {feature.name!r} reads the incumbent's score: the challenger would depend on it"


def _features(usecase: UseCase) -> Iterator[Problem]:
    plan = FeaturePlan.of(usecase)
    if FeaturePlan.from_json(plan.to_json()) != plan:
        yield "FAIL", "the feature plan changes when it is stored and read again"
    names_by_digest: dict[str, str] = {}
    for definition in plan.definitions:
        if definition.digest in names_by_digest:
            yield "WARN", f"features {names_by_digest[definition.digest]!r} and {definition.name!r} are the same"
        names_by_digest.setdefault(definition.digest, definition.name)


def _labels(usecase: UseCase) -> Iterator[Problem]:
    label = usecase.label
    for feature in usecase.features:
        if not isinstance(feature, WindowFeature) or not AGGREGATES[feature.agg].of_labels:
            continue
        if feature.delay < label.matures_after:
            if label.absent_after_maturity == "negative":
                yield (
                    "WARN",
                    f"feature {feature.name!r} looks back {format_duration(feature.delay)} while labels take "
                    f"{format_duration(label.matures_after)}: unlabelled young events count as negative in it",
                )
            else:
                yield "WARN", f"feature {feature.name!r} counts events whose label is not mature yet"


def _history(usecase: UseCase) -> Iterator[Problem]:
    if usecase.untimed:
        return
    split = usecase.split
    folds = split.train + usecase.label.matures_after + split.calibration + split.test
    minimum_span = usecase.longest_window + folds
    simulator = usecase.source.simulator
    if usecase.source.kind == "simulator" and timedelta(days=simulator.days) < minimum_span:
        yield "FAIL", f"the simulator makes {simulator.days} days; context and folds need {minimum_span.days}"
    for name, length in (("train", split.train), ("calibration", split.calibration), ("test", split.test)):
        # Without a calibrator the fold gives the threshold only, which costs and capacity name.
        if length < _WEEK and not (name == "calibration" and usecase.training.calibration == "none"):
            yield "WARN", f"split.{name} is shorter than a week and misses weekdays"


def _cost(usecase: UseCase) -> Iterator[Problem]:
    cost = usecase.cost
    if isinstance(cost.false_negative, str):
        column = usecase.column(cost.false_negative)
        if column.min is None or column.min < 0:
            yield "FAIL", f"a missed positive costs {column.name!r}, which may be negative; declare min = 0"
        if column.nullable:
            yield (
                "WARN",
                f"a missed positive costs {column.name!r}, which may be missing: such an event then costs nothing",
            )
        return
    if cost.false_negative == 0 or cost.false_positive == 0:
        yield "FAIL", "a cost of 0 makes flagging everything, or nothing, the best threshold"
    elif cost.false_negative < cost.false_positive:
        yield "WARN", "a missed positive costs less than a false alarm"


def _capacity(usecase: UseCase) -> Iterator[Problem]:
    if usecase.capacity.alerts_per_day is None and not usecase.untimed:
        yield "WARN", "no capacity.alerts_per_day: the cost ratio alone may flag a tenth of the traffic"


def _gates(usecase: UseCase) -> Iterator[Problem]:
    gates = usecase.gates
    if gates.min_average_precision == 0.0:
        yield "WARN", "min_average_precision is 0: every model passes"
    if gates.max_calibration_error >= 0.5:
        yield "WARN", "max_calibration_error is so wide that no model can miss it"
    if gates.min_matured_rows < 1000:
        yield "WARN", f"{gates.min_matured_rows} matured rows are few for metrics at low prevalence"
    if gates.profit is not None and isinstance(gates.profit.saved_value, str):
        column = usecase.column(gates.profit.saved_value)
        if column.min is None or column.min < 0:
            yield "FAIL", f"a kept customer is worth {column.name!r}, which may be negative; declare min = 0"
        if column.nullable:
            yield "WARN", f"a kept customer is worth {column.name!r}, which may be missing: such a one is worth nothing"


def _promotion(usecase: UseCase) -> Iterator[Problem]:
    policy, matures = usecase.promotion, usecase.label.matures_after
    # Days without an event do not count, and monthly snapshots have one day with events a month.
    minimum_days, unit = policy.min_matured_days, "matured days"
    if usecase.snapshot is not None:
        minimum_days, unit = minimum_days * _LONGEST_MONTH, "matured snapshots, one a month,"
    if minimum_days + matures / timedelta(days=1) > policy.max_shadow_days:
        yield (
            "FAIL",
            f"{policy.min_matured_days} {unit} and {format_duration(matures)} of maturity do not fit into "
            f"{policy.max_shadow_days} shadow days: no challenger could ever be promoted",
        )
    if policy.min_matured_days < 14:
        yield "WARN", "fewer than 14 matured days hide weekly patterns"
    if usecase.retrain.cooldown < max(_WEEK, matures):
        yield "WARN", "retrain.cooldown is shorter than a week or than labels take to mature"


def _clocks(usecase: UseCase) -> Iterator[Problem]:
    parts = {f.part for f in usecase.features if isinstance(f, CalendarFeature)}
    if "night" in parts and usecase.night[0] == usecase.night[1]:
        yield "WARN", "the night ends when it starts, so it is empty"
    if not any(isinstance(f, ColumnFeature | WindowFeature) for f in usecase.features):
        yield "WARN", "every feature is a part of the calendar"


_CHECKS = (
    ("columns", "every feature reads columns that are known when the event is scored", _columns),
    ("features", "the feature plan is complete, stored exactly and without repeats", _features),
    ("labels", "every label rate waits until labels are mature", _labels),
    ("history", "context and folds fit, each fold holds every weekday", _history),
    ("cost", "both mistakes cost something", _cost),
    ("capacity", "the analysts' capacity is declared", _capacity),
    ("gates", "the gates can be missed", _gates),
    ("promotion", "a comparison can end", _promotion),
    ("clocks", "calendar features say something", _clocks),
    ("sample", "made-up events give the same values online, offline, in tables and through JSON", sample_problems),
)
