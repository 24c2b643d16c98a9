"""A ramp: give the challenger more and more traffic by itself, while the guard holds.

Where it stands follows from the chain of decisions alone, so a process that died is succeeded by any
other: it reads the chain, makes the registry agree with it, and goes on.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

from bentos.errors import RegistryUnavailable, RoutingError
from bentos.promotion.change_freeze import why_held_now
from bentos.registry.routing_policy import EXTERNAL, RoutingPolicy
from bentos.release.routing_changes import RoutingContext
from flows.steps.comparison.arm_figures import ArmReport, arm_report
from monitoring.core.hashing import canonical_json
from monitoring.core.verdict import Check
from monitoring.errors import StoreUnavailable
from monitoring.rollout.ramp_guard import guard_verdict, judge_guard, parse_guard, reasons_of
from monitoring.store import Decision

log = logging.getLogger("incumbent.ramp")

RampEvent = Literal["waits", "stepped", "returned", "finished", "stopped", "resumed"]
_END_EVENTS: Final = ("ramp.returned", "ramp.finished", "ramp.stopped")


@dataclass(frozen=True)
class RampPlan:
    """What a ramp is to do.

    Attributes:
        ramp: its id.
        steps: shares (0..1), ascending; the first is taken at once.
        every: shortest time on a step.
        guard: conditions; see :mod:`monitoring.rollout.ramp_guard`.
        reason: why, for the record.
    """

    ramp: str
    steps: tuple[float, ...]
    every: timedelta
    guard: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "ramp": self.ramp,
            "steps": list(self.steps),
            "every_seconds": self.every.total_seconds(),
            "guard": self.guard,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class RampState:
    """Where a ramp stands.

    Attributes:
        plan: what it does.
        step: index of the present step.
        digest: of the policy of that step.
        since: machine time at which the step began.
        ended: why it is over; empty while it runs.
        last: the latest decision of it.
    """

    plan: RampPlan
    step: int
    digest: str
    since: datetime
    ended: str
    last: Decision

    @property
    def share(self) -> float:
        """Share of the present step."""
        return self.plan.steps[self.step]


@dataclass(frozen=True)
class RampCheck:
    """What one look at a ramp did.

    Attributes:
        event: ``stepped``, ``returned`` (the guard did not hold), ``finished``, ``stopped`` (another hand
            changed the routing), ``waits`` (nothing to do yet), ``resumed`` (the registry was brought
            in line with the decisions).
        share: of the challenger from now on.
        reasons: plain sentences.
        checks: of the guard.
        report: figures of the arms.
    """

    event: RampEvent
    share: float
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    report: ArmReport | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to look at."""
        return self.event in ("returned", "finished", "stopped")


def parse_steps(text: str) -> tuple[float, ...]:
    """``1,5,25,50,100`` (percent) as shares; raises ``RoutingError`` unless they ascend within 0 to 100."""
    try:
        steps = tuple(float(part) / 100 for part in text.split(","))
    except ValueError as exc:
        raise RoutingError(f"{text!r} is no ramp; write percentages such as 1,5,25,50,100") from exc
    if any(not 0.0 <= step <= 1.0 for step in steps) or any(b <= a for a, b in pairwise(steps)):
        raise RoutingError(f"the steps of a ramp ascend within 0 to 100; found {text!r}")
    return steps


def ramp_state(history: Sequence[Decision]) -> RampState | None:
    """Where the latest ramp stands, by the decisions; none without one."""
    starts = [row for row in history if row.payload["event"] == "ramp.started"]
    if not starts:
        return None
    first = starts[-1]
    data = first.payload["plan"]
    every = timedelta(seconds=data["every_seconds"])
    plan = RampPlan(data["ramp"], tuple(data["steps"]), every, data["guard"], data["reason"])
    state = RampState(plan, 0, first.payload["digest"], first.recorded_at, "", first)
    for row in history:
        if row.seq <= first.seq:
            continue
        state = _apply_decision(state, row)
    return state


