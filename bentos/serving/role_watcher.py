"""What is active here: look at the roles, examine what is new, then swap one reference.

One thread polls the registry. Whatever goes wrong there (no answer, a damaged file, a model that
crashes its reader, another input schema, a content that the journal does not know) leaves what is
active in place, is counted, and is named in ``/model``. A new version is loaded and warm before the
old one is let go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from bentos.errors import RegistryUnavailable
from bentos.features.plan import FeaturePlan
from bentos.registry.ports import ROLES, ModelRef, ModelRegistry, Role
from bentos.scoring.active_models import ActiveModel, ActiveModels, ChallengerArm, ExternalHolder
from bentos.serving.overrides import StandingOrders, orders_without_journal, refusal_text
from bentos.serving.routing_watcher import Forker, RoutingView
from bentos.serving.version_check import Examiner, Refusal
from bentos.windows.memory import WindowState
from monitoring.metrics import serving as metrics

log = logging.getLogger("incumbent.slot")

REPAIR: Final = "incumbent db repair"
"""The command that gives the registry back what it has lost."""


class WindowSource(Protocol):
    """Who keeps the window state; see :class:`bentos.serving.window_keeper.WindowKeeper`."""

    @property
    def state(self) -> WindowState | None:
        """The state in use, or none before the first is built."""
        ...

    def want(self, plan: FeaturePlan) -> None:
        """Build a state with a plan's windows in the background unless that is done or under way."""
        ...


@dataclass(frozen=True)
class View:
    """What the slot saw and did, for ``/model`` and the heartbeat.

    Attributes:
        roles: the registry's roles as last seen.
        polled_at: machine time of that look.
        reachable: whether the last look-up was answered.
        refused: versions that hold a role and are not accepted.
        routing: the routing policy as last seen, and whether it is applied here.
        champion_since: machine time at which ``@champion`` was first seen as it is.
        lost: roles that the journal has given and the registry does not know any more.
    """

    roles: Mapping[Role, ModelRef]
    polled_at: datetime | None
    reachable: bool
    refused: Mapping[ModelRef, Refusal]
    routing: RoutingView = field(default_factory=RoutingView)
    champion_since: datetime | None = None
    lost: Mapping[Role, ModelRef] = field(default_factory=dict)


