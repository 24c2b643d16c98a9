"""A drill: a version that flags everybody takes office under load. How long until the watch has it out again?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bentos.calibration import Threshold
from bentos.model import ScoringModel
from bentos.usecase import load_usecase
from bentos.watch import ACTOR, KIND
from flows.bench.homes import BenchHome
from flows.bench.loading import Answer, RunningLoad, recorded
from flows.bench.model import fit_model, training_rows
from flows.errors import StackError
from flows.processes import Child, free_port, stop_all
from flows.steps.drill_log import SMALL_WORLD, drained
from flows.steps.drill_swap import Changes, said_by, steady_load
from monitoring.store import Store

Notice = Callable[[str], None]
LIMIT_SECONDS: Final = 60.0
"""A hard guard must have acted by then."""
_EVERYBODY, _NOBODY = (Threshold(cut, cut, cut) for cut in (1e-6, 1.0 - 1e-6))


def drill_rollback(root: Path, notice: Notice, *, limit: float = LIMIT_SECONDS) -> dict[str, Any]:
    """Promote a version whose threshold flags every event, and wait for the watch.

    The stack is as in production: one service, and a scribe that scores the old champion in reverse shadow and
    watches the new one.

    Args:
        root: folder of the drill; emptied first.
        notice: told what happens.
        limit: longest wait for the rollback, in seconds.

    Returns:
        ``seconds`` from the alias change of the promotion to the first answer by the restored version,
        ``failed_requests`` (no answer or no 200) over the whole drill, ``requests``, ``harmed`` answers by the bad
        version, ``guard`` that failed, and the id of the ``decision``.

    Raises:
        StackError: the watch did not act in time.
    """
    shutil.rmtree(root, ignore_errors=True)
    home = BenchHome(root / "home")
    home.home.make()
    notice("models")
    refs = [home.add(model) for model in _good_and_bad()]
    record = root / "answers.txt"
    with home.store() as store:
        changes = Changes(home, store, refs)
        changes.install(refs[0])
        processes: list[Child] = []
        try:
            port = free_port()
            processes += [home.service(port), home.scribe()]
            processes[0].wait_ready()
            with RunningLoad(steady_load(port, record, "rollback-")) as running:
                time.sleep(3.0)
                notice("a version that flags everybody takes office")
                changes.promote(refs[1])
                _wait_for_rollback(store, home.model, limit)
                notice("the watch rolled back")
                time.sleep(2.0)
                measured = running.stop()
            drained(home)
        finally:
            stop_all(processes)
            changes.verifier.close()
        evidence = store.decisions.last(home.usecase.name, (KIND,))
    answers = [answer for answer in recorded(record) if answer.status == 200]
    promoted, bad = changes.registry.moves[-1]
    assert evidence is not None
    return {
        "seconds": round(_first_back(answers, promoted, bad) - promoted, 3),
        "failed_requests": measured.errors,
        "requests": measured.requests,
        "harmed": sum(said_by(answer) == bad for answer in answers),
        "guard": next(one["name"] for one in evidence.payload["checks"] if one["status"] == "FAIL"),
        "decision": evidence.id,
        "p99_ms": measured.p99_ms,
    }


def _good_and_bad() -> tuple[ScoringModel, ScoringModel]:
    """Two small models with thresholds that nobody and that everybody passes."""
    usecase = load_usecase("fraud")
    features, y = training_rows(usecase, **SMALL_WORLD)
    one, other = (fit_model(usecase, features, y, seed, trees=12, depth=3) for seed in (1, 2))
    return replace(one, threshold=_NOBODY), replace(other, threshold=_EVERYBODY)


def _wait_for_rollback(store: Store, model: str, limit: float) -> None:
    """Until the journal holds a finished rollback by the watch."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        newest = store.journal.recent(model)[0]
        if (newest.kind, newest.state, newest.actor) == ("rollback", "DONE", ACTOR):
            return
        time.sleep(0.1)
    raise StackError(f"the watch did not roll back within {limit:g} s; see the scribe's log in the drill's home")


def _first_back(answers: Sequence[Answer], promoted: float, bad: str) -> float:
    """When the first answer by another version than the bad one came after the bad one's last."""
    last = max((answer.at for answer in answers if said_by(answer) == bad), default=promoted)
    later = [answer.at for answer in answers if answer.at >= last and said_by(answer) != bad]
    if not later:
        raise StackError("the restored version never answered")
    return min(later)
