"""Replay of a verdict: the same plan, the same rows and the same frozen days, judged again, bit for bit.

Each comparison leaves a decision ``comparison.verdict`` with the plan, the digest of its rows (Parquet,
kept by content in the folder ``evidence``) and the digests of the days that were frozen before it. A
replay loads exactly those, and compares the whole verdict by its digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.promotion.evidence import VERDICT, write_verdict
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, SnapshotMissing
from flows.snapshots.store import SnapshotStore
from flows.steps.comparison.compare import LATENCY
from flows.steps.tracking.code_version import CodeVersion, current_code_version
from flows.workspace.step import step
from monitoring.comparison.daily_series import FrozenDay
from monitoring.comparison.judge import judge_plan
from monitoring.comparison.plan import ComparisonPlan
from monitoring.core.verdict import Verdict
from monitoring.errors import JournalConflict

if TYPE_CHECKING:
    from flows.steps.comparison.compare import ComparisonResult
    from monitoring.store import Decision, Store

KIND = VERDICT


@dataclass(frozen=True)
class VerdictReplay:
    """A verdict that was judged again.

    Attributes:
        decision, seq: the decision that holds it.
        as_of: its business time.
        outcome, outcome_again: what it said, and what it says now.
        digest, digest_again: of the whole verdict.
        evidence: digest of the rows.
        plan_hash: of the frozen plan.
        differences: what is not the same, in words.
        told: whether the decision says what code and packages made it; older ones do not.
        others: code and packages that are not those of the decision, in words.
    """

    decision: str
    seq: int
    as_of: str
    outcome: str
    outcome_again: str
    digest: str
    digest_again: str
    evidence: str
    plan_hash: str
    differences: tuple[str, ...] = ()
    told: bool = True
    others: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether it is the same verdict to the last bit."""
        return self.digest == self.digest_again

    @property
    def answer(self) -> str:
        """Whether it is identical, and by which code and packages, in words."""
        others = ", ".join(self.others)
        if not self.identical:
            return f"NO; the first suspect is what computed it: {others}" if others else "NO"
        if others:
            return f"yes, equal to the bit, with other versions of: {others}"
        return "yes, to the last bit" + (", by the same code and packages" if self.told else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        lists = {"differences": list(self.differences), "others": list(self.others)}
        return asdict(self) | {"identical": self.identical} | lists


@step(
    name="keep the verdict",
    run_name="enter the verdict {comparison.verdict.outcome} into the chain",
    tags=("database",),
)
def record_verdict(
    store: Store, usecase: UseCase, comparison: ComparisonResult, as_of: datetime, actor: str
) -> Decision | None:
    """Keep a verdict in the chain with everything that a replay needs.

    None for a look at the past, and while no row has matured.
    """
    if not comparison.current or comparison.evidence is None:
        return None
    frozen_days = store.comparisons.days(comparison.stored.id, as_of)
    # Days that this very look froze were computed by it; only the earlier ones were given to it.
    day_digests = [day.digest for day in frozen_days if day.as_of < as_of]
    return write_verdict(
        store,
        usecase.name,
        comparison.verdict,
        actor,
        as_of,
        comparison=comparison.stored.id,
        plan=comparison.stored.plan.to_json(),
        plan_hash=comparison.stored.plan_hash,
        evidence_snapshot=comparison.evidence,
        frozen_days=day_digests,
        as_of=as_of.isoformat(),
        made_with=current_code_version().to_json(),
    )


def find_verdict(store: Store, usecase: str, name: str) -> Decision:
    """The decision that holds a verdict.

    Args:
        store: the chain.
        usecase: name of the use case.
        name: seq or id (or its beginning) of that decision, of a promotion that rests on it, or of a
            request for its approval; or the digest of the verdict.

    Raises:
        FlowRefused: there is none.
    """
    verdicts = store.decisions.list(usecase, (KIND,), limit=None)
    by_digest = {str(d.payload["digest"]): d for d in verdicts}
    for decision in store.decisions.list(usecase, limit=None):
        if str(decision.seq) == name or (len(name) >= 4 and decision.id.startswith(name)):
            payload = decision.payload
            digest = payload.get("digest") if decision.kind == KIND else payload.get("evidence", payload.get("digest"))
            if digest in by_digest:
                return by_digest[str(digest)]
            raise FlowRefused(f"decision {name} ({decision.kind}) rests on no comparison whose evidence is kept")
    for digest, decision in by_digest.items():
        if len(name) >= 8 and digest.startswith(name):
            return decision
    raise FlowRefused(f"no decision {name!r}; see `incumbent audit show`")


def replay_decision(
    store: Store, snapshots: Sequence[SnapshotStore], usecase: UseCase, decision: Decision
) -> VerdictReplay:
    """Judge the verdict of a decision again.

    Raises:
        SnapshotMissing, SnapshotCorrupt: its rows are gone or were changed.
        JournalConflict: a frozen day was changed.
    """
    payload = decision.payload
    plan, stored = ComparisonPlan.from_json(payload["plan"]), Verdict.from_json(payload["verdict"])
    as_of = datetime.fromisoformat(str(payload["as_of"]))
    rows = _evidence_rows(snapshots, usecase, plan, payload["evidence_snapshot"])
    frozen_days = _frozen_days(store, str(payload["comparison"]), as_of, payload["frozen_days"])
    latency_checks = tuple(check for check in stored.checks if check.name == LATENCY)
    recomputed = judge_plan(plan, rows, frozen_days, as_of=as_of, guards=latency_checks).verdict
    stored_code = CodeVersion.from_json(payload.get("made_with"))
    return VerdictReplay(
        decision.id,
        decision.seq,
        as_of.isoformat(),
        stored.outcome,
        recomputed.outcome,
        str(payload["digest"]),
        recomputed.digest,
        payload["evidence_snapshot"],
        str(payload["plan_hash"]),
        tuple(_differences(stored, recomputed, plan, payload)),
        stored_code is not None,
        () if stored_code is None else current_code_version().differences_from(stored_code),
    )


def _evidence_rows(
    snapshots: Sequence[SnapshotStore], usecase: UseCase, plan: ComparisonPlan, digest: str
) -> pd.DataFrame:
    for snapshot_store in snapshots:
        try:
            snapshot = snapshot_store.load(digest)
        except SnapshotMissing:
            continue
        rows = snapshot.events.rename(columns={usecase.event_id: "event_id"})
        rows.insert(2, "day", plan.calendar.days_of(rows["event_time"]))
        return rows
    raise SnapshotMissing(f"the rows {digest[:16]} of this verdict are in no evidence folder")


def _frozen_days(store: Store, comparison: str, as_of: datetime, digests: Sequence[str]) -> list[FrozenDay]:
    days_by_digest = {day.digest: day for day in store.comparisons.days(comparison, as_of)}
    missing = [digest[:16] for digest in digests if digest not in days_by_digest]
    if missing:
        raise JournalConflict(f"frozen days that this verdict rests on are gone: {', '.join(missing)}")
    return [days_by_digest[digest] for digest in digests]


def _differences(stored: Verdict, recomputed: Verdict, plan: ComparisonPlan, payload: Any) -> list[str]:
    differences = []
    if stored.digest != payload["digest"]:
        differences.append("the stored verdict is not the one that its digest names")
    if plan.digest != payload["plan_hash"]:
        differences.append("the stored plan is not the one that its hash names")
    names = ("outcome", "champion", "challenger", "as_of", "reasons", "evidence_digest", "days_needed")
    differences += [
        f"{name}: {getattr(stored, name)} then, {getattr(recomputed, name)} now"
        for name in names
        if getattr(stored, name) != getattr(recomputed, name)
    ]
    checks = {check.name: check for check in recomputed.checks}
    differences += [
        f"check {check.name}: {check.value} then, {getattr(checks.get(check.name), 'value', 'missing')} now"
        for check in stored.checks
        if checks.get(check.name) != check
    ]
    return differences
