from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from bentos.shadow.scorer import ChildLimits, ShadowScorer
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.store import PlanRecord, ScoreRecord, Store, memory_store
from monitoring.store.database.frames import to_us
from monitoring.store.database.tables import shadow
from tests.support.builders import fraud, tiny_model
from tests.support.fakes import FakeRegistry
from tests.support.log.logged import CHALLENGER, CHAMPION, PLAN, at, days, scored

FAR = to_us(at(3650))
"""A machine time after every watch began."""


@pytest.fixture
def log() -> Iterator[Store]:
    store = memory_store()
    store.log.declare_plan(PLAN)
    yield store
    store.close()


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """Two versions without a real booster: 1 is champion, 2 is challenger."""
    made = FakeRegistry(tmp_path / "registry")
    for number in (1, 2):
        folder = tmp_path / f"source{number}"
        folder.mkdir()
        contents = {"model.ubj": b"%d" % number, "contract.json": b"{}"}
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        digests = {name: sha256_hex(data) for name, data in contents.items()}
        (folder / "digests.json").write_bytes(canonical_json(digests))
        made.register(folder, "dev-fraud")
    made.point("dev-fraud", "champion", "1")
    made.point("dev-fraud", "challenger", "2")
    return made


def scorer(log: Store, registry: FakeRegistry, folder: Path, loader: str, **changes: object) -> ShadowScorer:
    limits = ChildLimits(f"tests.support.log.shadow_faults:{loader}", **changes)  # type: ignore[arg-type]  # by name
    made = ShadowScorer(log, registry, "fraud", "dev-fraud", folder / "cache", limits)
    made.run_once()  # begins to watch
    return made


def answered(*numbers: int, **changes: object) -> list[ScoreRecord]:
    return [scored(n, received_at=FAR, **changes) for n in numbers]


def said(log: Store) -> pd.DataFrame:
    columns = ("event_id", "version", "role", "raw_score", "score", "threshold", "decision", "error")
    with log.database.read() as connection:
        rows = connection.execute(select(*(shadow.c[name] for name in columns)).order_by(shadow.c.event_id)).all()
    return pd.DataFrame(rows, columns=list(columns))


