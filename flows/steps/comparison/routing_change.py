"""One turn at the routing: what was asked for, done; then how the arms stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.errors import RoutingError
from bentos.promotion.change_freeze import why_held_now
from bentos.registry.routing_policy import RoutingPolicy, parse_arms
from bentos.release.routing_changes import RoutingDesk
from flows.steps.comparison.arm_figures import ArmReport, matured_by_arm, report_of
from flows.steps.comparison.ramp import Look, RampState, look, parse_steps, ramp_state, start_ramp, stay
from monitoring.core.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from flows.workspace.workspace import House


@dataclass(frozen=True)
class Turn:
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
class Routing:
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
    look: Look | None = None
    done: str = ""

    @property
    def moved(self) -> bool:
        """Whether this turn changed anything."""
        return bool(self.done) or (self.look is not None and self.look.event != "waits")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``arms`` has one object for each arm."""
        report = None if self.report is None else self.report.to_json()
        said: dict[str, Any] = {
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
            "look": None if self.look is None else _look_json(self.look),
        }
        if report is not None:
            p = report["sample_ratio"]["p"]
            arms = [arm | self.matured.get(str(arm["arm"]), {}) | {"srm_p": p} for arm in report.pop("arms")]
            said |= report | {"arms": arms}
        return said


def take_turn(house: House, turn: Turn, at: datetime) -> Routing:
    """Do what is asked for, and report.

    Raises:
        RoutingError: more than one thing was asked for, or it cannot be done.
        GuardError: the guard cannot be read.
    """
    asked = [name for name in ("share", "arms", "ramp") if getattr(turn, name) is not None]
    if len(asked) + turn.off > 1:
        raise RoutingError(f"ask for one thing at a time, not for {' and '.join([*asked, *['off'] * turn.off])}")
    desk = RoutingDesk(house.registry, house.store, house.usecase, house.model, house.actor)
    seen: Look | None = None
    done = ""
    if turn.off:
        desk.off(turn.reason, at=at)
        done = "the champion answers all"
    elif turn.share is not None:
        if not 0.0 <= turn.share <= 100.0:
            raise RoutingError(f"a share is a percentage from 0 to 100, not {turn.share:g}")
        if turn.share > 0.0:
            _require_open(desk, at)
        desk.set_share(turn.share / 100, at=at, draft=desk.draft(entity=turn.entity, reason=turn.reason))
        done = f"the challenger answers {turn.share:g} % of the entities"
    elif turn.arms is not None:
        _require_open(desk, at)
        desk.set_arms(parse_arms(turn.arms), at=at, draft=desk.draft(entity=turn.entity, reason=turn.reason))
        done = f"the arms are {turn.arms}"
    else:
        seen, done = _ramp(desk, turn, at)
    found = standing_of(house, at, seen, done)
    _alarm(desk, found, at)
    return found


def _require_open(desk: RoutingDesk, at: datetime) -> None:
    """Raise ``RoutingError`` while hours, weekday or a freeze hold what brings a challenger to clients."""
    if (held := why_held_now(desk.store, desk.usecase, at)) is not None:
        raise RoutingError(f"a challenger gets no traffic: {held}; `incumbent canary --off` always works")


def _alarm(desk: RoutingDesk, found: Routing, at: datetime) -> None:
    """A sample-ratio mismatch of the present policy becomes a decision of its own, once."""
    if found.policy is None or found.report is None or not found.report.ratio.mismatch:
        return
    told = [row for row in desk.history() if row.payload["event"] == "mismatch"]
    if found.policy.digest not in [row.payload["routing"] for row in told]:
        desk.note("mismatch", at=at, more={"routing": found.policy.digest, "figures": found.report.to_json()})


def _ramp(desk: RoutingDesk, turn: Turn, at: datetime) -> tuple[Look | None, str]:
    from flows.workspace.clock import machine_now

    done = ""
    if turn.ramp is not None:
        steps, every = parse_steps(turn.ramp), parse_duration(turn.every)
        before = ramp_state(desk.history())
        if before is None or before.ended:
            _require_open(desk, at)
        state = start_ramp(desk, steps, every, turn.guard, turn.reason, at, entity=turn.entity)
        resumed = before is not None and before.plan.ramp == state.plan.ramp
        done = f"the ramp {'goes on' if resumed else 'begins'} at {state.share:.0%}"
    else:
        found = ramp_state(desk.history())
        if found is None or found.ended:
            return None, ""
    if not turn.stay:
        return look(desk, machine_now()), done
    seconds = min(30.0, max(1.0, parse_duration(turn.every).total_seconds() / 20))
    return stay(desk, _told, seconds, machine_now), done


def _told(found: Look) -> None:
    import logging

    logging.getLogger("incumbent.ramp").info(
        "%s, challenger at %s: %s", found.event, f"{found.share:.0%}", "; ".join(found.reasons)
    )


def standing_of(house: House, as_of: datetime, seen: Look | None = None, done: str = "") -> Routing:
    """How the routing stands; nothing is changed."""
    desk = RoutingDesk(house.registry, house.store, house.usecase, house.model, house.actor)
    policy, history = desk.current(), desk.history()
    if policy is None:
        return Routing(house.model, None, None, {}, ramp_state(history), seen, done)
    same = [
        str(row.payload["digest"])
        for row in history
        if row.payload.get("policy", {}).get("salt") == policy.salt
    ]  # fmt: skip
    return Routing(
        house.model,
        policy,
        report_of(house.store, house.usecase, house.model, policy),
        matured_by_arm(house.store, house.usecase, sorted({*same, policy.digest}), as_of),
        ramp_state(history),
        seen,
        done,
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


def _look_json(found: Look) -> dict[str, Any]:
    checks = [
        {"name": c.name, "value": c.value, "threshold": c.threshold, "status": c.status, "detail": c.detail}
        for c in found.checks
    ]
    return {"event": found.event, "share": found.share, "reasons": list(found.reasons), "checks": checks}
