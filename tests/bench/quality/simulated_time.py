"""A stream lived through in simulated time: one process, no HTTP, the product's own flows each morning.

What decides is the product: ``training``, ``drift``, ``comparison``, ``promotion`` and ``retraining`` run on a real
store and registry as their schedules would run them; between two mornings the champion answers the day's
events, a challenger scores them in shadow, and labels become known when they are due.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.errors import FlowRefused
from flows.runs.run_record import call
from flows.sources.base import EventSource
from flows.steps.data.import_history import label_records, load_history
from monitoring.core.calendar import TimeWindow
from tests.bench.quality.halves import Floats, Stream
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers, log_shadow

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_DAY: Final = timedelta(days=1)
_RAISED: Final = ("warning", "severe")
Progress = Callable[[int, int], None]
"""Called with (days lived, days in all)."""


@dataclass
class Retraining:
    """One retraining of the loop.

    Attributes:
        day: business day on whose morning it ran.
        reasons: of the policy.
        model: label of the new version; none where its gates refused it.
        gates: outcome of the gates.
        role: that it got at once.
        verdict: of a comparison in shadow: ``promote``, ``keep``, or none without one or before it.
        in_office: business day from whose morning on it answered.
    """

    day: date
    reasons: list[str]
    model: str | None
    gates: str
    role: str | None
    verdict: str | None = None
    in_office: date | None = None


@dataclass
class Lived:
    """What happened in the second half.

    Attributes:
        noticed: business days on whose morning drift was raised after a calm check.
        retrainings: in order.
        blocked: mornings on which there was a reason to retrain and something in the way.
    """

    noticed: list[date] = field(default_factory=list)
    retrainings: list[Retraining] = field(default_factory=list)
    blocked: int = 0


@contextmanager
def own_house(reference: str) -> Iterator[Workspace]:
    """A home in a folder of its own, which the flows open meanwhile; nothing of the caller's is read or written.

    Raises:
        UseCaseError: the use case is missing or wrong.
    """
    from flows.workspace.installation import open_home, usecase_reference
    from flows.workspace.workspace import open_workspace

    named, before = usecase_reference(reference), dict(os.environ)
    with TemporaryDirectory(prefix="incumbent-stream-") as folder:
        for name in [name for name in os.environ if name.startswith("INCUMBENT_")]:
            del os.environ[name]
        os.environ["INCUMBENT_HOME"] = folder
        try:
            open_home(usecase=named).enter()
            workspace = open_workspace(named)
            try:
                yield workspace
            finally:
                workspace.store.close()
        finally:
            os.environ.clear()
            os.environ.update(before)


def first_model(workspace: Workspace, stream: Stream, source: EventSource) -> LoadedVersion:
    """Import the first half into the log, train on it, and put the active model.

    Raises:
        FlowRefused: its gates refuse it.
        TooFewRows: the first half is shorter than the folds.
    """
    from flows.runs.parameters import LOG
    from flows.training import training

    window = TimeWindow(stream.read.window.start, stream.half)
    load_history(source, window, workspace.store, workspace.usecase, stream.half)
    done = call(
        training, usecase=workspace.reference, until=stream.half, source=LOG, reason="the first half of a stream"
    )
    if done.data["role"] != "champion":
        raise FlowRefused(f"the gates refuse the first model: {done.summary}")
    ref = workspace.champion()
    return LoadedVersion(ref, workspace.load(ref))


def live_through(
    workspace: Workspace, stream: Stream, first: LoadedVersion, tell: Progress = lambda done, total: None
) -> tuple[Lived, Floats]:
    """Live through the second half.

    Args:
        home: holds the first half and its model; ``INCUMBENT_HOME`` names it too.
        stream: the file.
        first: the champion of the first day.
        tell: told of each day.

    Returns:
        What happened, and the score that each event was answered with (NaN before the second half).
    """
    life = _Life(workspace, stream, Lived(), {"champion": first})
    scores = np.full(len(stream.read.events), np.nan)
    for number, start in enumerate(stream.starts[:-1]):
        life.learn(number)
        life.morning(start)
        life.answer(number, scores)
        tell(number + 1, stream.days)
    return life.lived, scores


@dataclass
class _Life:
    """The loop between two mornings.

    Attributes:
        seats: who holds which role, loaded.
        raised: whether the latest drift check that could say anything raised an alarm.
    """

    workspace: Workspace
    stream: Stream
    lived: Lived
    seats: dict[str, LoadedVersion]
    raised: bool = False

    def learn(self, number: int) -> None:
        """Store the statements that became known since the last morning."""
        start = self.stream.starts[number]
        told = self.stream.read.revisions
        fresh = told[told["observed_at"] <= start]
        if number:
            fresh = fresh[fresh["observed_at"] > self.stream.starts[number - 1]]
        self.workspace.store.labels.add(label_records(fresh, self.workspace.usecase.name), self.workspace.usecase.label)

    def morning(self, as_of: datetime) -> None:
        """The flows of a morning: look, judge, act, ask."""
        self._look(as_of)
        if "challenger" in self.seats:
            self._check_hosts(as_of)
        self._ask(as_of)
        self._take_seats()

    def answer(self, number: int, scores: Floats) -> None:
        """Answer the events of a day, in shadow too."""
        stream, places = self.stream, self.stream.places
        rows = slice(int(places[number]), int(places[number + 1]))
        if rows.start == rows.stop:
            return
        events, usecase = stream.read.events.iloc[rows].reset_index(drop=True), self.workspace.usecase
        for role, write in (("champion", log_answers), ("challenger", log_shadow)):
            if (seated := self.seats.get(role)) is not None:
                arrived = EventBatch(events, stream.features(seated.model)[rows], stream.starts[number])
                write(self.workspace.store, usecase, seated, arrived)
        champion = self.seats["champion"].model
        scores[rows] = champion.score(stream.features(champion)[rows]).calibrated

    def _look(self, as_of: datetime) -> None:
        from flows.drift import drift

        found = call(drift, usecase=self.workspace.reference, as_of=as_of, html="never", skew=False)
        if found.status == "insufficient_data":
            return
        raised = found.data["outcome"] in _RAISED
        if raised and not self.raised:
            self.lived.noticed.append(self._day(as_of))
        self.raised = raised

    def _check_hosts(self, as_of: datetime) -> None:
        from flows.comparison import comparison
        from flows.promotion import promotion

        outcome = call(comparison, usecase=self.workspace.reference, as_of=as_of, html="never").data["verdict"][
            "outcome"
        ]
        if outcome == "keep_watching":
            return
        judged = next(one for one in self.lived.retrainings if one.model == self.seats["challenger"].ref.label)
        judged.verdict = outcome
        if outcome == "promote":
            call(
                promotion,
                usecase=self.workspace.reference,
                as_of=as_of,
                preview=False,
                reason="the verdict of the stream",
            )
            judged.in_office = self._day(as_of)
        self._take_seats()

    def _ask(self, as_of: datetime) -> None:
        from flows.retraining import retraining

        said = call(retraining, usecase=self.workspace.reference, as_of=as_of).data
        self.lived.blocked += said["outcome"] == "blocked"
        if (trained := said["training"]) is not None:
            day, gates = self._day(as_of), trained["verdict"]["outcome"]
            seated = day if trained["role"] == "champion" else None
            made = Retraining(day, list(said["reasons"]), trained["model"], gates, trained["role"], in_office=seated)
            self.lived.retrainings.append(made)

    def _take_seats(self) -> None:
        held = self.workspace.registry.roles(self.workspace.model)
        for role in ("champion", "challenger"):
            ref = held.get(role)
            if ref is None:
                self.seats.pop(role, None)
            elif role not in self.seats or self.seats[role].ref != ref:
                self.seats[role] = LoadedVersion(ref, self.workspace.load(ref))

    def _day(self, as_of: datetime) -> date:
        return self.workspace.usecase.calendar.day_of(as_of)
