"""What a promotion rests on: one line of the chain of decisions, looked up under the lease before anything is planned.

A comparison's verdict     ``comparison.verdict``   the newest word on these two versions, young enough, unused
the gates' verdict         ``training``             only where the use case needs no comparison (``takes_office``)
an order of two people     ``emergency.ordered``    two keys with different owners, not run out, unused

Whoever calls is not believed: a verdict that was made up, changed, or overtaken has no such line. A rollback and
the first installation rest on other things and are not asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bentos.errors import PromotionUnproven
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    from bentos.promotion.context import ReleaseContext
    from bentos.promotion.request import PlannedChange, Request
    from monitoring.store import Decision, Store

VERDICT: Final = "comparison.verdict"
TRAINING: Final = "training"
ORDER: Final = "emergency.ordered"
_DIGEST: Final = {VERDICT: "digest", TRAINING: "verdict", ORDER: "digest"}
_USED: Final = "promotion.champion_set"


def write_verdict(store: Store, usecase: str, verdict: Verdict, actor: str, at: datetime, **details: Any) -> Decision:
    """Write the verdict of a comparison into the chain; the same one again, right after itself, is one line.

    Args:
        store: the chain.
        usecase: name of the use case.
        verdict: what was judged; its challenger names the model.
        actor, at: who looked, and the business time of the look.
        more: what else the line says, such as the plan and the digest of the rows.
    """
    last_line = store.decisions.last(usecase, (VERDICT,))
    if last_line is not None and last_line.payload["digest"] == verdict.digest:
        return last_line
    payload = {"model": verdict.challenger.rpartition("/")[0], "verdict": verdict.to_json(), "digest": verdict.digest}
    return store.decisions.append(usecase, VERDICT, {**payload, **details}, actor, at)


def write_training(
    store: Store, usecase: str, label: str, verdict: Verdict, actor: str, at: datetime, **details: Any
) -> Decision:
    """Write into the chain who made a version, of which data, and what its gates said of it.

    Args:
        store: the chain.
        usecase: name of the use case.
        label: the registered version, for example ``dev-fraud/3``.
        verdict: of its gates.
        actor: who started the training; they cannot approve the version's promotion.
        at: business time of the training.
        more: what else the line says: the run, the digest of the data, the kind of work.
    """
    model, _, version = label.rpartition("/")
    payload = {"model": model, "version": version, "outcome": verdict.outcome, "verdict": verdict.digest}
    return store.decisions.append(usecase, TRAINING, {**payload, "champion": verdict.champion, **details}, actor, at)


def require_evidence(context: ReleaseContext, request: Request, change: PlannedChange) -> Decision:
    """The line that a promotion rests on.

    Raises:
        PromotionUnproven: naming what is missing, and what to do.
    """
    lines = _lines(context, *_DIGEST)
    matching_lines = [line for line in lines if line.payload.get(_DIGEST[line.kind]) == change.evidence]
    if not matching_lines:
        raise PromotionUnproven(
            f"no decision of {context.usecase.name} about {context.model} holds what this promotion rests on "
            f"({change.evidence[:16]}): it was made up, changed, or belongs to another use case or environment. "
            "Run incumbent compare, then promote what it stored"
        )
    line = matching_lines[-1]
    if line.kind == ORDER:
        _check_order(request, change, line)
    else:
        {VERDICT: _check_comparison, TRAINING: _check_gates}[line.kind](context, change, line)
    used_by = [other.seq for other in _lines(context, _USED) if other.payload.get("evidence") == change.evidence]
    if used_by:
        _refuse(line, f"it was used already, by decision {used_by[-1]}; a new comparison must say so again")
    return line


def _check_comparison(context: ReleaseContext, change: PlannedChange, line: Decision) -> None:
    verdict = Verdict.from_json(line.payload["verdict"])
    if verdict.digest != change.evidence:
        _refuse(line, "its verdict is not the one that its digest names; run incumbent audit verify")
    if verdict.kind != "comparison" or not verdict.promotes:
        _refuse(line, f"it says {verdict.outcome!r}, which promotes nobody")
    _check_versions(context, change, line, verdict.challenger, verdict.champion)
    newest = max(_lines(context, VERDICT), key=lambda other: (other.at, other.seq))
    newest_verdict = Verdict.from_json(newest.payload["verdict"])
    # The same answer to the same question, given again, takes nothing away: a person may have approved the first.
    if (newest_verdict.outcome, newest_verdict.challenger, newest_verdict.champion) != (
        "promote",
        verdict.challenger,
        verdict.champion,
    ):
        versions = f"{newest_verdict.challenger} beside {newest_verdict.champion}"
        _refuse(line, f"decision {newest.seq} came later and says {newest_verdict.outcome!r} of {versions}")
    _check_comparison_open(context, line)
    _check_age(context, line)


def _check_gates(context: ReleaseContext, change: PlannedChange, line: Decision) -> None:
    payload = line.payload
    if context.rules.takes_office != "after_gates" or payload["outcome"] != "pass":
        _refuse(line, "gates alone promote nobody here; the version must be compared in shadow first")
    _check_versions(context, change, line, f"{payload['model']}/{payload['version']}", payload["champion"])
    _check_age(context, line)


def _check_order(request: Request, change: PlannedChange, line: Decision) -> None:
    payload = line.payload
    owners = {str(owner).strip().casefold() for owner in payload["owners"]}
    if len(owners) != 2 or len(set(payload["keys"])) != 2:
        _refuse(line, "an emergency needs the keys of two people")
    if (payload["version"], payload["from_version"]) != (change.to_version, change.from_version):
        _refuse(line, f"it is about version {payload['version']} in the place of {payload['from_version']}")
    if request.at >= datetime.fromisoformat(payload["review_by"]):
        _refuse(line, f"it ran out at {payload['review_by']}; two people must order it again")


def _check_versions(
    context: ReleaseContext, change: PlannedChange, line: Decision, challenger: str, champion: str | None
) -> None:
    model, _, version = (champion or "").rpartition("/")
    from_version = version if model == context.model else None  # an external incumbent is no version of this model
    if challenger != f"{context.model}/{change.to_version}" or from_version != change.from_version:
        _refuse(line, f"it is about {challenger} in the place of {champion or 'nobody'}")


def _check_comparison_open(context: ReleaseContext, line: Decision) -> None:
    """Where a new plan or an eviction ended the comparison, what was seen in it counts no more."""
    name = line.payload.get("comparison")
    later_lines = [
        other for other in _lines(context, "comparison.closed", "comparison.reopened")
        if name is not None and other.seq > line.seq and other.payload.get("comparison") == name
    ]  # fmt: skip
    if later_lines and later_lines[-1].kind == "comparison.closed":
        closing = later_lines[-1]
        _refuse(
            line, f"its comparison ended as {closing.payload['outcome']!r} (decision {closing.seq}); open a new one"
        )


def _check_age(context: ReleaseContext, line: Decision) -> None:
    """Machine time rules staleness: a replayed period is of another time, and its verdict is young all the same."""
    if datetime.now(UTC) - line.recorded_at > context.rules.verdict_valid_for:
        days = context.rules.verdict_valid_for.total_seconds() / 86_400
        at = f"{line.recorded_at:%Y-%m-%d %H:%M} UTC"
        _refuse(line, f"it was recorded at {at} and is good for {days:g} days; compare again")


def _lines(context: ReleaseContext, *kinds: str) -> list[Decision]:
    """Lines of these kinds about this model of this use case, oldest first."""
    lines = context.store.decisions.list(context.usecase.name, kinds, limit=None)
    return [line for line in lines if line.payload.get("model") == context.model]


def _refuse(line: Decision, reason: str) -> None:
    raise PromotionUnproven(f"decision {line.seq} ({line.kind} {line.id}) does not carry this promotion: {reason}")
