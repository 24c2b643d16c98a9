"""The composition root of serving: settings in, a runtime out.

Everything that touches a disk, a database or the network is made here, and started by
:meth:`Runtime.start` on threads of its own: the process answers ``/livez`` at once and ``/score`` as
soon as a verified champion and its windows are there.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from bentos.api.actions import ActionReceiver
from bentos.api.events import EventReceiver, Taken
from bentos.api.labels import Contradictions, LabelReceiver
from bentos.api.late_decisions import LateDecisionReceiver
from bentos.features.plan import FeaturePlan
from bentos.model.isolated_check import Verifier
from bentos.registry.cache import ModelCache
from bentos.registry.ports import ModelRef, ModelRegistry, Role
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.schema.lookup_refresh import FillingSchema, LookupKeeper
from bentos.scoring.active_models import ActiveModel, ActiveModels, ExternalHolder, ModelHolder
from bentos.scoring.answers import rows
from bentos.scoring.batcher import MicroBatcher, Waiter
from bentos.scoring.explanations import Explainer
from bentos.scoring.exploration import Explorer
from bentos.scoring.future_bound import FutureBound, FutureGuard, Receipt
from bentos.scoring.intake import Intake, machine_time_us
from bentos.scoring.recent_times import RecentTimes
from bentos.scoring.scorer import Answer, Scorer
from bentos.serving.background import Attendant, ReplicaName
from bentos.serving.overrides import StandingOrders
from bentos.serving.role_watcher import Slot
from bentos.serving.version_check import Examiner, Permission
from bentos.serving.window_history import LogHistory
from bentos.serving.window_keeper import Make, WindowKeeper, make_memory_windows
from bentos.settings import Settings
from bentos.spool.segments import Record, spooled_records
from bentos.spool.writer import SpoolWriter
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from bentos.windows.memory import WindowState
from monitoring.core.durations import microseconds
from monitoring.metrics import serving as metrics
from monitoring.metrics.exposition import scope_labels
from monitoring.metrics.process import ProcessLoad
from monitoring.store import Store, open_store


class LazyStore:
    """A database that is opened when it is first needed, and again when that failed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._store: Store | None = None

    def __call__(self) -> Store:
        """The open store; raises :class:`~monitoring.errors.StoreUnavailable` while it is away."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url)
            return self._store

    def close(self) -> None:
        """Close it if it was opened."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None


