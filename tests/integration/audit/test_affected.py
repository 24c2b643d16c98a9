"""What a rollback changes for people: whom to call, what to review."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.model.scoring_model import ScoringModel
from bentos.promotion.request import ReleaseOutcome
from bentos.release.affected_events import columns_of, list_affected, note_affected
from bentos.usecase.options import ExternalIncumbent
from monitoring.core.hashing import sha256_file
from monitoring.store import PlanRecord, RoleChange, Store, memory_store
from tests.support.builders import fraud, tiny_model
from tests.support.log.logged import scored, shadowed
from tests.support.releases import MODEL, NOW


def rolled_back(to_version: str) -> ReleaseOutcome:
    return ReleaseOutcome("rollback", "fraud", MODEL, "2", to_version)


class Log:
    """Version 2 answered ten events; version 1 is restored."""

    def __init__(self) -> None:
        self.store = memory_store()
        self.model = tiny_model(seed=1, threshold=0.3)
        names = self.model.plan.names
        self.store.log.declare_plan(PlanRecord("p", ("extra", *names)))
        # By the journal version 2 became champion before any of the events arrived.
        change = RoleChange(MODEL, "champion", "2", "c")
        self.store.decisions.append("fraud", "promotion.champion_set", {}, "x", NOW, [change])
        self.arrival = int(self.store.decisions.list()[0].recorded_at.timestamp() * 1e6) + 1
        rng = np.random.default_rng(3)
        self.rows = rng.normal(size=(10, len(names))).astype("<f4")

    def answer(self, number: int, decision: bool, **changes: Any) -> None:
        blob = np.concatenate([[9.0], self.rows[number]]).astype("<f4").tobytes()
        body = {"transaction_id": f"e{number:05d}", "customer_id": f"c{number}", "terminal_id": "t", "amount": 5.5}
        values = {"version": "2", "plan_id": "p", "features": blob, "body": json.dumps(body).encode()}
        values |= {"received_at": self.arrival + number, "decision": decision, "score": 0.9 if decision else 0.1}
        self.store.log.append([scored(number, **values | changes)])

    def event_frame(self, folder: Path, model: ScoringModel | None) -> Any:
        return list_affected(self.store, fraud(), rolled_back("1"), lambda: model, folder / "list.csv")


@pytest.fixture
def log() -> Any:
    made = Log()
    yield made
    made.store.close()


def lines(file: str | None) -> list[dict[str, str]]:
    assert file is not None
    with Path(file).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_events_are_rescored_from_the_features_as_served(log: Log, tmp_path: Path) -> None:
    own = log.model.score(log.rows).calibrated
    for number in range(10):
        log.answer(number, decision=number % 2 == 0)
    found = log.event_frame(tmp_path, log.model)
    flags = own >= 0.3
    call = [n for n in range(10) if n % 2 == 0 and not flags[n]]
    review = [n for n in range(10) if n % 2 == 1 and flags[n]]
    assert (found.answered, found.call, found.review, found.unknown) == (10, len(call), len(review), 0)
    assert found.rescored == 10
    written = lines(found.file)
    assert list(written[0]) == columns_of(fraud())
    assert {row["event_id"]: row["direction"] for row in written} == {
        **{f"e{n:05d}": "call" for n in call},
        **{f"e{n:05d}": "review" for n in review},
    }
    for row in written:
        number = int(row["event_id"][1:])
        assert float(row["restored_score"]) == own[number]
        assert (row["customer_id"], row["amount"], row["judged_by"]) == (f"c{number}", "5.5", "features")
    assert found.digest == sha256_file(Path(found.file))
    assert Path(found.file).stat().st_mode & 0o077 == 0


def test_the_other_models_own_shadow_scores_are_taken_first(log: Log, tmp_path: Path) -> None:
    log.answer(1, decision=False)
    log.answer(2, decision=True)
    log.store.shadow.append([shadowed(1, version="1"), shadowed(2, version="1")])
    found = log.event_frame(tmp_path, None)
    assert (found.call, found.review, found.unknown, found.rescored) == (0, 1, 0, 0)
    (row,) = lines(found.file)
    assert (row["event_id"], row["direction"], row["restored_score"], row["judged_by"]) == (
        "e00001", "review", "0.8", "shadow",
    )  # fmt: skip


def test_answers_of_others_and_of_before_the_promotion_do_not_count(log: Log, tmp_path: Path) -> None:
    log.answer(1, decision=True, version="1")
    log.answer(2, decision=True, received_at=log.arrival - int(timedelta(days=1).total_seconds() * 1e6))
    found = log.event_frame(tmp_path, log.model)
    assert (found.answered, found.file) == (0, None)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_judged_is_listed_as_unknown(log: Log, tmp_path: Path) -> None:
    log.answer(1, decision=True)
    found = log.event_frame(tmp_path, None)
    assert (found.unknown, lines(found.file)[0]["direction"]) == (1, "unknown")


def test_path_and_digest_are_kept_in_the_chain(log: Log, tmp_path: Path) -> None:
    log.answer(1, decision=True)
    found = log.event_frame(tmp_path, None)
    note_affected(log.store, fraud(), found, "op", "ann", NOW)
    (kept,) = log.store.decisions.list(kinds=("rollback.affected",))
    assert (kept.payload["file"], kept.payload["digest"], kept.payload["op_id"]) == (found.file, found.digest, "op")
    assert "rows" not in kept.payload


def test_nothing_is_listed_for_a_version_that_never_held_office(tmp_path: Path) -> None:
    store: Store = memory_store()
    found = list_affected(store, fraud(), rolled_back("1"), lambda: None, tmp_path / "list.csv")
    assert (found.answered, found.file) == (0, None)
    store.close()


def test_the_way_back_to_an_external_score_is_judged_by_its_column(log: Log, tmp_path: Path) -> None:
    usecase = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
    for number, (decision, score) in enumerate([(True, 0.1), (False, 0.9), (True, 0.9)]):
        log.answer(number, decision, body=json.dumps({"amount": score}).encode())
    found = list_affected(log.store, usecase, rolled_back("external"), lambda: None, tmp_path / "list.csv")
    assert (found.call, found.review, found.unknown) == (1, 1, 0)
    assert {row["judged_by"] for row in lines(found.file)} == {"column"}
