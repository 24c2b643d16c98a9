"""The outbox: store a notice for each of its targets, then send what is due, again and again until it is taken."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from flows.errors import FlowRefused, NotifyError
from flows.notify.notice import Notice
from flows.notify.senders import send
from flows.notify.targets import Target, find_target
from monitoring.store import NoticeEntry

if TYPE_CHECKING:
    from bentos.settings import Settings
    from bentos.usecase.definition import UseCase
    from flows.workspace.workspace import Workspace
    from monitoring.store import Store

_LOG = logging.getLogger("incumbent.notify")

CLAIM_S: Final = 120.0
"""How long nobody else sends a notice that a process is sending: longer than any sender takes."""
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=15)
GIVEN_UP_AFTER: Final = timedelta(days=3)
_REFUSED: Final = re.compile(r"answered 4(?!29)\d\d")


@dataclass(frozen=True)
class Delivery:
    """What became of one attempt: ``problem`` is empty where the target took the notice."""

    notice: Notice
    target: str
    problem: str


def entries_of(workspace: Workspace, notices: Sequence[Notice]) -> list[NoticeEntry]:
    """One entry for each target of each notice; each notice is logged.

    Where nothing is configured for the default target the log alone tells: nobody asked to be told.

    Raises:
        NotifyError: the file of addresses cannot be read.
    """
    entries: list[NoticeEntry] = []
    for notice in (with_usecase_name(workspace, original) for original in notices):
        _LOG.info("%s of %s: %s: %s", notice.kind, notice.model or notice.where, notice.outcome, notice.text)
        fields = (notice.usecase, notice.kind, notice.to_text())
        targets = targets_of(workspace, notice.kind) if notice.usecase else _home_targets(workspace, notice.kind)
        entries += [NoticeEntry(notice.id, target.name, *fields) for target in targets]
    return entries


def _home_targets(workspace: Workspace, kind: str) -> list[Target]:
    """Who is told of what concerns every use case of the home: the targets of each; which notifier saw it is chance."""
    targets = {target.name: target for target in targets_of(workspace, kind)}
    for usecase in _other_usecases(workspace):
        usecase_targets = targets_of(replace(workspace, usecase=usecase), kind)
        targets |= {target.name: target for target in usecase_targets}
    return list(targets.values())


def _other_usecases(workspace: Workspace) -> Iterator[UseCase]:
    from bentos.errors import UseCaseError
    from bentos.usecase.loading import load_usecase
    from flows.workspace.installation import Home
    from flows.workspace.roster import read_roster

    try:
        active = read_roster(Home(workspace.settings)).active
    except FlowRefused:
        return  # whoever keeps the stack in step tells that
    for name, reference in active.items():
        if name != workspace.usecase.name:
            with suppress(UseCaseError):
                yield load_usecase(reference)


def with_usecase_name(workspace: Workspace, notice: Notice) -> Notice:
    """Return a notice with what people call its use case, where that was renamed in this home."""
    is_renamed = notice.usecase == workspace.usecase.name and workspace.name != notice.usecase
    return replace(notice, name=workspace.name) if is_renamed else notice


def targets_of(workspace: Workspace, kind: str) -> list[Target]:
    """Who is told of a kind: each target that a route names, and the default where it has an address."""
    route_names = {route.to for route in workspace.usecase.notify.routes}
    targets = [find_target(workspace.settings, name) for name in workspace.usecase.notify.targets(kind)]
    return [target for target in targets if target.configured or target.name in route_names]


def store_notices(
    workspace: Workspace, notices: Sequence[Notice], now: datetime, marks: Mapping[tuple[str, str], int] | None = None
) -> None:
    """Store notices that are new, and how far their source was read."""
    entries = entries_of(workspace, notices)
    if entries or marks:
        workspace.store.notices.put(entries, now, marks)


def deliver(
    store: Store,
    settings: Settings,
    clock: Callable[[], datetime],
    notice_id: str | None = None,
    *,
    tries: int = 1,
    pause_s: float = 0.5,
) -> list[Delivery]:
    """Send what is due; what is not taken is due again later, ever more rarely, for three days.

    Args:
        store, settings: the outbox, and where addresses stand.
        clock: machine time.
        notice_id: send this one alone.
        tries: of each notice now, unless its target refuses it with 4xx (but 429).
        pause_s: before the second try; it doubles.
    """
    deliveries = []
    for entry in store.notices.claim(clock(), CLAIM_S, notice_id=notice_id):
        notice = Notice.from_text(entry.content)
        problem = _send_with_retries(settings, notice, entry.target, tries, pause_s)
        if not problem:
            store.notices.mark_delivered(entry, clock())
        else:
            _LOG.warning("target %s did not take notice %s: %s", entry.target, notice.id, problem)
            store.notices.refused(entry, problem, _next_attempt(entry.attempts, clock(), entry.created_at))
        deliveries.append(Delivery(notice, entry.target, problem))
    return deliveries


def _send_with_retries(settings: Settings, notice: Notice, name: str, tries: int, pause_s: float) -> str:
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            problem = send(notice, find_target(settings, name))
        except NotifyError as exc:
            return exc.message
        if not problem or _REFUSED.search(problem):
            break
    return problem


def _next_attempt(attempts: int, now: datetime, created_at: datetime) -> datetime | None:
    if now - created_at > GIVEN_UP_AFTER:
        return None
    pause: timedelta = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(attempts - 1, 10)))
    return now + pause
