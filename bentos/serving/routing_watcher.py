"""Whether the challenger may answer its share here, and if not, why the champion answers all.

A client never feels any of it: a policy that cannot be applied is counted and shown, nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bentos.errors import RoutingError
from bentos.registry.ports import ModelRef, Role
from bentos.registry.routing_policy import EXTERNAL, Router, RoutingPolicy
from bentos.scoring.active_models import ActiveModel, ChallengerArm, ModelHolder
from bentos.serving.version_check import Examiner
from bentos.windows.memory import WindowState
from monitoring.metrics import serving as metrics

log = logging.getLogger("incumbent.routing")


class BuiltWindows(Protocol):
    """The window state in use, or none before the first is built."""

    @property
    def state(self) -> WindowState | None:
        """See :class:`bentos.serving.window_keeper.WindowKeeper`."""
        ...


@dataclass(frozen=True)
class RoutingView:
    """The routing policy as seen here.

    Attributes:
        policy: the latest one that could be read; none where none is set.
        applied: whether the challenger answers its share.
        problem: why it does not although the policy says so; empty otherwise.
    """

    policy: RoutingPolicy | None = None
    applied: bool = False
    problem: str = ""

    @property
    def share(self) -> float:
        """Share of the entities that the challenger answers here now."""
        return self.policy.share if self.applied and self.policy is not None else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without what only the journal needs."""
        policy = self.policy
        data: dict[str, Any] = {
            "mode": "shadow" if policy is None else policy.mode,
            "digest": None if policy is None else policy.digest,
            "share": self.share,
            "applied": self.applied,
        }
        if policy is not None:
            data["arms"] = {arm.name: {"role": arm.role, "share": arm.share} for arm in policy.arms}
            data |= {"champion": policy.champion, "challenger": policy.challenger, "entity": policy.entity}
        return data | ({"problem": self.problem} if self.problem else {})


class Forker:
    """Makes the other arm out of the registry's policy. Used by one thread.

    Args:
        examiner: says which versions may serve.
        windows: whose state must hold the challenger's windows.
    """

    def __init__(self, examiner: Examiner, windows: BuiltWindows) -> None:
        self._examiner = examiner
        self._windows = windows
        self._text: str | None = None
        self._policy: RoutingPolicy | None = None
        self._unreadable = ""
        self._router: Router | None = None
        self._challenger_pair: tuple[ModelHolder, ModelHolder] | None = None
        self._fork: ChallengerArm | None = None
        self._logged_problem = ""

    def returned_from(self, holder: ActiveModel | None) -> bool:
        """Whether the external incumbent was put back in the place of this holder."""
        policy = self._policy
        return holder is not None and policy is not None and (policy.mode, policy.challenger) == (
            EXTERNAL, holder.ref.version,
        )  # fmt: skip

    def read(self, text: str | None) -> None:
        """Take the registry's policy; one that cannot be read counts as none, and is shown."""
        if text == self._text:
            return
        self._text, self._policy, self._router, self._unreadable = text, None, None, ""
        try:
            self._policy = None if text is None else RoutingPolicy.from_text(text)
            self._router = None if self._policy is None or not self._policy.routes else Router(self._policy)
        except RoutingError as exc:
            self._unreadable = str(exc)

    def fork(self, holder: ActiveModel, roles: Mapping[Role, ModelRef]) -> tuple[ChallengerArm | None, RoutingView]:
        """The other arm beside a champion, or why there is none."""
        problem = self._unreadable
        fork: ChallengerArm | None = None
        if self._router is not None:
            challenger = self._challenger(self._router.policy, holder, roles)
            if isinstance(challenger, str):
                problem = challenger
            else:
                fork = self._make_arm(self._router, challenger)
        self._fork = fork
        metrics.ROUTED_SHARE.set(0.0 if fork is None else fork.router.policy.share)
        metrics.ROUTING_SUSPENDED.set(1 if problem else 0)
        if problem and problem != self._logged_problem:
            log.warning("the champion answers all: %s", problem)
        self._logged_problem = problem
        return fork, RoutingView(self._policy, fork is not None, problem)

    def _challenger(
        self, policy: RoutingPolicy, holder: ActiveModel, roles: Mapping[Role, ModelRef]
    ) -> ModelHolder | str:
        """The loaded challenger that the policy is about, or why it cannot answer."""
        champion_version = EXTERNAL if holder.alias == EXTERNAL else holder.ref.version
        ref = roles.get("challenger")
        challenger_version = "nobody" if ref is None else ref.version
        if ref is None or (champion_version, challenger_version) != (policy.champion, policy.challenger):
            return (
                f"the routing policy is about {policy.champion} against {policy.challenger}, "
                f"and here it is {champion_version} against {challenger_version}"
            )
        model = self._examiner.holder(ref)
        if model is None:
            refusal = self._examiner.refused.get(ref)
            obstacle = "cannot be fetched now" if refusal is None else f"is refused ({refusal.reason})"
            return f"the challenger {ref.version} {obstacle}"
        state = self._windows.state
        if state is None or not set(state.specs).issuperset(model.plan.specs):
            return f"the windows of the challenger {ref.version} are being filled from the log"
        return self._as_challenger(model)

    def _as_challenger(self, model: ModelHolder) -> ModelHolder:
        if self._challenger_pair is None or self._challenger_pair[0] is not model:
            self._challenger_pair = (model, model.as_challenger())
        return self._challenger_pair[1]

    def _make_arm(self, router: Router, challenger: ModelHolder) -> ChallengerArm:
        current = self._fork
        if current is not None and current.router is router and current.challenger is challenger:
            return current
        return ChallengerArm(router, challenger, np.empty(0, dtype=np.intp))
