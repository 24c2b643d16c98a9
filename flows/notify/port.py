"""``tell``: what a flow calls to tell people of what it did.

The notice is stored, sent at once, and sent again by the notifier where nobody took it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from flows.errors import NotifyError
from flows.notify.notice import Notice, with_id
from flows.notify.outbox import deliver, store_notices, targets_of, with_usecase_name
from flows.notify.senders import send
from flows.workspace.clock import machine_now
from monitoring.errors import MonitoringError

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_LOG = logging.getLogger("incumbent.notify")


def send_notice(
    workspace: Workspace, kind: str, outcome: str, text: str, as_of: datetime, *, tries: int = 3, pause_s: float = 0.5
) -> bool:
    """Tell people of something that a flow did; a failure is logged and never raised, for the work is done.

    Args:
        home: where it happened.
        kind, outcome, text: of the notice.
        as_of: business time.
        tries: now, in all; what is not taken then is the notifier's to send.
        pause_s: before the second try; it doubles.

    Returns:
        Whether every target took it; false where there is none.
    """
    scope = (workspace.settings.env, workspace.usecase.name, workspace.model)
    now = machine_now()
    draft = Notice(kind, *scope, outcome, text, as_of.isoformat(), title=f"{kind.capitalize()}: {outcome}")
    notice = with_id(draft, outcome, text, as_of.isoformat(), now.isoformat())
    try:
        store_notices(workspace, [notice], now)
        deliveries = deliver(workspace.store, workspace.settings, machine_now, notice.id, tries=tries, pause_s=pause_s)
        return bool(deliveries) and not any(delivery.problem for delivery in deliveries)
    except (MonitoringError, NotifyError) as exc:
        _LOG.warning("a notice of kind %s could not be kept: %s", kind, exc)
        return _without_store(workspace, notice)


@contextmanager
def notify_on_failure(workspace: Workspace, kind: str, as_of: datetime) -> Iterator[None]:
    """Tell people where the block ends with an error; the error goes on."""
    try:
        yield
    except Exception as exc:
        send_notice(workspace, kind, "failed", f"{type(exc).__name__}: see the run's log", as_of)
        raise


def _without_store(workspace: Workspace, notice: Notice) -> bool:
    """The database is away: send what can be sent, once."""
    try:
        targets = targets_of(workspace, notice.kind)
    except NotifyError:
        return False
    problems = {target.name: send(with_usecase_name(workspace, notice), target) for target in targets}
    for name, problem in problems.items():
        if problem:
            _LOG.warning("target %s did not take notice %s: %s", name, notice.id, problem)
    return bool(problems) and not any(problems.values())