class Runtime:
    """One serving process: what the front door talks to. Made without touching anything.

    Args:
        settings: read from the environment.
        usecase: what is decided.
        registry: where the roles are.
    """

    def __init__(self, settings: Settings, usecase: UseCase, registry: ModelRegistry) -> None:
        self.usecase = usecase
        self._lookups = LookupKeeper.of(usecase, settings) if usecase.lookups else None
        # What requests are decoded with; a stored body holds its looked-up values already.
        self.schema = EventSchema.of(usecase) if self._lookups is None else FillingSchema(usecase, self._lookups)
        self._stored = self.schema if self._lookups is None else EventSchema.of(usecase)
        self.body_limit = int(settings.max_body_mb * (1 << 20))
        self.max_batch = settings.max_batch
        self.capacity = settings.max_concurrency
        self.body_timeout_s = settings.body_seconds
        self.list_capacity = settings.max_list_events
        self.list_timeout_s = settings.list_seconds
        self.model = settings.model_name(usecase.name)
        self.scope = scope_labels(usecase.name, settings.env)
        self.replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.shares_windows = bool(settings.redis_url)
        self._settings = settings
        self._registry = registry
        self._store = LazyStore(settings.log_url)
        self._verifier = Verifier()
        self._contradictions = Contradictions()
        self._recent = RecentTimes()
        self._bound = FutureBound(settings, machine_time_us, self._recent)
        self._horizon_us = microseconds(settings.answered_horizon)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settled = False
        self._spool: SpoolWriter | None = None
        self._wire()

    def _wire(self) -> None:
        cache = ModelCache(self._settings.cache(self.usecase.name))
        sources = self.usecase.label.sources
        self._history = LogHistory(
            self.usecase.name, self._stored, sources, self._store, self._unshipped, self._answered_since,
            self._bound.latest_us,
        )  # fmt: skip
        self.keeper = WindowKeeper(self._history, sources, self.post, self._windows_ready, self._make_windows())
        required = self._settings.journal_required and not self.usecase.promotion.hand_edits
        permit = Permission(self.model, self._store, cache) if required else _permit_all
        fingerprint = self.schema.fingerprint
        self._examiner = Examiner(self.model, fingerprint, self._registry, cache, self._verifier, permit)
        external = _external(self.usecase)
        self.orders = StandingOrders(self.model, self._store, required)
        self.slot = Slot(
            self.model, self._registry, self._examiner, self.keeper, external, self._office_changed, self.orders
        )
        self.attendant = Attendant(
            ReplicaName(self.usecase.name, self.model, self.replica), self._store, self.slot, self.keeper,
            self._contradictions, self.post, self._answered_since,
        )  # fmt: skip

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the spool and start the threads; the loop's thread is the one that scores."""
        self._loop = loop
        self._spool = SpoolWriter.of(self._settings, self.usecase.name)
        guard = FutureGuard(self.usecase.name, self._bound, self._spool, machine_time_us)
        self._load = ProcessLoad(self._spool.folder, self._settings.spool_cap_mb << 20)
        intake = Intake(self.usecase.name, self._office, self._spool, self.keeper, recent=self._recent, guard=guard)
        self.scorer = Scorer(intake, self.orders.ordered, Explorer.of(self.usecase.intervention))
        self.batcher: MicroBatcher[Event, bytes] = self._batcher()
        self.explainer = Explainer(self._office, self.scorer.run)
        self.events = EventReceiver(intake)
        self.late = LateDecisionReceiver(self.schema, self.events.take, self.max_batch)
        self.labels = LabelReceiver(self.usecase, self._spool, self.max_batch, guard, self._contradictions)
        self.actions = ActionReceiver(self.usecase, self._spool, self.max_batch, guard)
        metrics.READY.set(0)
        if self._lookups is not None:
            self._lookups.start(self._settings.poll_seconds)
        self.slot.start(self._settings.poll_seconds)
        self.keeper.start()
        self.attendant.start()

    def stop(self) -> None:
        """End the threads, close the spool and the database; call when no request is under way."""
        if self._lookups is not None:
            self._lookups.stop()
        self.keeper.stop()
        self.slot.stop()
        self.attendant.stop()
        self._verifier.close()
        if self._spool is not None:
            self._spool.close()
        self._store.close()
        metrics.READY.set(0)

    def ready(self) -> bool:
        """Whether a verified champion is active, and the memory it takes is settled."""
        return self._settled and self.slot.active_models is not None

    def serving(self) -> bool:
        """Whether an event would be answered now: ready, shared windows (if any) in reach, look-up tables read."""
        return self.ready() and self.keeper.available and (self._lookups is None or self._lookups.complete)

    def submit(self, event: Event) -> asyncio.Future[bytes]:
        """Score one event together with whatever else is there."""
        assert self._loop is not None
        return self.batcher.submit(event, self._loop)

    def enqueue(self, event: Event, waiter: Waiter[bytes]) -> None:
        """The same as :meth:`submit` for whoever needs no future."""
        assert self._loop is not None
        self.batcher.post(event, waiter, self._loop)

    def waiting(self) -> int:
        """Submitted events that are not yet scored."""
        return self.batcher.waiting

    def score(self, events: list[Event]) -> list[Answer]:
        """Score a list at once; on the loop's thread."""
        return self.scorer.run(events)

    def explained(self, event: Event) -> bytes:
        """Score one event at once and say why; raises what kept it from being answered."""
        answer = self.explainer.answer(event)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def rows(self, events: Sequence[Event], explain: bool) -> list[bytes]:
        """Answers of a part of a list; an event that fails says so in its own place."""
        return rows(self.explainer.answers if explain else self.scorer.run, events)

    def take_events(self, events: Sequence[Event]) -> Taken:
        """See :meth:`bentos.api.events.EventReceiver.take`."""
        return self.events.take(events)

    def take_late(self, body: bytes) -> Receipt:
        """See :meth:`bentos.api.late_decisions.LateDecisionReceiver.take`."""
        return self.late.take(body)

    def take_labels(self, body: bytes) -> bytes:
        """See :meth:`bentos.api.labels.LabelReceiver.take`."""
        return self.labels.take(body)

    def take_actions(self, body: bytes) -> bytes:
        """See :meth:`bentos.api.actions.ActionReceiver.take`."""
        return self.actions.take(body)

    def model_card(self) -> bytes:
        """What is active and since when, what holds the other roles, what is refused and why."""
        view, active_models = self.slot.view, self.slot.active_models
        digests = self._examiner.digests()
        return msgspec.json.encode(
            {
                "usecase": self.usecase.name,
                "model": self.model,
                "replica": self.replica,
                "in_office": None if active_models is None else _champion_card(active_models, self.orders),
                "roles": _versions(view.roles),
                "contract_digests": {ref.version: digest for ref, digest in digests.items()},
                "refused": {
                    ref.version: {"reason": r.reason, "message": r.message, "at": r.at}
                    for ref, r in view.refused.items()
                },
                "routing": view.routing.to_json(),
                "orders": self.orders.card(machine_time_us()),
                "registry": {"reachable": view.reachable, "polled_at": view.polled_at, "lost": _versions(view.lost)},
                "input_schema": self.schema.fingerprint,
                "lookups": {} if self._lookups is None else self._lookups.card(),
                "labels_known_up_to": self.attendant.label_cursor,
            }
        )

    def observe(self) -> None:
        """Bring the gauges that are read, not counted, up to date."""
        if self._spool is not None:
            self.scorer.flush()
            stats = self._spool.stats
            metrics.LOG_ACCEPTED.set(stats.accepted)
            metrics.LOG_DROPPED.set(stats.dropped)
            metrics.SPOOL_BYTES.set(stats.bytes)
            self._load.observe()

    def post(self, step: Callable[[], None]) -> None:
        """Run a function on the loop's thread, between two batches."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(step)

    def _batcher(self) -> MicroBatcher[Event, bytes]:
        if not self._settings.redis_url:
            return MicroBatcher(self.scorer.run)
        from bentos.scoring.batcher import PatientBatcher

        return PatientBatcher(self.scorer.run)

    def _make_windows(self) -> Make:
        """How a window state is made: in this process alone, or in step with other replicas."""
        url = self._settings.redis_url
        if not url:
            return make_memory_windows
        from bentos.serving.shared_windows import shared_name, shared_windows_factory

        return shared_windows_factory(
            url, shared_name(self._settings.env, self.usecase.name), self._horizon_us, self._stored
        )

    def _office(self) -> ActiveModels | None:
        return self.slot.active_models

    def _windows_ready(self, state: WindowState) -> None:
        self._recent.seed(self._history.recent_us)
        self.slot.set_windows(state)

    def _office_changed(self) -> None:
        if not self._settled:
            settle_memory()
            self._settled = True
        self.attendant.announce()

    def _answered_since(self) -> int:
        return machine_time_us() - self._horizon_us

    def _unshipped(self) -> Iterable[Record]:
        return spooled_records(self._settings.spool(self.usecase.name))


def settle_memory() -> None:
    """Keep the collector away from what lives as long as the process: full collections cost 100 ms and more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def build_runtime(settings: Settings, registry: ModelRegistry | None = None) -> Runtime:
    """The runtime that the settings describe; the registry may be given for tests."""
    # A registry that hangs must not hang us: by default MLflow asks 7 times for 120 s.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    if registry is None:
        from bentos.registry.mlflow import open_registry

        registry = open_registry(settings)
    return Runtime(settings, load_usecase(settings.usecase), registry)


