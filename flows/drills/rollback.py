"""A drill: a version that harms becomes champion under load. How long until the watch has it out again?

One guard is drilled at a time, each in a home of its own, by a version that harms in just that way.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bentos.registry.ports import ModelRef
from bentos.release.watch import ACTOR, KIND
from flows.drills.harmful_models import HARMS, UNIT, USECASE, Harm
from flows.drills.load.bodies import BodySpec
from flows.drills.load.homes import BenchHome
from flows.drills.load.load_generator import LoadRound, RoundFigures
from flows.drills.load.run_load import RecordedAnswer, RunningLoad, read_answers
from flows.drills.prediction_log import drain_spool
from flows.drills.swap import Changes, answering_version, steady_load
from flows.errors import StackError
from flows.workspace.processes import Child, free_port, stop_all
from monitoring.store import Store

ProgressCallback = Callable[[str], None]
LIMIT_SECONDS: Final = 180.0
"""The drill gives up then. A guard must act within 60 s; one that is slower is measured all the same."""
_SHADOW_EVENTS: Final = 400
"""Events that the version must have seen in shadow before it becomes champion, twice what a guard asks for."""
_SHADOW_SECONDS: Final = 120.0
_FIRST_SHIFTED_EVENT: Final = 10_000
"""Number of the first event whose amount comes in cents: some hours later in business time."""


@dataclass(frozen=True)
class ClientView:
    """What clients saw of one drill.

    Attributes:
        answers: with status 200, in order of arrival.
        failures: machine time of each answer with status 500.
        promoted: machine time at which ``@champion`` was moved to the version that harms.
        bad: that version.
        harm_from: what the ids of harmed events begin with.
        by_failing: whether failing is the harm; else each answer of the version is.
    """

    answers: Sequence[RecordedAnswer]
    failures: Sequence[float]
    promoted: float
    bad: str
    harm_from: str = ""
    by_failing: bool = False

    @property
    def restored(self) -> float:
        """When the first answer by another version came after the last one by the bad one.

        Raises:
            StackError: the restored version never answered.
        """
        last = max(
            (answer.at for answer in self.answers if answering_version(answer) == self.bad), default=self.promoted
        )
        later = [answer.at for answer in self.answers if answer.at >= last and answering_version(answer) != self.bad]
        if not later:
            raise StackError("the restored version never answered")
        return min(later)

    @property
    def harmed(self) -> list[float]:
        """Machine times of the harmful answers, in order; failures of the active version count as its own."""
        if self.by_failing:
            return sorted(at for at in self.failures if self.promoted <= at <= self.restored)
        ours = (answer for answer in self.answers if answer.event_id.startswith(self.harm_from))
        return sorted(answer.at for answer in ours if answering_version(answer) == self.bad)


def drill_rollback(
    root: Path,
    report_progress: ProgressCallback,
    *,
    guards: Sequence[str] = ("alert_rate",),
    limit: float = LIMIT_SECONDS,
) -> dict[str, Any]:
    """Drill each guard in turn.

    Args:
        root: folder of the drill; emptied first.
        report_progress: told what happens.
        guards: names of :data:`~flows.drills.harmful_models.HARMS`.
        limit: longest wait for a rollback, in seconds.

    Returns:
        ``seconds``, ``seconds_from_harm``, ``failed_requests`` and ``failed_otherwise``, the worst of each,
        ``requests`` of all, and for each of ``guards`` what :func:`drill_guard` gives.

    Raises:
        StackError: the watch did not act in time.
    """
    shutil.rmtree(root, ignore_errors=True)
    results = {name: drill_guard(root / name, report_progress, HARMS[name], limit) for name in guards}
    worst = {
        name: max(result[name] for result in results.values())
        for name in ("seconds", "seconds_from_harm", "failed_requests", "failed_otherwise")
    }
    return worst | {"requests": sum(result["requests"] for result in results.values()), "guards": results}


def drill_guard(root: Path, report_progress: ProgressCallback, harm: Harm, limit: float) -> dict[str, Any]:
    """Promote a version that harms, and wait for the watch.

    The stack is as in production: one service, and a scribe that scores challenger and old champion in shadow and
    watches the new one.

    Returns:
        ``seconds`` from the alias change of the promotion, and ``seconds_from_harm`` from the first harmful answer, to
        the first answer by the restored version; ``failed_requests`` (no answer or no 200) over the whole drill,
        of which ``failed_otherwise`` are not the version's own errors while it was active; ``requests``;
        ``harmed`` events; ``fired``, the figures that failed, and the id of the ``decision``.

    Raises:
        StackError: the watch did not act in time, or for another reason than the harm.
    """
    home = BenchHome(root / "home", USECASE)
    home.home.make()
    report_progress("models")
    refs = [home.add(model) for model in harm.make()]
    record = root / "answers.txt"
    with home.store() as store:
        changes = Changes(home, store, refs)
        changes.install(refs[0])
        figures = _under_load(home, changes, harm, record, report_progress, limit)
        evidence = store.decisions.last(home.usecase.name, (KIND,))
    assert evidence is not None
    failed_checks = [one["name"] for one in evidence.payload["checks"] if one["status"] == "FAIL"]
    if harm.check not in failed_checks:
        raise StackError(
            f"the watch acted on {', '.join(failed_checks)}; the version that {harm.told} breaks {harm.check}"
        )
    promoted_at, bad_version = changes.registry.moves[-1]
    view = _read_view(record, promoted_at, bad_version, harm)
    failed, own_failures = sum(one.errors for one in figures), len(view.harmed) if view.by_failing else 0
    return {
        "seconds": round(view.restored - promoted_at, 3),
        "seconds_from_harm": round(view.restored - view.harmed[0], 3),
        "failed_requests": failed,
        "failed_otherwise": failed - own_failures,
        "requests": sum(one.requests for one in figures),
        "harmed": len(view.harmed),
        "fired": failed_checks,
        "decision": evidence.id,
        "p99_ms": max(one.p99_ms for one in figures),
    }


def _under_load(
    home: BenchHome, changes: Changes, harm: Harm, record: Path, report_progress: ProgressCallback, limit: float
) -> list[RoundFigures]:
    """Run the stack, promote the second version, wait for the rollback; what the load measured."""
    processes: list[Child] = []
    try:
        port = free_port()
        processes += [home.service(port), home.scribe()]
        processes[0].wait_ready()
        with ExitStack() as loads:
            running = [loads.enter_context(RunningLoad(_load(port, record, harm, False)))]
            changes.appoint(changes.refs[1])
            _wait_for_shadow(changes, changes.refs[1])
            report_progress(f"a version that {harm.told} becomes champion")
            changes.promote_challenger(changes.refs[1])
            if harm.shifted:
                shifted = loads.enter_context(RunningLoad(_load(port, record, harm, True)))
                running.append(shifted)
            _wait_for_rollback(changes.store, home.model, limit, harm)
            report_progress("the watch rolled back")
            time.sleep(2.0)
            figures = [load.stop() for load in running]
        drain_spool(home)
        return figures
    finally:
        stop_all(processes)
        changes.verifier.close()


def _load(port: int, record: Path, harm: Harm, shifted: bool) -> LoadRound:
    """The traffic; what is shifted is a second stream beside the first, with ids of its own."""
    body = BodySpec("event", 100_000, first=_FIRST_SHIFTED_EVENT if shifted else 0, factor=UNIT if shifted else 1)
    file = record.with_suffix(".shifted") if shifted else record
    ids = "shifted-" if shifted else "rollback-"
    return steady_load(port, file, ids, rate=harm.rate, connections=harm.connections, body=body)


def _read_view(record: Path, promoted_at: float, bad_version: str, harm: Harm) -> ClientView:
    files = [record, *([record.with_suffix(".shifted")] if harm.shifted else [])]
    answers = sorted((answer for file in files for answer in read_answers(file)), key=lambda answer: answer.at)
    good = [answer for answer in answers if answer.status == 200]
    failures = [answer.at for answer in answers if answer.status == 500]
    return ClientView(
        good, failures, promoted_at, bad_version, "shifted-" if harm.shifted else "", harm.check == "error_rate"
    )


def _wait_for_shadow(changes: Changes, ref: ModelRef) -> None:
    """Until the challenger has seen enough events for every guard to have something to compare with.

    Where it fails, or is too slow for the shadow, that is its answer.
    """
    deadline = time.monotonic() + _SHADOW_SECONDS
    while time.monotonic() < deadline:
        progress = changes.store.shadow.progress(changes.home.usecase.name, ref.label)
        if progress.scored + progress.errors >= _SHADOW_EVENTS:
            return
        time.sleep(0.2)
    raise StackError(f"{ref.label} scored too little in shadow within {_SHADOW_SECONDS:g} s; see the scribe's log")


def _wait_for_rollback(store: Store, model: str, limit: float, harm: Harm) -> None:
    """Until the journal holds a finished rollback by the watch."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        newest = store.journal.recent(model)[0]
        if (newest.kind, newest.state, newest.actor) == ("rollback", "DONE", ACTOR):
            return
        time.sleep(0.1)
    raise StackError(
        f"the watch did not roll back a version that {harm.told} within {limit:g} s; "
        "see the scribe's log in the drill's home"
    )
