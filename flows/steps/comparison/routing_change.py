"""One turn at the routing: what was asked for, done; then how the arms stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.errors import RoutingError
from bentos.promotion.change_freeze import why_held_now
from bentos.registry.routing_policy import RoutingPolicy, parse_arms
from bentos.release.routing_changes import RoutingContext
from flows.steps.comparison.arm_figures import ArmReport, arm_report, matured_by_arm
from flows.steps.comparison.ramp import (
    RampCheck,
    RampState,
    check_ramp,
    follow_ramp,
    parse_steps,
    ramp_state,
    start_ramp,
)
from monitoring.core.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace


@dataclass(frozen=True)
class RoutingChange:
    """What is asked for; see :func:`flows.canary.canary`."""

    share: float | None = None
    arms: str | None = None
    ramp: str | None = None
    every: str = "30m"
    guard: str = ""
    off: bool = False
    entity: str | None = None
    reason: str = ""
    stay: bool = False


@dataclass(frozen=True)
class RoutingStatus:
    """How the routing of a model stands.

    Attributes:
        model: name in the registry.
        policy: what the registry holds; none where none was set.
        report: figures of its arms; none without a policy.
        matured: recall and precision by arm over all steps of the experiment.
        ramp: the latest ramp, if any.
        look: what this turn did to it, if anything.
        done: what this turn changed, in a sentence; empty if nothing.
    """

    model: str
    policy: RoutingPolicy | None
    report: ArmReport | None
    matured: dict[str, dict[str, Any]]
    ramp: RampState | None = None
    look: RampCheck | None = None
    done: str = ""

    @property
    def moved(self) -> bool:
        """Whether this turn changed anything."""
        return bool(self.done) or (self.look is not None and self.look.event != "waits")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``arms`` has one object for each arm."""
        report = None if self.report is None else self.report.to_json()
        data: dict[str, Any] = {
            "model": self.model,
            "mode": "shadow" if self.policy is None else self.policy.mode,
            "share": 0.0 if self.policy is None else self.policy.share,
            "digest": None if self.policy is None else self.policy.digest,
            "policy": None if self.policy is None else self.policy.to_json(),
            "arms": [],
            "sample_ratio": {"chi2": None, "p": None, "mismatch": False},
            "replicas": {} if self.report is None else dict(self.report.replicas),
            "problems": [] if self.report is None else list(self.report.problems),
            "ramp": None if self.ramp is None else _ramp_json(self.ramp),
            "look": None if self.look is None else _ramp_check_json(self.look),
        }
        if report is not None:
            p = report["sample_ratio"]["p"]
            arms = [arm | self.matured.get(str(arm["arm"]), {}) | {"srm_p": p} for arm in report.pop("arms")]
            data |= report | {"arms": arms}
        return data


def change_routing(workspace: Workspace, change: RoutingChange, at: datetime) -> RoutingStatus:
    """Do what is asked for, and report.

    Raises:
        RoutingError: more than one thing was asked for, or it cannot be done.
        GuardError: the guard cannot be read.
    """
    requests = [name for name in ("share", "arms", "ramp") if getattr(change, name) is not None]
    if len(requests) + change.off > 1:
        raise RoutingError(f"ask for one thing at a time, not for {' and '.join([*requests, *['off'] * change.off])}")
    context = RoutingContext(workspace.registry, workspace.store, workspace.usecase, workspace.model, workspace.actor)
    ramp_check: RampCheck | None = None
    action_text = ""
    if change.off:
        context.off(change.reason, at=at)
        action_text = "the champion answers all"
    elif change.share is not None:
        if not 0.0 <= change.share <= 100.0:
            raise RoutingError(f"a share is a percentage from 0 to 100, not {change.share:g}")
        if change.share > 0.0:
            _require_no_hold(context, at)
        context.set_share(change.share / 100, at=at, draft=context.draft(entity=change.entity, reason=change.reason))
        action_text = f"the challenger answers {change.share:g} % of the entities"
    elif change.arms is not None:
        _require_no_hold(context, at)
        context.set_arms(
            parse_arms(change.arms), at=at, draft=context.draft(entity=change.entity, reason=change.reason)
        )
        action_text = f"the arms are {change.arms}"
    else:
        ramp_check, action_text = _change_ramp(context, change, at)
    status = routing_status(workspace, at, ramp_check, action_text)
    _record_mismatch(context, status, at)
    return status