def _permit_all(ref: ModelRef, digest: str) -> None:
    """Permit every version."""


def _external(usecase: UseCase) -> ExternalHolder | None:
    return None if usecase.incumbent is None else ExternalHolder(usecase.incumbent, FeaturePlan.of(usecase))


def _by_amount(holder: ActiveModel) -> dict[str, object] | None:
    """How the threshold of an event follows from its amount; none where one holds for all."""
    if not isinstance(holder, ModelHolder) or (column := holder.model.threshold.amount) is None:
        return None
    cut = holder.model.threshold
    rule = "(false_positive + least_saving) / (false_positive + amount), at most 1"
    return {"feature": column, "false_positive": cut.false_positive, "least_saving": cut.value, "rule": rule}


def _versions(roles: Mapping[Role, ModelRef]) -> dict[Role, str]:
    return {role: ref.version for role, ref in roles.items()}


def _champion_card(active_models: ActiveModels, orders: StandingOrders) -> dict[str, object]:
    holder = active_models.holder
    card: dict[str, object] = {
        "name": holder.ref.name,
        "version": holder.ref.version,
        "alias": holder.alias,
        "since": active_models.since.astimezone(UTC),
        "seconds": (datetime.now(UTC) - active_models.since).total_seconds(),
        "threshold": orders.threshold_of(holder, machine_time_us()),
        "promoted_threshold": holder.threshold,
        "threshold_by": _by_amount(holder),
        "contract_digest": holder.digest,
        "features": list(holder.plan.names),
        "plan": holder.plan.fingerprint,
        "logged_plan": active_models.plan.fingerprint,
    }
    if isinstance(holder, ModelHolder):
        metadata = holder.model.metadata
        card |= {
            "semantic_version": metadata.semantic_version,
            "training": {"start": metadata.training_start, "end": metadata.training_end, "rows": metadata.rows},
            "data_digest": metadata.data_digest,
        }
    return card
