"""Verdicts: what a set of figures is good enough for, check by check.

Two questions end in a :class:`Verdict`. :func:`judge` asks whether a new model may be compared at
all (``pass``, ``fail``, ``insufficient``); :func:`judge_comparison` asks whether it may take office
(``promote``, ``keep``, ``keep_watching``). A missing or NaN figure is ``INSUFFICIENT`` and never a
pass. Nothing is promoted without a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from monitoring.calendar import TimeWindow
from monitoring.measured import Measured, digest_of, finite, from_plain, to_plain
from monitoring.policies import GatePolicy

Status = Literal["PASS", "FAIL", "INSUFFICIENT"]
Outcome = Literal["pass", "fail", "insufficient", "promote", "keep", "keep_watching"]


@dataclass(frozen=True)
class Check:
    """One comparison of a figure with its limit.

    Attributes:
        name: what is checked, for example ``recall``.
        value: the figure; ``None`` when it could not be computed.
        threshold: the limit; ``None`` when nothing was there to compare with.
        margin: how far the figure is on the good side (negative: on the bad side), in its unit.
        status: ``PASS``, ``FAIL`` or ``INSUFFICIENT``.
        detail: one plain sentence.
    """

    name: str
    value: float | None
    threshold: float | None
    margin: float | None
    status: Status
    detail: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is known of one model on one window.

    Attributes:
        model: label of the version, for example ``dev-fraud/3``.
        metrics: metric name to value and interval (names as in :mod:`monitoring.performance`).
        rows: rows with matured labels in training and test together.
        positives: positives of the test window.
        window: the test window.
        baseline: the same metrics of the simple baseline on the same rows.
        latency_p99_ms: 99th percentile of scoring one event, milliseconds.
        model_mb: size of the stored model, megabytes.
        trained_until: end of the training data, which must not reach into ``window``.
    """

    model: str
    metrics: Mapping[str, Measured]
    rows: int
    positives: int
    window: TimeWindow | None = None
    baseline: Mapping[str, Measured] = field(default_factory=dict)
    latency_p99_ms: float | None = None
    model_mb: float | None = None
    trained_until: datetime | None = None

    def value(self, name: str) -> float | None:
        """The metric's value, or ``None`` when it is absent or not a number."""
        return finite(self.metrics[name].value) if name in self.metrics else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        return from_plain(cls, data)


@dataclass(frozen=True)
class Verdict:
    """The frozen result of judging, with everything that was looked at.

    Attributes:
        kind: ``gate`` (may it be compared?) or ``comparison`` (may it take office?).
        outcome: gates: ``pass``, ``fail``, ``insufficient``; comparisons: ``promote``, ``keep``, ``keep_watching``.
        checks: every check in the order it was made.
        challenger: label of the judged model.
        champion: label of the model in office, or none.
        as_of: business time of the judgement.
        reasons: plain sentences that explain the outcome, the deciding one first.
        evidence_digest: SHA-256 of the evidence that was judged.
        days_needed: matured days still needed at the present effect, where that can be said.
    """

    kind: Literal["gate", "comparison"]
    outcome: Outcome
    checks: tuple[Check, ...]
    challenger: str
    champion: str | None
    as_of: datetime
    reasons: tuple[str, ...] = ()
    evidence_digest: str = ""
    days_needed: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the whole verdict."""
        return digest_of(self)

    @property
    def promotes(self) -> bool:
        """Whether this verdict may move ``@champion``."""
        return self.outcome == "promote"

    def check(self, name: str) -> Check:
        """The check of that name; ``KeyError`` without one."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote; ``ValueError`` for anything else."""
        return from_plain(cls, data)


def at_least(name: str, value: float | None, limit: float, detail: str = "", *, strict: bool = False) -> Check:
    """A check that the value reaches the limit (``strict``: exceeds it)."""
    raise NotImplementedError


def at_most(name: str, value: float | None, limit: float, detail: str = "") -> Check:
    """A check that the value does not exceed the limit."""
    raise NotImplementedError


def judge(
    candidate: Evidence, incumbent: Evidence | None, policy: GatePolicy, *, as_of: datetime | None = None
) -> Verdict:
    """Judge a new model on its test window; the incumbent's figures must come from the same rows.

    ``as_of`` defaults to the end of the candidate's window.

    Raises:
        PolicyError: when the test window does not lie after the training data, or the incumbent was
            measured on another window.
    """
    raise NotImplementedError


def combine_checks(checks: Sequence[Check]) -> Literal["pass", "fail", "insufficient"]:
    """``fail`` with any failed check, else ``insufficient`` with any that lacks evidence, else ``pass``."""
    raise NotImplementedError
