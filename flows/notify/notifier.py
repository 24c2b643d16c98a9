"""The notifier: looks at the chain, the runs and the parts, stores what is to be told, and sends it.

``incumbent notify --follow`` is one that goes on; ``incumbent notify`` looks once, for cron. It may be killed at any
line: what was found but not stored is found again, what was stored but not marked as sent is sent again under its id.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flows.errors import NotifyError
from flows.notify.conditions import follow_conditions
from flows.notify.decisions import new_decisions
from flows.notify.notice import Notice
from flows.notify.outage import Outage
from flows.notify.outbox import Delivery, deliver, entries_of, store_notices
from flows.notify.watches import NoticeSource, dependency_notice, due_watches
from flows.workspace.clock import machine_now
from monitoring.errors import MonitoringError, StoreUnavailable
from monitoring.exporter.dependencies import Dependency
from monitoring.store.operations.notices import RETENTION

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_LOG = logging.getLogger("incumbent.notify")
PART: Final = "notifier"
EVERY_S: Final = 5.0
_TIDY_S: Final = 86_400.0


@dataclass
class Notifier:
    """Looks and tells, for one use case and the environment that it is in.

    Attributes:
        home: where it looks.
        looked: when each watch looked last, by a steady clock.
    """

    workspace: Workspace
    looked: dict[str, float] = field(default_factory=dict)
    _tidied: float = float("-inf")

    def run_once(self) -> list[Delivery]:
        """Look at everything whose time has come, then send what is due.

        Raises:
            StoreUnavailable: the database is away; :meth:`follow` tells that.
            NotifyError: the file of addresses cannot be used.
        """
        workspace, now = self.workspace, machine_now()
        notices, marks = new_decisions(workspace)
        store_notices(workspace, notices, now, marks)
        for watch in due_watches(self.looked, time.monotonic()):
            self._look(watch, now)
        deliveries = deliver(workspace.store, workspace.settings, machine_now)
        workspace.store.heartbeats.beat(workspace.usecase.name, PART)
        self._tidy(now)
        return deliveries

    def follow(self, stop: threading.Event, every_s: float = EVERY_S) -> None:
        """Look again and again until ``stop``; a database that is away is told without it."""
        outage = Outage(self.workspace, outage_notice(self.workspace))
        while not stop.is_set():
            try:
                self.run_once()
                outage.over(machine_now())
            except StoreUnavailable as exc:
                _LOG.warning("the database is away: %s", exc)
                outage.note(machine_now())
            except (MonitoringError, NotifyError) as exc:
                _LOG.error("this round failed, the next tries again: %s", exc)
            except Exception as exc:  # must outlive any fault; the text could hold an address
                _LOG.error(
                    "this round failed, the next tries again: %s",
                    type(exc).__name__,
                    exc_info=_LOG.isEnabledFor(logging.DEBUG),
                )
            stop.wait(every_s)

    def _look(self, watch: NoticeSource, now: datetime) -> None:
        workspace = self.workspace
        try:
            view = watch.look(workspace, now)
        except StoreUnavailable:
            raise
        except Exception as exc:  # one watch that fails must not take the others with it
            _LOG.error("%s could not be looked at: %s", watch.name, type(exc).__name__)
            return
        if view is None:
            return
        usecase = workspace.usecase.name if watch.scope == "usecase" else ""
        changes = follow_conditions(
            workspace.store.notices.conditions(usecase, watch.name), view, usecase, watch.name, now
        )
        workspace.store.notices.save(changes.standing, changes.ended, entries_of(workspace, changes.notices), now)

    def _tidy(self, now: datetime) -> None:
        if time.monotonic() - self._tidied > _TIDY_S:
            self._tidied = time.monotonic()
            self.workspace.store.notices.prune(now - RETENTION)


def outage_notice(workspace: Workspace) -> Notice:
    """What people are told of a database that is away."""
    return dependency_notice(workspace, Dependency("database", False, "it cannot be read", 0.0))