def _apply_decision(state: RampState, row: Decision) -> RampState:
    payload, plan = row.payload, state.plan
    event = payload["event"]
    if state.ended or "digest" not in payload:
        return state
    if payload.get("ramp") == plan.ramp and event == "ramp.step":
        return RampState(plan, int(payload["step"]), payload["digest"], row.recorded_at, "", row)
    end_event = event if payload.get("ramp") == plan.ramp and event in _END_EVENTS else "ramp.stopped"
    return RampState(plan, state.step, payload["digest"], row.recorded_at, end_event, row)


def start_ramp(
    context: RoutingContext,
    steps: Sequence[float],
    every: timedelta,
    guard: str,
    reason: str,
    at: datetime,
    **draft: Any,
) -> RampState:
    """Begin a ramp, or go on with one that is under way and asks for the same.

    Raises:
        RoutingError: another ramp is under way, or nobody is there to compare.
        GuardError: the guard cannot be read.
    """
    parse_guard(guard)
    plan = RampPlan(secrets.token_hex(6), tuple(steps), every, guard, reason)
    running = ramp_state(context.history())
    if running is not None and not running.ended:
        same_plan = (running.plan.steps, running.plan.every, running.plan.guard) == (plan.steps, plan.every, plan.guard)
        if not same_plan:
            raise RoutingError("another ramp is under way; end it first with: incumbent canary --off")
        return running
    draft_policy = context.draft(reason=reason, **draft)
    policy = RoutingPolicy(**{**vars(draft_policy), "guard": guard})
    context.set_share(plan.steps[0], at=at, draft=policy, event="ramp.started", ramp=plan.ramp, plan=plan.to_json())
    state = ramp_state(context.history())
    assert state is not None
    return state


def check_ramp(context: RoutingContext, now: datetime) -> RampCheck:
    """Look at the ramp once and do what is due. Safe to repeat, and to call from several places in turn.

    Args:
        desk: what to work with.
        now: machine time.

    Raises:
        RoutingError: no ramp was ever started.
        RegistryUnavailable, StoreUnavailable: nothing was done; look again.
    """
    state = ramp_state(context.history())
    if state is None:
        raise RoutingError(f"no ramp of {context.model} was started")
    if state.ended:
        _restore_policy(context, state)
        end_reasons = state.last.payload.get("reasons") or [state.last.payload.get("reason") or "it was ended"]
        event: RampEvent = "finished" if state.ended == "ramp.finished" else "returned"
        event = "stopped" if state.ended == "ramp.stopped" else event
        return RampCheck(event, float(state.last.payload["share"]), tuple(end_reasons))
    if (change := _outside_change(context, state)) is not None:
        return _end_ramp(context, state, "stopped", now, [change], [], None)
    was_restored = _restore_policy(context, state)
    report = arm_report(context.store, context.usecase, context.model, _policy(state))
    checks = judge_guard(parse_guard(state.plan.guard), report.arms, report.p99_ms)
    verdict = guard_verdict(checks)
    if verdict == "breached":
        reasons = reasons_of(checks, "FAIL")
        if report.ratio.mismatch:
            context.note("mismatch", at=now, details={"routing": state.digest, "figures": report.to_json()})
        return _end_ramp(context, state, "returned", now, reasons, checks, report)
    if report.refusals:
        return _end_ramp(context, state, "returned", now, report.refusals, checks, report)
    if now - state.since < state.plan.every:
        return RampCheck(
            "resumed" if was_restored else "waits", state.share, (_remaining(state, now),), tuple(checks), report
        )
    last = state.step == len(state.plan.steps) - 1
    # A share of nothing gives no evidence: the challenger is in shadow, and the next step only needs time.
    if state.share > 0 and (verdict == "waits" or not report.applied_everywhere):
        reasons = reasons_of(checks, "INSUFFICIENT") or list(report.problems) or ["not every replica applies it yet"]
        return RampCheck("waits", state.share, tuple(reasons), tuple(checks), report)
    if not last and (hold_reason := why_held_now(context.store, context.usecase, now)) is not None:
        return RampCheck("waits", state.share, (hold_reason,), tuple(checks), report)
    if last:
        return _end_ramp(context, state, "finished", now, ["every step was taken and the guard held"], checks, report)
    return _take_step(context, state, now, checks, report)


