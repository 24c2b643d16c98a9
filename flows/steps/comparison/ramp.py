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
from bentos.release.routing_changes import RoutingDesk
from flows.steps.comparison.arm_figures import ArmReport, report_of
from monitoring.core.hashing import canonical_json
from monitoring.core.verdict import Check
from monitoring.errors import StoreUnavailable
from monitoring.rollout.ramp_guard import judge_guard, parse_guard, reasons_of, verdict_of
from monitoring.store import Decision

log = logging.getLogger("incumbent.ramp")

Event = Literal["waits", "stepped", "returned", "finished", "stopped", "resumed"]
_ENDED: Final = ("ramp.returned", "ramp.finished", "ramp.stopped")


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
class Look:
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

    event: Event
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
    started = [row for row in history if row.payload["event"] == "ramp.started"]
    if not started:
        return None
    first = started[-1]
    data = first.payload["plan"]
    every = timedelta(seconds=data["every_seconds"])
    plan = RampPlan(data["ramp"], tuple(data["steps"]), every, data["guard"], data["reason"])
    state = RampState(plan, 0, first.payload["digest"], first.recorded_at, "", first)
    for row in history:
        if row.seq <= first.seq:
            continue
        state = _after(state, row)
    return state


def _after(state: RampState, row: Decision) -> RampState:
    said, plan = row.payload, state.plan
    event = said["event"]
    if state.ended or "digest" not in said:
        return state
    if said.get("ramp") == plan.ramp and event == "ramp.step":
        return RampState(plan, int(said["step"]), said["digest"], row.recorded_at, "", row)
    ended = event if said.get("ramp") == plan.ramp and event in _ENDED else "ramp.stopped"
    return RampState(plan, state.step, said["digest"], row.recorded_at, ended, row)


def start_ramp(
    desk: RoutingDesk, steps: Sequence[float], every: timedelta, guard: str, reason: str, at: datetime, **draft: Any
) -> RampState:
    """Begin a ramp, or go on with one that is under way and asks for the same.

    Raises:
        RoutingError: another ramp is under way, or nobody is there to compare.
        GuardError: the guard cannot be read.
    """
    parse_guard(guard)
    wanted = RampPlan(secrets.token_hex(6), tuple(steps), every, guard, reason)
    here = ramp_state(desk.history())
    if here is not None and not here.ended:
        same = (here.plan.steps, here.plan.every, here.plan.guard) == (wanted.steps, wanted.every, wanted.guard)
        if not same:
            raise RoutingError("another ramp is under way; end it first with: incumbent canary --off")
        return here
    drawn = desk.draft(reason=reason, **draft)
    policy = RoutingPolicy(**{**vars(drawn), "guard": guard})
    desk.set_share(wanted.steps[0], at=at, draft=policy, event="ramp.started", ramp=wanted.ramp, plan=wanted.to_json())
    found = ramp_state(desk.history())
    assert found is not None
    return found


def look(desk: RoutingDesk, now: datetime) -> Look:
    """Look at the ramp once and do what is due. Safe to repeat, and to call from several places in turn.

    Args:
        desk: what to work with.
        now: machine time.

    Raises:
        RoutingError: no ramp was ever started.
        RegistryUnavailable, StoreUnavailable: nothing was done; look again.
    """
    state = ramp_state(desk.history())
    if state is None:
        raise RoutingError(f"no ramp of {desk.model} was started")
    if state.ended:
        _agree(desk, state)
        words = state.last.payload.get("reasons") or [state.last.payload.get("reason") or "it was ended"]
        event: Event = "finished" if state.ended == "ramp.finished" else "returned"
        event = "stopped" if state.ended == "ramp.stopped" else event
        return Look(event, float(state.last.payload["share"]), tuple(words))
    if (moved := _moved(desk, state)) is not None:
        return _end(desk, state, "stopped", now, [moved], [], None)
    resumed = _agree(desk, state)
    report = report_of(desk.store, desk.usecase, desk.model, _policy(state))
    checks = judge_guard(parse_guard(state.plan.guard), report.arms, report.p99_ms)
    verdict = verdict_of(checks)
    if verdict == "breached":
        reasons = reasons_of(checks, "FAIL")
        if report.ratio.mismatch:
            desk.note("mismatch", at=now, more={"routing": state.digest, "figures": report.to_json()})
        return _end(desk, state, "returned", now, reasons, checks, report)
    if report.refusals:
        return _end(desk, state, "returned", now, report.refusals, checks, report)
    if now - state.since < state.plan.every:
        return Look("resumed" if resumed else "waits", state.share, (_remaining(state, now),), tuple(checks), report)
    last = state.step == len(state.plan.steps) - 1
    # A share of nothing gives no evidence: the challenger is in shadow, and the next step only needs time.
    if state.share > 0 and (verdict == "waits" or not report.applied_everywhere):
        reasons = reasons_of(checks, "INSUFFICIENT") or list(report.problems) or ["not every replica applies it yet"]
        return Look("waits", state.share, tuple(reasons), tuple(checks), report)
    if not last and (held := why_held_now(desk.store, desk.usecase, now)) is not None:
        return Look("waits", state.share, (held,), tuple(checks), report)
    if last:
        return _end(desk, state, "finished", now, ["every step was taken and the guard held"], checks, report)
    return _step(desk, state, now, checks, report)