class Slot:
    """Keeps :attr:`active_models` up to date.

    Args:
        name: registered model.
        registry: where the roles are.
        examiner: says which versions may serve.
        windows: who keeps the window state.
        external: who answers while no model is champion, if anyone.
        changed: called after each change of champion.
        orders: what the journal says beside the aliases; none says nothing.

    Attributes:
        active_models: who answers now; replaced as a whole, read without a lock.
        view: what was seen last.
    """

    def __init__(
        self,
        name: str,
        registry: ModelRegistry,
        examiner: Examiner,
        windows: WindowSource,
        external: ExternalHolder | None = None,
        on_change: Callable[[], None] = lambda: None,
        orders: StandingOrders | None = None,
    ) -> None:
        self.active_models: ActiveModels | None = None
        self.view = View({}, None, False, {})
        self._name = name
        self._registry = registry
        self._examiner = examiner
        self._windows = windows
        self._external = external
        self._changed = on_change
        self._orders = orders or orders_without_journal(name)
        self._unexplained: Refusal | None = None
        self._forker = Forker(examiner, windows)
        self._requested: tuple[ModelRef | None, float] = (None, 0.0)
        self._remembered_state: tuple[Mapping[Role, ModelRef], ModelRef, int] | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, poll_seconds: float) -> None:
        """Poll in a thread of its own until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, args=(poll_seconds,), name="slot", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the polling thread; what is active stays."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def wake(self) -> None:
        """Look again now, for example because a window state has been built."""
        self._wake.set()

    def heed(self) -> None:
        """Read the standing orders; look again now if they changed. Called where the database may be waited for."""
        if self._orders.refresh():
            self.wake()

    def set_windows(self, windows: WindowState) -> None:
        """Give what is active another window state, which holds all its windows.

        Called on the thread that scores, between two batches.
        """
        with self._lock:
            if self.active_models is not None:
                old = self.active_models
                self.active_models = ActiveModels.of(old.holder, old.plan, windows, old.since, old.fork)
        self.wake()

    def poll(self) -> None:
        """Look at the registry once and act on it; never raises for anything a registry can do."""
        try:
            roles_view = self._registry.look(self._name)
        except RegistryUnavailable as exc:
            metrics.REGISTRY_POLL_FAILURES.inc()
            if self.view.reachable or self.view.polled_at is None:
                log.warning("the registry did not answer (%s); what is active stays", type(exc).__name__)
            self._look(self.view.roles, reachable=False)
            if self.active_models is None:
                self._settle(self._orders.overrule(self._examiner.remembered()))
            elif self._orders.pinned is not None:
                self._settle(self._orders.overrule(self.view.roles))
            return
        self._forker.read(roles_view.routing)
        self._look(roles_view.roles, reachable=True)
        self._settle(self._orders.overrule({**roles_view.roles, **self._lost(roles_view.roles)}))

    def _run(self, poll_seconds: float) -> None:
        self._examiner.warm_up()
        self._orders.refresh()
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.poll()
            except Exception as exc:  # the thread must outlive any fault; the text may hold a model's content
                metrics.REGISTRY_POLL_FAILURES.inc()
                log.error("looking at the registry failed: %s", type(exc).__name__)
            self._wake.wait(poll_seconds)

    def _look(self, roles: Mapping[Role, ModelRef], reachable: bool) -> None:
        now = datetime.now(UTC)
        if reachable:
            metrics.REGISTRY_POLLED.set(now.timestamp())
            for role in ROLES:
                metrics.ALIAS_VERSION.labels(role).set(_number(roles[role]) if role in roles else 0)
        old_view = self.view
        polled_at = now if reachable else old_view.polled_at
        is_moved = roles.get("champion") != old_view.roles.get("champion") or old_view.champion_since is None
        since = now if is_moved else old_view.champion_since
        self.view = replace(old_view, roles=dict(roles), polled_at=polled_at, reachable=reachable, champion_since=since)

    def _lost(self, roles: Mapping[Role, ModelRef]) -> Mapping[Role, ModelRef]:
        """Roles that the registry has lost: whoever the journal has there stays, from the verified copy."""
        lost = self._orders.lost(roles)
        for role in ROLES:
            metrics.REGISTRY_LOST_ROLE.labels(role).set(1 if role in lost else 0)
        if lost != self.view.lost:
            for role, ref in lost.items():
                log.error("the registry has lost @%s, which is %s by the journal: %s", role, ref.label, REPAIR)
            self.view = replace(self.view, lost=lost)
        return lost

    def _settle(self, roles: Mapping[Role, ModelRef]) -> None:
        """Make the role agree with the roles, as far as everything needed is at hand."""
        champion = roles.get("champion")
        if champion is not None and champion != self._requested[0]:
            self._requested = (champion, time.monotonic())
        holder = self._holder(champion)
        other_refs = [ref for role, ref in roles.items() if role != "champion"]
        plans = [plan for ref in other_refs if (plan := self._examiner.plan(ref)) is not None]
        self._show_refusals(roles)
        if holder is None:
            return
        needed_plans = [holder.plan, *plans]
        self._windows.want(FeaturePlan.union(needed_plans))
        if self.active_models is None or self.active_models.holder is not holder:
            self._swap_active_models(
                holder, needed_plans, None
            )  # a change of champion does not wait for the other arm to be loaded
        fork, routing = self._forker.fork(holder, roles)
        self._swap_active_models(holder, needed_plans, fork)
        self.view = replace(self.view, routing=routing)
        self._remember_roles(roles)

    def _holder(self, champion: ModelRef | None) -> ActiveModel | None:
        """Who should answer: the new champion if it stands every test, else whoever answers now."""
        current = None if self.active_models is None else self.active_models.holder
        if champion is None:
            # A role that is vacant by accident changes nothing; one that was vacated for the external score does.
            if current is None or self._orders.external or self._forker.returned_from(current):
                return self._external or current or self._remembered_champion()
            return current
        if current is not None and current.ref == champion:
            self._orders.explains(champion, champion)  # keeps the alert gauge true
            self._unexplained = None
            return current
        new_holder = self._examiner.holder(champion)
        if new_holder is not None and not self._explained(champion):
            new_holder = None
        return new_holder or current or self._last_good(champion) or self._external

    def _explained(self, champion: ModelRef) -> bool:
        """Whether the journal lets this version become champion; its refusal is shown until it does."""
        if self._orders.explains(champion, self._examiner.remembered().get("champion")):
            self._unexplained = None
            return True
        if self._unexplained is None:
            text = refusal_text(champion)
            log.error("%s is refused (role): %s", champion.label, text)
            metrics.MODEL_REJECTIONS.labels(champion.version, "role").inc()
            self._unexplained = Refusal("role", text, datetime.now(UTC), time.monotonic())
        return False

    def _remembered_champion(self) -> ActiveModel | None:
        """At a start without ``@champion`` where hands rule the alias: who was verified here last stays."""
        last_champion = self._examiner.remembered().get("champion")
        if self._orders.rules or last_champion is None:
            return None
        return self._examiner.holder(last_champion)

    def _last_good(self, refused_ref: ModelRef) -> ActiveModel | None:
        """At a start with a champion that fails its tests: the one that was verified here before it."""
        last_champion = self._examiner.remembered().get("champion")
        return None if last_champion is None or last_champion == refused_ref else self._examiner.holder(last_champion)

    def _show_refusals(self, roles: Mapping[Role, ModelRef]) -> None:
        refusals = self._examiner.refused
        if self._unexplained is not None and (champion := roles.get("champion")) is not None:
            refusals = {**refusals, champion: self._unexplained}
        for role in ROLES:
            metrics.MODEL_REJECTED.labels(role).set(1 if roles.get(role) in refusals else 0)
        self.view = replace(self.view, refused=refusals)

    def _swap_active_models(
        self, holder: ActiveModel, needed_plans: Sequence[FeaturePlan], fork: ChallengerArm | None
    ) -> None:
        """Swap the reference, when the windows that the holder needs are there."""
        with self._lock:
            state, old = self._windows.state, self.active_models
            if state is None:
                return
            specs = set(state.specs)
            if not specs.issuperset(holder.plan.specs):
                # Its windows are being filled from the log; until then the old one answers, and alone.
                self.active_models = None if old is None else replace(old, fork=None)
                return
            plans = needed_plans if fork is None else [*needed_plans, fork.challenger.plan]
            plan = FeaturePlan.union(p for p in plans if specs.issuperset(p.specs))
            is_same_holder = old is not None and old.holder is holder
            if (
                is_same_holder
                and old is not None
                and old.plan.fingerprint == plan.fingerprint
                and _same_arm(old.fork, fork)
            ):
                return
            since = old.since if is_same_holder and old is not None else datetime.now(UTC)
            self.active_models = ActiveModels.of(holder, plan, state, since, fork)
        if not is_same_holder:
            self._announce(holder, since, first=old is None)
        self._changed()

    def _announce(self, holder: ActiveModel, since: datetime, first: bool) -> None:
        metrics.READY.set(1)
        metrics.SERVED_VERSION.set(_number(holder.ref))
        metrics.SERVED_SINCE.set(since.timestamp())
        if not first:
            metrics.MODEL_SWAPS.inc()
            metrics.MODEL_SWAP_SECONDS.observe(time.monotonic() - self._requested[1])
        log.info("%s is active as %s", holder.ref.label, holder.alias)

    def _remember_roles(self, roles: Mapping[Role, ModelRef]) -> None:
        """Note what is good for the next start; forget what nobody needs."""
        if self.active_models is None:
            return
        serving = self.active_models.holder.ref
        snapshot = (dict(roles), serving, len(self._examiner.refused))
        if self._remembered_state == snapshot:
            return
        self._remembered_state = snapshot
        # While the champion is refused, the last good one stays in the note.
        if roles.get("champion") == serving:
            self._examiner.remember(roles)
        self._examiner.forget({*roles.values(), serving})


def _same_arm(first: ChallengerArm | None, second: ChallengerArm | None) -> bool:
    return second is None if first is None else first.same(second)


def _number(ref: ModelRef) -> int:
    """A version as a gauge's value; registries other than MLflow may use words."""
    return int(ref.version) if ref.version.isdigit() else -1
