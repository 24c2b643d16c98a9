"""The page of a drift check on a case with categories, from a real store, real snapshots and the real Evidently."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.snapshots.store import SnapshotStore
from flows.sources.base import SourceRead
from flows.steps.drift.check import check_drift, read_drift_inputs
from flows.steps.evaluation.level_names import category_levels, name_levels
from flows.steps.reports.drift_pages import write_drift_page
from monitoring.core.calendar import TimeWindow
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from monitoring.store import memory_store
from tests.support.builders import NOON, card_event, card_frame, case, label_frame, tiny_model
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers

REF = ModelRef("dev-cards", "1")
MINUTE = timedelta(minutes=1)


def paid(rows: int, first: timedelta, web: float, seed: int) -> pd.DataFrame:
    """Card payments, one a minute, of which a share comes from the web."""
    rng = np.random.default_rng(seed)
    draws = zip(rng.gamma(2.0, 20.0, rows).round(2), rng.random(rows) < web, strict=True)
    return card_frame(
        *[
            card_event(seed * 5000 + n, first + n * MINUTE, amount=float(a), channel="web" if w else "app")
            for n, (a, w) in enumerate(draws)
        ]
    )


def trained(usecase: UseCase, events: pd.DataFrame, snapshots: SnapshotStore) -> ScoringModel:
    """A model whose reference and snapshot are these events."""
    bare = tiny_model(usecase)
    features = bare.plan.build(events, label_frame(), NOON + timedelta(days=10))
    window = TimeWindow(NOON, NOON + timedelta(days=10))
    read = SourceRead(events, label_frame(), pd.DataFrame(), window, "a test")
    about = replace(
        bare.metadata,
        data_digest=snapshots.save_read(read, usecase).digest,
        as_of=window.end.isoformat(),
        training_start=window.start.isoformat(),
        training_end=window.end.isoformat(),
    )
    scores = bare.score(features.to_numpy()).calibrated
    profile = ReferenceProfile.fit(features, scores, DriftPolicy(), categorical_features=["channel"])
    return replace(bare, metadata=about, profile=profile)


def page_of(tmp_path: Path, usecase: UseCase, *, forget: bool = False) -> str:
    """The page of a day on which the web took over."""
    snapshots, as_of = SnapshotStore(tmp_path / "snapshots"), datetime(2026, 3, 20, tzinfo=UTC)
    model = trained(usecase, paid(3000, timedelta(), 0.2, 1), snapshots)
    live = paid(1000, datetime(2026, 3, 19, tzinfo=UTC) - NOON, 0.9, 2)
    features = model.plan.build(live, label_frame(), as_of)
    store = memory_store()
    log_answers(store, usecase, LoadedVersion(REF, model), EventBatch(live, features.to_numpy(), as_of))
    inputs = read_drift_inputs(store, usecase, REF, model, as_of, skew=False, aftermath=False)
    finding = check_drift(store, usecase, REF, model, inputs)
    where = tmp_path / "gone" if forget else snapshots.folder
    written = write_drift_page(SnapshotStore(where), tmp_path / "reports", usecase, model, finding, inputs)
    store.close()
    assert written is not None
    return written.read_text(encoding="utf-8")


def test_evidently_is_given_categories_as_categories_by_the_names_of_their_levels(tmp_path: Path) -> None:
    html = page_of(tmp_path, case())
    assert '"column_name": "channel", "column_type": "cat"' in html
    assert '"reference_distribution": {"x": ["app", "web"]' in html
    assert '"column_name": "amount", "column_type": "num"' in html


def test_a_code_is_shown_as_the_level_that_it_stands_for() -> None:
    model = tiny_model(case())
    assert category_levels(model) == {"channel": ("app", "web")}
    rows = pd.DataFrame({"amount": [1.0, 2.0, 3.0, 4.0], "channel": [0.0, 1.0, 2.0, np.nan]}, dtype="float32")
    shown = name_levels(rows, category_levels(model))
    assert shown["channel"].tolist()[:3] == ["app", "web", "(unlisted)"]
    assert shown["channel"].isna().tolist() == [False, False, False, True]
    assert shown["amount"].dtype == np.float32


def test_evidently_s_figures_are_held_against_the_bands_of_the_use_case(tmp_path: Path) -> None:
    bands = {"psi_warning": 5.0, "psi_severe": 6.0, "ks_warning": 1.0}
    html = page_of(tmp_path, case(drift=bands))
    assert "This window: none" in html
    assert "Evidently's band is another for" not in html, "a PSI of 2.5 is calm here and there"


def test_a_page_is_written_also_where_the_reference_rows_are_gone(tmp_path: Path) -> None:
    html = page_of(tmp_path, case(), forget=True)
    assert "the rows that the model was fitted on are gone" in html
    assert "This window: severe" in html