def stay(desk: RoutingDesk, notice: Callable[[Look], None], seconds: float, clock: Callable[[], datetime]) -> Look:
    """Look again and again until the ramp is over; an outage of database or registry is waited for.

    Args:
        desk: what to work with.
        notice: told of every look that did something, and of the first.
        seconds: pause between two looks.
        clock: machine time.
    """
    last: Look | None = None
    while True:
        try:
            found = look(desk, clock())
        except (RegistryUnavailable, StoreUnavailable) as exc:
            log.warning("the ramp cannot be looked at now: %s", exc)
        else:
            if last is None or found.event != "waits":
                notice(found)
            last = found
            if found.over:
                return found
        time.sleep(seconds)


def _step(desk: RoutingDesk, state: RampState, now: datetime, checks: Sequence[Check], report: ArmReport) -> Look:
    step = state.step + 1
    share = state.plan.steps[step]
    more = {"ramp": state.plan.ramp, "step": step, "figures": report.to_json(), "checks": _checks(checks)}
    desk.set_share(share, at=now, draft=_policy(state), event="ramp.step", **more)
    return Look("stepped", share, (f"the guard held at {state.share:.0%}",), tuple(checks), report)


def _end(
    desk: RoutingDesk,
    state: RampState,
    event: Literal["returned", "finished", "stopped"],
    now: datetime,
    reasons: Sequence[str],
    checks: Sequence[Check],
    report: ArmReport | None,
) -> Look:
    more: dict[str, Any] = {"ramp": state.plan.ramp, "reasons": list(reasons), "checks": _checks(checks)}
    if report is not None:
        more["figures"] = report.to_json()
    if event == "returned":
        desk.off("; ".join(reasons), at=now, event="ramp.returned", more=more, old=_policy(state))
        return Look(event, 0.0, tuple(reasons), tuple(checks), report)
    here = desk.current()
    share = 0.0 if here is None else here.share
    digest = state.digest if here is None else here.digest
    desk.note(f"ramp.{event}", at=now, more=more | {"share": share, "digest": digest})
    return Look(event, share, tuple(reasons), tuple(checks), report)


def _policy(state: RampState) -> RoutingPolicy:
    """The policy of the present step, from its decision."""
    return RoutingPolicy.from_text(canonical_json(state.last.payload["policy"]).decode())


def _agree(desk: RoutingDesk, state: RampState) -> bool:
    """Make the registry hold what the last decision says; whether it had to be told."""
    if "policy" not in state.last.payload:
        return False
    here, wanted = desk.current(), _policy(state)
    if here is not None and here.digest == wanted.digest:
        return False
    if state.ended and here is not None and here.created_at > wanted.created_at:
        return False  # somebody has begun something else since
    desk.registry.set_routing(desk.model, wanted)
    return True


def _moved(desk: RoutingDesk, state: RampState) -> str | None:
    """Whether roles or routing were changed by another hand while the ramp ran."""
    wanted = _policy(state)
    held = desk.registry.roles(desk.model)
    champion = held["champion"].version if "champion" in held else EXTERNAL
    challenger = held["challenger"].version if "challenger" in held else "nobody"
    if (champion, challenger) != (wanted.champion, wanted.challenger):
        return (
            f"the ramp was about {wanted.champion} against {wanted.challenger}, "
            f"and now it is {champion} against {challenger}"
        )
    here = desk.current()
    if here is not None and here.digest != wanted.digest and here.created_at > wanted.created_at:
        return "the routing policy was changed by another hand"
    return None


def _remaining(state: RampState, now: datetime) -> str:
    left = state.plan.every - (now - state.since)
    return f"at {state.share:.0%} for another {max(0.0, left.total_seconds()):.0f} s"


def _checks(checks: Sequence[Check]) -> list[Mapping[str, Any]]:
    names = ("name", "value", "threshold", "status", "detail")
    return [{name: getattr(check, name) for name in names} for check in checks]
