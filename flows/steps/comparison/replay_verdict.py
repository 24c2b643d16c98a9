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

from bentos.promotion.evidence import VERDICT, enter_verdict
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, SnapshotMissing
from flows.snapshots.store import SnapshotStore
from flows.steps.comparison.compare import LATENCY
from flows.steps.tracking.code_version import MadeWith, made_with
from flows.workspace.step import step
from monitoring.comparison.daily_series import FrozenDay
from monitoring.comparison.judge import judge_plan
from monitoring.comparison.plan import ComparisonPlan
from monitoring.core.verdict import Verdict
from monitoring.errors import JournalConflict

if TYPE_CHECKING:
    from flows.steps.comparison.compare import Comparison
    from monitoring.store import Decision, Store

KIND = VERDICT


@dataclass(frozen=True)
class Replay:
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


@step(name="keep the verdict", run_name="enter the verdict {found.verdict.outcome} into the chain", tags=("database",))
def record_verdict(store: Store, usecase: UseCase, found: Comparison, as_of: datetime, actor: str) -> Decision | None:
    """Keep a verdict in the chain with everything that a replay needs.

    None for a look at the past, and while no row has matured.
    """
    if not found.current or found.evidence is None:
        return None
    frozen = store.comparisons.days(found.stored.id, as_of)
    # Days that this very look froze were computed by it; only the earlier ones were given to it.
    given = [day.digest for day in frozen if day.as_of < as_of]
    return enter_verdict(
        store, usecase.name, found.verdict, actor, as_of,
        comparison=found.stored.id, plan=found.stored.plan.to_json(), plan_hash=found.stored.plan_hash,
        evidence_snapshot=found.evidence, frozen_days=given, as_of=as_of.isoformat(), made_with=made_with().to_json(),
    )  # fmt: skip


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
    for line in store.decisions.list(usecase, limit=None):
        if str(line.seq) == name or (len(name) >= 4 and line.id.startswith(name)):
            said = line.payload
            digest = said.get("digest") if line.kind == KIND else said.get("evidence", said.get("digest"))
            if digest in by_digest:
                return by_digest[str(digest)]
            raise FlowRefused(f"decision {name} ({line.kind}) rests on no comparison whose evidence is kept")
    for digest, line in by_digest.items():
        if len(name) >= 8 and digest.startswith(name):
            return line
    raise FlowRefused(f"no decision {name!r}; see `incumbent audit show`")


def replay(store: Store, snapshots: Sequence[SnapshotStore], usecase: UseCase, decision: Decision) -> Replay:
    """Judge the verdict of a decision again.

    Raises:
        SnapshotMissing, SnapshotCorrupt: its rows are gone or were changed.
        JournalConflict: a frozen day was changed.
    """
    said = decision.payload
    plan, was = ComparisonPlan.from_json(said["plan"]), Verdict.from_json(said["verdict"])
    as_of = datetime.fromisoformat(str(said["as_of"]))
    rows = _rows(snapshots, usecase, plan, said["evidence_snapshot"])
    frozen = _frozen(store, str(said["comparison"]), as_of, said["frozen_days"])
    given = tuple(check for check in was.checks if check.name == LATENCY)
    again = judge_plan(plan, rows, frozen, as_of=as_of, guards=given).verdict
    then = MadeWith.from_json(said.get("made_with"))
    return Replay(
        decision.id, decision.seq, as_of.isoformat(), was.outcome, again.outcome, str(said["digest"]), again.digest,
        said["evidence_snapshot"], str(said["plan_hash"]), tuple(_differences(was, again, plan, said)),
        then is not None, () if then is None else made_with().other_than(then),
    )  # fmt: skip


def _rows(snapshots: Sequence[SnapshotStore], usecase: UseCase, plan: ComparisonPlan, digest: str) -> pd.DataFrame:
    for place in snapshots:
        try:
            found = place.load(digest)
        except SnapshotMissing:
            continue
        rows = found.events.rename(columns={usecase.event_id: "event_id"})
        rows.insert(2, "day", plan.calendar.days_of(rows["event_time"]))
        return rows
    raise SnapshotMissing(f"the rows {digest[:16]} of this verdict are in no evidence folder")


def _frozen(store: Store, comparison: str, as_of: datetime, digests: Sequence[str]) -> list[FrozenDay]:
    known = {day.digest: day for day in store.comparisons.days(comparison, as_of)}
    lost = [digest[:16] for digest in digests if digest not in known]
    if lost:
        raise JournalConflict(f"frozen days that this verdict rests on are gone: {', '.join(lost)}")
    return [known[digest] for digest in digests]


def _differences(was: Verdict, again: Verdict, plan: ComparisonPlan, said: Any) -> list[str]:
    found = []
    if was.digest != said["digest"]:
        found.append("the stored verdict is not the one that its digest names")
    if plan.digest != said["plan_hash"]:
        found.append("the stored plan is not the one that its hash names")
    names = ("outcome", "champion", "challenger", "as_of", "reasons", "evidence_digest", "days_needed")
    found += [
        f"{name}: {getattr(was, name)} then, {getattr(again, name)} now"
        for name in names
        if getattr(was, name) != getattr(again, name)
    ]
    checks = {check.name: check for check in again.checks}
    found += [
        f"check {check.name}: {check.value} then, {getattr(checks.get(check.name), 'value', 'missing')} now"
        for check in was.checks
        if checks.get(check.name) != check
    ]
    return found