def follow_ramp(
    context: RoutingContext, notice: Callable[[RampCheck], None], seconds: float, clock: Callable[[], datetime]
) -> RampCheck:
    """Look again and again until the ramp is over; an outage of database or registry is waited for.

    Args:
        desk: what to work with.
        notice: told of every look that did something, and of the first.
        seconds: pause between two looks.
        clock: machine time.
    """
    last_check: RampCheck | None = None
    while True:
        try:
            ramp_check = check_ramp(context, clock())
        except (RegistryUnavailable, StoreUnavailable) as exc:
            log.warning("the ramp cannot be looked at now: %s", exc)
        else:
            if last_check is None or ramp_check.event != "waits":
                notice(ramp_check)
            last_check = ramp_check
            if ramp_check.over:
                return ramp_check
        time.sleep(seconds)


def _take_step(
    context: RoutingContext, state: RampState, now: datetime, checks: Sequence[Check], report: ArmReport
) -> RampCheck:
    step = state.step + 1
    share = state.plan.steps[step]
    more = {"ramp": state.plan.ramp, "step": step, "figures": report.to_json(), "checks": _checks_json(checks)}
    context.set_share(share, at=now, draft=_policy(state), event="ramp.step", **more)
    return RampCheck("stepped", share, (f"the guard held at {state.share:.0%}",), tuple(checks), report)


def _end_ramp(
    context: RoutingContext,
    state: RampState,
    event: Literal["returned", "finished", "stopped"],
    now: datetime,
    reasons: Sequence[str],
    checks: Sequence[Check],
    report: ArmReport | None,
) -> RampCheck:
    more: dict[str, Any] = {"ramp": state.plan.ramp, "reasons": list(reasons), "checks": _checks_json(checks)}
    if report is not None:
        more["figures"] = report.to_json()
    if event == "returned":
        context.off("; ".join(reasons), at=now, event="ramp.returned", details=more, base=_policy(state))
        return RampCheck(event, 0.0, tuple(reasons), tuple(checks), report)
    policy = context.current()
    share = 0.0 if policy is None else policy.share
    digest = state.digest if policy is None else policy.digest
    context.note(f"ramp.{event}", at=now, details=more | {"share": share, "digest": digest})
    return RampCheck(event, share, tuple(reasons), tuple(checks), report)


def _policy(state: RampState) -> RoutingPolicy:
    """The policy of the present step, from its decision."""
    return RoutingPolicy.from_text(canonical_json(state.last.payload["policy"]).decode())


def _restore_policy(context: RoutingContext, state: RampState) -> bool:
    """Make the registry hold what the last decision says; whether it had to be told."""
    if "policy" not in state.last.payload:
        return False
    current, policy = context.current(), _policy(state)
    if current is not None and current.digest == policy.digest:
        return False
    if state.ended and current is not None and current.created_at > policy.created_at:
        return False  # somebody has begun something else since
    context.registry.set_routing(context.model, policy)
    return True


def _outside_change(context: RoutingContext, state: RampState) -> str | None:
    """Whether roles or routing were changed by another hand while the ramp ran."""
    policy = _policy(state)
    roles = context.registry.roles(context.model)
    champion = roles["champion"].version if "champion" in roles else EXTERNAL
    challenger = roles["challenger"].version if "challenger" in roles else "nobody"
    if (champion, challenger) != (policy.champion, policy.challenger):
        return (
            f"the ramp was about {policy.champion} against {policy.challenger}, "
            f"and now it is {champion} against {challenger}"
        )
    current = context.current()
    if current is not None and current.digest != policy.digest and current.created_at > policy.created_at:
        return "the routing policy was changed by another hand"
    return None


def _remaining(state: RampState, now: datetime) -> str:
    remaining = state.plan.every - (now - state.since)
    return f"at {state.share:.0%} for another {max(0.0, remaining.total_seconds()):.0f} s"


def _checks_json(checks: Sequence[Check]) -> list[Mapping[str, Any]]:
    names = ("name", "value", "threshold", "status", "detail")
    return [{name: getattr(check, name) for name in names} for check in checks]
