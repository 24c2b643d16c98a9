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
    from flows.workspace.workspace import House
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


def entries_of(house: House, notices: Sequence[Notice]) -> list[NoticeEntry]:
    """One entry for each target of each notice; each notice is logged.

    Where nothing is configured for the default target the log alone tells: nobody asked to be told.

    Raises:
        NotifyError: the file of addresses cannot be read.
    """
    found: list[NoticeEntry] = []
    for notice in (named(house, one) for one in notices):
        _LOG.info("%s of %s: %s: %s", notice.kind, notice.model or notice.where, notice.outcome, notice.text)
        about = (notice.usecase, notice.kind, notice.to_text())
        targets = targets_of(house, notice.kind) if notice.usecase else _everybodys_targets(house, notice.kind)
        found += [NoticeEntry(notice.id, target.name, *about) for target in targets]
    return found


def _everybodys_targets(house: House, kind: str) -> list[Target]:
    """Who is told of what concerns every use case of the home: the targets of each; which notifier saw it is chance."""
    found = {target.name: target for target in targets_of(house, kind)}
    for usecase in _other_usecases(house):
        own = targets_of(replace(house, usecase=usecase), kind)
        found |= {target.name: target for target in own}
    return list(found.values())


def _other_usecases(house: House) -> Iterator[UseCase]:
    from bentos.errors import UseCaseError
    from bentos.usecase.loading import load_usecase
    from flows.workspace.installation import Home
    from flows.workspace.roster import read_roster

    try:
        active = read_roster(Home(house.settings)).active
    except FlowRefused:
        return  # whoever keeps the stack in step tells that
    for name, reference in active.items():
        if name != house.usecase.name:
            with suppress(UseCaseError):
                yield load_usecase(reference)


def named(house: House, notice: Notice) -> Notice:
    """Return a notice with what people call its use case, where that was renamed in this house."""
    is_renamed = notice.usecase == house.usecase.name and house.name != notice.usecase
    return replace(notice, name=house.name) if is_renamed else notice


def targets_of(house: House, kind: str) -> list[Target]:
    """Who is told of a kind: each target that a route names, and the default where it has an address."""
    routed = {route.to for route in house.usecase.notify.routes}
    named = [find_target(house.settings, name) for name in house.usecase.notify.targets(kind)]
    return [target for target in named if target.configured or target.name in routed]


def put(
    house: House, notices: Sequence[Notice], now: datetime, marks: Mapping[tuple[str, str], int] | None = None
) -> None:
    """Store notices that are new, and how far their source was read."""
    entries = entries_of(house, notices)
    if entries or marks:
        house.store.notices.put(entries, now, marks)


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
    done = []
    for claimed in store.notices.claim(clock(), CLAIM_S, notice_id=notice_id):
        notice = Notice.from_text(claimed.content)
        problem = _try(settings, notice, claimed.target, tries, pause_s)
        if not problem:
            store.notices.delivered(claimed, clock())
        else:
            _LOG.warning("target %s did not take notice %s: %s", claimed.target, notice.id, problem)
            store.notices.refused(claimed, problem, _again(claimed.attempts, clock(), claimed.created_at))
        done.append(Delivery(notice, claimed.target, problem))
    return done


def _try(settings: Settings, notice: Notice, name: str, tries: int, pause_s: float) -> str:
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


def _again(attempts: int, now: datetime, created_at: datetime) -> datetime | None:
    if now - created_at > GIVEN_UP_AFTER:
        return None
    pause: timedelta = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(attempts - 1, 10)))
    return now + pause