def test_the_challenger_scores_by_the_names_of_its_features(log: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    work = scorer(log, registry, tmp_path, "sound")
    log.log.append(answered(10, 70))
    assert work.run_once().scored == 2
    rows = said(log)
    np.testing.assert_allclose(rows["score"], [0.1, 0.7], rtol=1e-6)
    assert rows[["version", "role", "threshold", "decision"]].to_numpy().tolist() == [
        ["2", "challenger", 0.5, 0],
        ["2", "challenger", 0.5, 1],
    ]
    assert work.run_once().scored == 0
    work.close()


def test_rows_of_several_plans_are_scored_together(log: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    log.log.declare_plan(PlanRecord("plan-2", ("night", "count", "amount")))
    other = {"plan_id": "plan-2", "features": np.array([0, 1, 30], dtype="<f4").tobytes()}
    work = scorer(log, registry, tmp_path, "sound")
    log.log.append([*answered(10), *answered(11, **other), *answered(12, plan_id="never-declared")])
    assert (work.run_once().scored, log.shadow.progress("fraud", CHALLENGER).errors) == (2, 1)
    rows = said(log)
    np.testing.assert_allclose(rows["score"].to_numpy(dtype=float), [0.1, 0.3, np.nan], rtol=1e-6)
    assert rows["error"].tolist() == [None, None, "features_missing"]
    work.close()


@pytest.mark.parametrize(
    ("loader", "error"),
    [
        ("raises", "raised_ZeroDivisionError"),
        ("crashes", "crashed"),
        ("sleeps", "timeout"),
        ("wants_more", "features_missing"),
        ("short", "wrong_length"),
    ],
)
def test_what_a_model_does_wrong_is_stored_and_counted(
    log: Store, registry: FakeRegistry, tmp_path: Path, loader: str, error: str
) -> None:
    work = scorer(log, registry, tmp_path, loader, score_seconds=0.5)
    log.log.append(answered(1, 2))
    before = log.log.answers("fraud", days(0, 5))
    done = work.run_once()
    assert (done.scored, done.errors) == (0, 2)
    assert said(log)["error"].tolist() == [error, error]
    assert log.shadow.progress("fraud", CHALLENGER).pending == 0
    pd.testing.assert_frame_equal(log.log.answers("fraud", days(0, 5)), before)
    work.close()


def test_a_nan_is_held_against_its_row_alone(log: Store, registry: FakeRegistry, tmp_path: Path) -> None:
    work = scorer(log, registry, tmp_path, "gives_nan")
    log.log.append(answered(1, 2, 3))
    done = work.run_once()
    assert (done.scored, done.errors, done.failures) == (1, 2, 0)
    assert said(log)["error"].tolist() == ["not_a_probability", None, "not_a_probability"]
    work.close()


def test_after_a_crash_a_new_process_goes_on_with_what_is_left(
    log: Store, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.shadow.scorer._FIRST_BACKOFF", 0.01)
    work = scorer(log, registry, tmp_path, "crashes", chunk=2)
    log.log.append(answered(1, 2, 3))
    assert (work.run_once().failures, log.shadow.progress("fraud", CHALLENGER).pending) == (1, 1)
    work._limits = ChildLimits("tests.support.log.shadow_faults:sound")
    time.sleep(0.1)
    assert work.run_once().scored == 1
    work.close()


def test_a_model_that_cannot_be_loaded_leaves_its_rows_pending_and_is_tried_later(
    log: Store, registry: FakeRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = scorer(log, registry, tmp_path, "cannot_load")
    log.log.append(answered(1))
    assert (work.run_once().failures, work.run_once().failures) == (1, 0)
    assert log.shadow.progress("fraud", CHALLENGER).pending == 1
    assert "secret" not in caplog.text
    work.close()


def test_a_registry_outage_changes_nothing_for_those_who_score(
    log: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    work = scorer(log, registry, tmp_path, "sound")
    log.log.append(answered(1))
    work.run_once()
    registry.down = True
    work._looked = -10.0
    log.log.append(answered(2))
    assert work.run_once().scored == 1
    work.close()


def test_after_a_change_of_office_the_old_champion_scores_in_reverse(
    log: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    work = scorer(log, registry, tmp_path, "sound")
    registry.clear("dev-fraud", "challenger")
    registry.point("dev-fraud", "previous", "1")
    registry.point("dev-fraud", "champion", "2")
    work._looked = -10.0
    work.run_once()
    log.log.append([*answered(1, version="2"), *answered(2, version="1")])
    assert work.run_once().scored == 2
    assert said(log)[["event_id", "version", "role"]].to_numpy().tolist() == [
        ["e00001", "1", "previous"],
        ["e00002", "2", "champion"],
    ]
    work.close()


def test_a_real_model_gives_the_same_scores_in_its_shadow_as_in_office(log: Store, tmp_path: Path) -> None:
    model = tiny_model(fraud())
    model.save(tmp_path / "source")
    real = FakeRegistry(tmp_path / "registry")
    for role in ("champion", "challenger"):
        real.point("dev-fraud", role, real.register(tmp_path / "source", "dev-fraud").version)
    rows = np.random.default_rng(5).gamma(2.0, 20.0, (50, len(model.plan.names))).astype(np.float32)
    log.log.declare_plan(PlanRecord(model.plan.fingerprint, model.plan.names))
    work = ShadowScorer(log, real, "fraud", "dev-fraud", tmp_path / "cache")
    work.run_once()
    plan = model.plan.fingerprint
    log.log.append([r for n in range(50) for r in answered(n, plan_id=plan, features=rows[n].tobytes())])
    assert work.run_once().scored == 50
    expected = model.score(rows)
    found = said(log)
    np.testing.assert_array_equal(found["score"], expected.calibrated)
    np.testing.assert_array_equal(found["raw_score"].astype(np.float32), expected.raw)
    assert found["decision"].astype(bool).tolist() == model.decide(expected.calibrated).tolist()
    work.close()


def test_the_champion_has_nothing_to_do_while_it_answers_everything(
    log: Store, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.clear("dev-fraud", "challenger")
    work = scorer(log, registry, tmp_path, "sound")
    log.log.append(answered(1, 2))
    assert work.run_once().scored == 0
    assert log.shadow.progress("fraud", CHAMPION).pending == 0
    work.close()