def _require_no_hold(context: RoutingContext, at: datetime) -> None:
    """Raise ``RoutingError`` while hours, weekday or a freeze hold what brings a challenger to clients."""
    if (hold_reason := why_held_now(context.store, context.usecase, at)) is not None:
        raise RoutingError(f"a challenger gets no traffic: {hold_reason}; `incumbent canary --off` always works")


def _record_mismatch(context: RoutingContext, status: RoutingStatus, at: datetime) -> None:
    """A sample-ratio mismatch of the present policy becomes a decision of its own, once."""
    if status.policy is None or status.report is None or not status.report.ratio.mismatch:
        return
    mismatches = [row for row in context.history() if row.payload["event"] == "mismatch"]
    if status.policy.digest not in [row.payload["routing"] for row in mismatches]:
        context.note("mismatch", at=at, details={"routing": status.policy.digest, "figures": status.report.to_json()})


def _change_ramp(context: RoutingContext, change: RoutingChange, at: datetime) -> tuple[RampCheck | None, str]:
    from flows.workspace.clock import machine_now

    action_text = ""
    if change.ramp is not None:
        steps, every = parse_steps(change.ramp), parse_duration(change.every)
        previous = ramp_state(context.history())
        if previous is None or previous.ended:
            _require_no_hold(context, at)
        state = start_ramp(context, steps, every, change.guard, change.reason, at, entity=change.entity)
        goes_on = previous is not None and previous.plan.ramp == state.plan.ramp
        action_text = f"the ramp {'goes on' if goes_on else 'begins'} at {state.share:.0%}"
    else:
        current = ramp_state(context.history())
        if current is None or current.ended:
            return None, ""
    if not change.stay:
        return check_ramp(context, machine_now()), action_text
    seconds = min(30.0, max(1.0, parse_duration(change.every).total_seconds() / 20))
    return follow_ramp(context, _log_check, seconds, machine_now), action_text


def _log_check(ramp_check: RampCheck) -> None:
    import logging

    logging.getLogger("incumbent.ramp").info(
        "%s, challenger at %s: %s", ramp_check.event, f"{ramp_check.share:.0%}", "; ".join(ramp_check.reasons)
    )


def routing_status(
    workspace: Workspace, as_of: datetime, ramp_check: RampCheck | None = None, action_text: str = ""
) -> RoutingStatus:
    """How the routing stands; nothing is changed."""
    context = RoutingContext(workspace.registry, workspace.store, workspace.usecase, workspace.model, workspace.actor)
    policy, history = context.current(), context.history()
    if policy is None:
        return RoutingStatus(workspace.model, None, None, {}, ramp_state(history), ramp_check, action_text)
    digests = [
        str(row.payload["digest"])
        for row in history
        if row.payload.get("policy", {}).get("salt") == policy.salt
    ]  # fmt: skip
    return RoutingStatus(
        workspace.model,
        policy,
        arm_report(workspace.store, workspace.usecase, workspace.model, policy),
        matured_by_arm(workspace.store, workspace.usecase, sorted({*digests, policy.digest}), as_of),
        ramp_state(history),
        ramp_check,
        action_text,
    )


def _ramp_json(state: RampState) -> dict[str, Any]:
    return {
        "id": state.plan.ramp,
        "steps": list(state.plan.steps),
        "every": format_duration(state.plan.every),
        "guard": state.plan.guard,
        "step": state.step,
        "share": 0.0 if state.ended in ("ramp.returned",) else state.share,
        "since": state.since.isoformat(),
        "state": state.ended.removeprefix("ramp.") or "running",
        "reasons": list(state.last.payload.get("reasons", ())),
    }


def _ramp_check_json(ramp_check: RampCheck) -> dict[str, Any]:
    checks = [
        {"name": c.name, "value": c.value, "threshold": c.threshold, "status": c.status, "detail": c.detail}
        for c in ramp_check.checks
    ]
    return {"event": ramp_check.event, "share": ramp_check.share, "reasons": list(ramp_check.reasons), "checks": checks}
