"""What each arm of a routing policy did: counts, failures, units, and what matured labels say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bentos.registry.routing_policy import CHALLENGER, EXTERNAL, RoutingPolicy
from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.drift.recent_cost import add_labels_so_far
from monitoring.core.calendar import TimeWindow
from monitoring.rollout.ramp_guard import ArmFigures, Ratio, challenger_figures, check_sample_ratio, to_json
from monitoring.store import Replica, Store
from monitoring.store.predictions.arm_counts import ArmCount


@dataclass(frozen=True)
class ArmReport:
    """One policy, its arms and its replicas.

    Attributes:
        policy: what was applied.
        arms: figures of each arm; where the champion has no arm, what it says in shadow.
        ratio: the sample-ratio check over units.
        p99_ms: time that the challenger takes for its part of a batch, of the slowest replica.
        replicas: those that live, by name, with the digest and share that each applies.
        problems: why a replica does not apply the policy.
        refusals: replicas that refuse the challenger for good.
    """

    policy: RoutingPolicy
    arms: tuple[ArmFigures, ...]
    ratio: Ratio
    p99_ms: float | None
    replicas: Mapping[str, Mapping[str, Any]]
    problems: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def applied_everywhere(self) -> bool:
        """Whether every live replica applies exactly this policy."""
        return bool(self.replicas) and all(
            state["digest"] == self.policy.digest and state["applied"] for state in self.replicas.values()
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite statistic (a unit in an arm without a share) is none."""
        chi2 = self.ratio.chi2 if self.ratio.p else None
        return {
            "digest": self.policy.digest,
            "arms": list(to_json(self.arms)),
            **{name: figure.value for name, figure in challenger_figures(self.arms).items()},
            "p99_ms": self.p99_ms,
            "sample_ratio": {"chi2": chi2, "p": self.ratio.p, "mismatch": self.ratio.mismatch},
        }


def arm_report(store: Store, usecase: UseCase, model: str, policy: RoutingPolicy) -> ArmReport:
    """Everything that the database knows about a policy."""
    digest = policy.digest
    counts = store.arms.counts(usecase.name, [digest])
    units = store.arms.units(usecase.name, [digest], policy.entity) if counts else {}
    arms = [_figures(policy, arm.name, counts, units) for arm in policy.arms]
    ratio = check_sample_ratio(arms)
    if not any(arm.events for arm in arms if not arm.challenger):
        events, alerts = store.arms.shadow_counts(usecase.name, [digest], champion_label(usecase, model, policy))
        arms.append(ArmFigures("champion in shadow", False, 0.0, events, alerts))
    replicas = {replica.replica: _routing_state(replica) for replica in store.serving.live(usecase.name)}
    slowest = [state["p99_ms"] for state in replicas.values() if state["p99_ms"] is not None]
    problems = [f"{name}: {state['problem']}" for name, state in replicas.items() if state["problem"]]
    refusals = [text for text in problems if "is refused" in text]
    return ArmReport(policy, tuple(arms), ratio, max(slowest, default=None), replicas, tuple(problems), tuple(refusals))


def champion_label(usecase: UseCase, model: str, policy: RoutingPolicy) -> str:
    """Label of the policy's champion, as the log names it."""
    if policy.champion == EXTERNAL and usecase.incumbent is not None:
        return f"{usecase.incumbent.column}/0"
    return f"{model}/{policy.champion}"


def matured_by_arm(
    store: Store, usecase: UseCase, digests: Sequence[str], as_of: datetime
) -> dict[str, dict[str, Any]]:
    """Recall and precision of each arm on matured events.

    Arms hold different entities, so these figures compare like those of any randomised trial: fair, and
    far noisier than the paired comparison of the shadow rows.
    """
    until = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    window = TimeWindow(datetime.fromtimestamp(0, tz=until.tzinfo), until)
    rows = store.arms.answers(usecase.name, digests, window)
    if rows.empty:
        return {}
    labels = store.labels.known(usecase.name, as_of, usecase.label, window)
    rows = add_labels_so_far(rows, labels, usecase.label, blocked_events(store, usecase, window, as_of))
    # What was flagged and blocked has no label, so neither figure could be told of what is left.
    all_labelled = not usecase.intervention.blocks_flagged
    figures: dict[str, dict[str, Any]] = {}
    for arm, part in rows.groupby("arm"):
        positive, flagged = part["y"] == 1, part["decision"]
        hits = int((positive & flagged).sum())
        figures[str(arm)] = {
            "matured": len(part),
            "positives": int(positive.sum()),
            "recall": hits / int(positive.sum()) if all_labelled and positive.any() else None,
            "precision": hits / int(flagged.sum()) if all_labelled and flagged.any() else None,
        }
    return figures


def _figures(policy: RoutingPolicy, name: str, counts: Sequence[ArmCount], units: Mapping[str, int]) -> ArmFigures:
    arm = next(arm for arm in policy.arms if arm.name == name)
    challenger = arm.role == CHALLENGER
    rows = [count for count in counts if count.arm == name]
    return ArmFigures(
        name=name,
        challenger=challenger,
        share=arm.share,
        events=sum(row.events for row in rows),
        alerts=sum(row.alerts for row in rows),
        failures=sum(row.events for row in rows if row.alias != CHALLENGER) if challenger else 0,
        units=units.get(name, 0),
    )


def _routing_state(replica: Replica) -> dict[str, Any]:
    """What a heartbeat says about routing."""
    detail = json.loads(replica.detail)
    routing = detail.get("routing", {})
    return {
        "version": replica.version,
        "digest": routing.get("digest"),
        "share": routing.get("share", 0.0),
        "applied": routing.get("applied", False),
        "problem": routing.get("problem", ""),
        "p99_ms": detail.get("challenger_p99_ms"),
        "age": round(replica.age, 1),
    }
