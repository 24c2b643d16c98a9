"""What a promotion rests on: one line of the chain of decisions, looked up under the lease before anything is planned.

A comparison's verdict     ``comparison.verdict``   the newest word on these two versions, young enough, unused
the gates' verdict         ``training``             only where the use case lets models take office after their gates
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
    from bentos.promotion.request import Request
    from bentos.promotion.state_machine import Desk
    from monitoring.store import Decision, Store

VERDICT: Final = "comparison.verdict"
TRAINING: Final = "training"
ORDER: Final = "emergency.ordered"
_DIGEST: Final = {VERDICT: "digest", TRAINING: "verdict", ORDER: "digest"}
_USED: Final = "promotion.champion_set"


def enter_verdict(store: Store, usecase: str, verdict: Verdict, actor: str, at: datetime, **more: Any) -> Decision:
    """Write the verdict of a comparison into the chain; the same one again, right after itself, is one line.

    Args:
        store: the chain.
        usecase: name of the use case.
        verdict: what was judged; its challenger names the model.
        actor, at: who looked, and the business time of the look.
        more: what else the line says, such as the plan and the digest of the rows.
    """
    last = store.decisions.last(usecase, (VERDICT,))
    if last is not None and last.payload["digest"] == verdict.digest:
        return last
    said = {"model": verdict.challenger.rpartition("/")[0], "verdict": verdict.to_json(), "digest": verdict.digest}
    return store.decisions.append(usecase, VERDICT, {**said, **more}, actor, at)


def enter_training(
    store: Store, usecase: str, label: str, verdict: Verdict, actor: str, at: datetime, **more: Any
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
    said = {"model": model, "version": version, "outcome": verdict.outcome, "verdict": verdict.digest}
    return store.decisions.append(usecase, TRAINING, {**said, "champion": verdict.champion, **more}, actor, at)


def require_grounds(desk: Desk, wanted: Request) -> Decision:
    """The line that a promotion rests on.

    Raises:
        PromotionUnproven: naming what is missing, and what to do.
    """
    lines = _lines(desk, *_DIGEST)
    found = [line for line in lines if line.payload.get(_DIGEST[line.kind]) == wanted.evidence]
    if not found:
        raise PromotionUnproven(
            f"no decision of {desk.usecase} about {desk.model} holds what this promotion rests on "
            f"({wanted.evidence[:16]}): it was made up, changed, or belongs to another use case or environment. "
            "Run incumbent compare, then promote what it stored"
        )
    line = found[-1]
    look = {VERDICT: _compared, TRAINING: _gated, ORDER: _ordered}[line.kind]
    look(desk, wanted, line)
    used = [one.seq for one in _lines(desk, _USED) if one.payload.get("evidence") == wanted.evidence]
    if used:
        _refuse(line, f"it was used already, by decision {used[-1]}; a new comparison must say so again")
    return line


def _compared(desk: Desk, wanted: Request, line: Decision) -> None:
    verdict = Verdict.from_json(line.payload["verdict"])
    if verdict.digest != wanted.evidence:
        _refuse(line, "its verdict is not the one that its digest names; run incumbent audit verify")
    if verdict.kind != "comparison" or not verdict.promotes:
        _refuse(line, f"it says {verdict.outcome!r}, which promotes nobody")
    _same_versions(desk, wanted, line, verdict.challenger, verdict.champion)
    newest = max(_lines(desk, VERDICT), key=lambda one: (one.at, one.seq))
    later = Verdict.from_json(newest.payload["verdict"])
    # The same answer to the same question, given again, takes nothing away: a person may have approved the first.
    if (later.outcome, later.challenger, later.champion) != ("promote", verdict.challenger, verdict.champion):
        versions = f"{later.challenger} beside {later.champion}"
        _refuse(line, f"decision {newest.seq} came later and says {later.outcome!r} of {versions}")
    _comparison_goes_on(desk, line)
    _young(desk, line)


def _gated(desk: Desk, wanted: Request, line: Decision) -> None:
    said = line.payload
    if desk.rules.takes_office != "after_gates" or said["outcome"] != "pass":
        _refuse(line, "gates alone promote nobody here; the version must be compared in shadow first")
    _same_versions(desk, wanted, line, f"{said['model']}/{said['version']}", said["champion"])
    _young(desk, line)


def _ordered(desk: Desk, wanted: Request, line: Decision) -> None:
    said = line.payload
    owners = {str(owner).strip().casefold() for owner in said["owners"]}
    if len(owners) != 2 or len(set(said["keys"])) != 2:
        _refuse(line, "an emergency needs the keys of two people")
    if (said["version"], said["from_version"]) != (wanted.to_version, wanted.from_version):
        _refuse(line, f"it is about version {said['version']} in the place of {said['from_version']}")
    if wanted.at >= datetime.fromisoformat(said["review_by"]):
        _refuse(line, f"it ran out at {said['review_by']}; two people must order it again")


def _same_versions(desk: Desk, wanted: Request, line: Decision, challenger: str, champion: str | None) -> None:
    model, _, version = (champion or "").rpartition("/")
    old = version if model == desk.model else None  # an external incumbent is no version of this model
    if challenger != f"{desk.model}/{wanted.to_version}" or old != wanted.from_version:
        _refuse(line, f"it is about {challenger} in the place of {champion or 'nobody'}")


def _comparison_goes_on(desk: Desk, line: Decision) -> None:
    """Where a new plan or an eviction ended the comparison, what was seen in it counts no more."""
    name = line.payload.get("comparison")
    since = [
        one for one in _lines(desk, "comparison.closed", "comparison.reopened")
        if name is not None and one.seq > line.seq and one.payload.get("comparison") == name
    ]  # fmt: skip
    if since and since[-1].kind == "comparison.closed":
        ended = since[-1]
        _refuse(line, f"its comparison ended as {ended.payload['outcome']!r} (decision {ended.seq}); open a new one")


def _young(desk: Desk, line: Decision) -> None:
    """Machine time rules staleness: a replayed period is of another time, and its verdict is young all the same."""
    if datetime.now(UTC) - line.recorded_at > desk.rules.verdict_valid_for:
        days = desk.rules.verdict_valid_for.total_seconds() / 86_400
        at = f"{line.recorded_at:%Y-%m-%d %H:%M} UTC"
        _refuse(line, f"it was recorded at {at} and is good for {days:g} days; compare again")


def _lines(desk: Desk, *kinds: str) -> list[Decision]:
    """Lines of these kinds about this model of this use case, oldest first."""
    every = desk.store.decisions.list(desk.usecase, kinds, limit=None)
    return [line for line in every if line.payload.get("model") == desk.model]


def _refuse(line: Decision, why: str) -> None:
    raise PromotionUnproven(f"decision {line.seq} ({line.kind} {line.id}) does not carry this promotion: {why}")
