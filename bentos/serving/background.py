"""The errands of a serving process that need the database, on one thread: labels in, heartbeats out.

Nothing that is answered waits for it, and a database that is away only delays it.

It also ends an orphaned worker: BentoML's supervisor starts workers in sessions of their own, so a killed supervisor
would leave one on the port.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bentos.api.labels import Contradictions
from bentos.scoring.active_models import ActiveModels
from bentos.serving.other_homes import home_description
from bentos.serving.role_watcher import Slot, View
from bentos.serving.supervisor import supervisor
from bentos.serving.window_history import batches
from bentos.serving.window_keeper import WindowKeeper
from monitoring.errors import MonitoringError
from monitoring.metrics import serving as metrics
from monitoring.store import Store

log = logging.getLogger("incumbent.attendant")

_PERIOD: Final = 1.0
_HEARTBEAT_SECONDS: Final = 3.0
_QUIET_SECONDS: Final = 60.0
_LABELS_AT_ONCE: Final = 500
Post = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class ReplicaName:
    """Which process of which model: ``usecase`` names the log, ``model`` the registered model."""

    usecase: str
    model: str
    replica: str


class Attendant:
    """Follows the labels table, says what is served, forgets old answers.

    Args:
        name: of this process among the replicas.
        store: gives the database, or raises while it is away.
        slot: what is active here.
        keeper: whose windows the labels feed.
        said: remembers who said what.
        post: runs a function on the scoring thread.
        answered_since_us: answers given before this machine time are forgotten.
    """

    def __init__(
        self,
        name: ReplicaName,
        store: Callable[[], Store],
        slot: Slot,
        keeper: WindowKeeper,
        contradictions: Contradictions,
        post: Post,
        answered_since_us: Callable[[], int],
    ) -> None:
        self._usecase, self._model, self._replica = name.usecase, name.model, name.replica
        self._store = store
        self._slot = slot
        self._keeper = keeper
        self._contradictions = contradictions
        self._post = post
        self._answered_since = answered_since_us
        self._parent = supervisor()
        self._complaint_due = 0.0
        self._cursor: int | None = None
        self._beat_due = 0.0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name="attendant", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """The champion changed: tell the database now."""
        self._beat_due = 0.0
        self._wake.set()

    @property
    def label_cursor(self) -> int:
        """Place in the labels table up to which the windows know the labels; 0 before the first."""
        return self._keeper.label_cursor if self._cursor is None else self._cursor

    def stop(self) -> None:
        """Sign off and end."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._end_if_orphaned()
            for errand in (self._beat, self._slot.heed, self._follow_labels, self._forget):
                try:
                    errand()
                except MonitoringError as exc:
                    metrics.HEARTBEAT_FAILURES.inc()
                    self._log_outage(exc)
                    break
                except Exception as exc:  # the thread must outlive any fault
                    log.error("an errand failed: %s", type(exc).__name__)
            self._wake.wait(_PERIOD)
        self._sign_off()

    def _log_outage(self, exc: MonitoringError) -> None:
        """Say that the database is away, once a minute: it is asked every second, and may be away for hours."""
        if time.monotonic() >= self._complaint_due:
            self._complaint_due = time.monotonic() + _QUIET_SECONDS
            log.warning("the database is away (%s)", type(exc).__name__)

    def _end_if_orphaned(self) -> None:
        """End when the supervisor is gone: an orphan keeps the port and would score beside its successor."""
        if os.getppid() != self._parent:
            log.error("the supervisor of this process is gone; it ends")
            self._parent = os.getppid()
            os.kill(os.getpid(), signal.SIGTERM)

    def _beat(self) -> None:
        if time.monotonic() < self._beat_due:
            return
        self._beat_due = time.monotonic() + _HEARTBEAT_SECONDS
        active_models, view = self._slot.active_models, self._slot.view
        champion = view.roles.get("champion") if view.reachable else None
        self._store().serving.heartbeat(
            self._usecase,
            self._replica,
            self._model,
            _version(active_models),
            None if champion is None else champion.version,
            acknowledgement(active_models, view)
            | {"answers": metrics.RECENT_ANSWERS.told(_version(active_models)), "home": home_description()},
        )

    def _follow_labels(self) -> None:
        if self._keeper.state is None:
            return
        if self._cursor is None:
            # Who said what before this process began: a contradiction of it is one too.
            self._recall(self._keeper.label_cursor)
            self._cursor = self._keeper.label_cursor
        while not self._stop.is_set():
            rows, cursor = self._store().labels.tail(self._usecase, self._cursor)
            if not rows:
                return
            for row in rows:
                self._contradictions.add(row.event_id, row.source, row.y)
            for part in batches(rows, _LABELS_AT_ONCE):
                self._post(lambda part=part: self._keeper.label(part))  # type: ignore[misc]  # binds this round's part
            self._cursor = cursor

    def _recall(self, until: int) -> None:
        labels = self._store().labels
        cursor = labels.before_latest(self._usecase, self._contradictions.limit)
        while cursor < until and not self._stop.is_set():
            rows, cursor = labels.tail(self._usecase, cursor)
            if not rows:
                return
            for row in rows:
                self._contradictions.add(row.event_id, row.source, row.y)

    def _forget(self) -> None:
        cutoff_us = self._answered_since()
        self._post(lambda: self._keeper.forget_answers(cutoff_us))

    def _sign_off(self) -> None:
        try:
            self._store().serving.leave(self._usecase, self._replica)
        except MonitoringError:
            log.info("the database is away; the heartbeat will run out by itself")


def _version(active_models: ActiveModels | None) -> str | None:
    return None if active_models is None else active_models.holder.ref.version


def acknowledgement(active_models: ActiveModels | None, view: View) -> dict[str, Any]:
    """What a heartbeat says beside the version: content, role, routing and the age of what was seen."""
    payload: dict[str, Any] = {"reachable": view.reachable, "routing": view.routing.to_json()}
    if active_models is not None:
        payload |= {"alias": active_models.holder.alias, "contract": active_models.holder.digest}
        if active_models.fork is not None:
            payload["challenger_p99_ms"] = active_models.fork.p99_ms()
    for name, at in (("polled_at", view.polled_at), ("champion_since", view.champion_since)):
        if at is not None:
            payload[name] = at.isoformat()
    if view.lost:
        payload["lost"] = {role: ref.version for role, ref in view.lost.items()}
    refusals = {ref.version: f"{r.reason}: {r.message}" for ref, r in view.refused.items()}
    return payload | ({"refused": refusals} if refusals else {})
