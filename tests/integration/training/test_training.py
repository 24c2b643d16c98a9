"""The whole training job on a small simulated world, against a real MLflow and against its stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import RegistryUnavailable, VersionMissing
from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import MlflowRegistry, ModelRef
from bentos.settings import Settings, read_settings
from bentos.usecase.definition import ExternalIncumbent, SplitPolicy, UseCase
from flows.errors import EvaluationError, OneClass, SnapshotMissing, TooFewRows
from flows.snapshots.store import SnapshotStore
from flows.sources import open_source
from flows.sources.base import SourceRead
from flows.steps.data.folds import TrainingHistory, build_fold
from flows.steps.data.read_history import read_history
from flows.steps.data.split import days_needed
from flows.steps.evaluation.judge import fetch_model, measure_incumbent
from flows.steps.tracking import training_record
from flows.steps.tracking.mlflow_run import MlflowTracker, Tracker
from flows.steps.training.evaluate_version import evaluate_version
from flows.steps.training.train import TrainingOutcome, train_model
from flows.steps.training.training_steps import STEPS, TrainingStores
from monitoring.core.calendar import TimeWindow
from tests.support import registries
from tests.support.builders import fraud, tiny_model
from tests.support.fakes import FakeRegistry, FakeTracker

AS_OF = datetime(2026, 3, 28, 9, tzinfo=UTC)
LATER = AS_OF + timedelta(days=7)


@cache
def small() -> UseCase:
    """The fraud case with short folds over a small world."""
    split = SplitPolicy.model_validate(
        {"train": "14d", "calibration": "6d", "test": "7d", "refit_calibration": "4d"}, strict=False
    )
    world = fraud().source.simulator.model_copy(update={"customers": 400, "terminals": 500, "days": 100})
    training = fraud().training.model_copy(update={"trees": 40})
    # So few frauds are too few to beat logistic regression reliably; the gates' own tests do the rest.
    floors = {"min_average_precision": 0.3, "min_recall": 0.3, "min_baseline_gain": -0.3, "max_champion_loss": 0.3}
    gates = fraud().gates.model_copy(update=floors)
    source = fraud().source.model_copy(update={"simulator": world})
    return fraud().model_copy(update={"split": split, "source": source, "training": training, "gates": gates})


def usecase_with(**training: Any) -> UseCase:
    return small().model_copy(update={"training": small().training.model_copy(update=training)})


def impossible() -> UseCase:
    return small().model_copy(update={"gates": small().gates.model_copy(update={"min_recall": 1.0})})


@cache
def history(as_of: datetime = AS_OF) -> SourceRead:
    return read_history(open_source(small()), small(), as_of).read


class Workshop:
    """Everything a training needs, in one folder, with stand-ins for MLflow."""

    def __init__(self, folder: Path) -> None:
        self.settings: Settings = read_settings(home=folder, env="dev")
        self.registry: Any = FakeRegistry(folder / "registry")
        self.tracker: Tracker = FakeTracker(folder / "runs")
        self.snapshots = SnapshotStore(self.settings.snapshots)

    @property
    def stores(self) -> TrainingStores:
        return TrainingStores(self.settings, self.registry, self.snapshots, self.tracker)

    def train(self, usecase: UseCase | None = None, as_of: datetime = AS_OF, **more: Any) -> TrainingOutcome:
        read = more.pop("read", None) or history(as_of)
        return train_model(usecase or small(), read, as_of, stores=self.stores, **more)

    def evaluate(self, ref: ModelRef, as_of: datetime = AS_OF) -> Any:
        return evaluate_version(small(), ref, as_of, self.stores)

    @property
    def run(self) -> dict[str, Any]:
        assert isinstance(self.tracker, FakeTracker)
        return list(self.tracker.runs.values())[-1]


@dataclass
class First:
    """One complete training that many tests look at and none changes."""

    shop: Workshop
    outcome: TrainingOutcome
    told: list[tuple[str, int, int]]

    @property
    def ref(self) -> ModelRef:
        assert self.outcome.ref is not None
        return self.outcome.ref

    @property
    def tags(self) -> Mapping[str, str]:
        return self.shop.registry.describe(self.ref).tags

    def takes_office_in(self, shop: Workshop) -> None:
        """The same version as champion of another workshop."""
        self.outcome.model.save(shop.settings.root / "first")
        ref = shop.registry.register(shop.settings.root / "first", self.ref.name, self.tags)
        shop.registry.point(ref.name, "champion", ref.version)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    shop, told = Workshop(tmp_path_factory.mktemp("first")), []
    return First(shop, shop.train(progress=lambda *step: told.append(step)), told)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A fresh workshop that draws no pictures, which take longer than all the rest."""
    monkeypatch.setattr(training_record, "draw_plots", lambda *_: [])
    return Workshop(tmp_path)


def test_a_model_that_passes_is_registered_as_the_refit_of_its_twin(first: First):
    outcome, shop = first.outcome, first.shop
    assert first.ref == ModelRef("dev-fraud", "1")
    assert outcome.verdict.challenger == outcome.evidence.model == "dev-fraud/1"
    model = fetch_model(shop.registry, first.ref)
    model.check_golden()
    assert model.contract_digest == outcome.model.contract_digest
    twin = ScoringModel.load(shop.tracker.fetch(outcome.run_id, "twin", shop.settings.root / "twin"))
    assert model.metadata.twin_digest == twin.booster_digest != model.booster_digest
    assert model.metadata.rows > twin.metadata.rows
    assert twin.metadata.calibration_end <= outcome.split.test.start.isoformat()
    assert model.metadata.training_end == outcome.split.refit_calibration.start.isoformat()
    assert [step for step, _, _ in first.told] == [*STEPS, "done"]


def test_a_version_holds_the_cost_curve_of_the_fold_that_chose_its_threshold(first: First):
    model = fetch_model(first.shop.registry, first.ref)
    curve = model.cost_curve
    assert curve is not None
    assert 20 < len(curve.threshold) <= 100
    place = curve.point_index(model.threshold.value)
    assert curve.threshold[place] >= model.threshold.value > curve.threshold[place + 1]
    assert curve.cost[place] < curve.cost[0]
    assert (curve.alerts[0], curve.recall[-1]) == (0, 1.0)


def test_training_gives_no_role(first: First):
    assert first.shop.registry.roles("dev-fraud") == {}


def test_a_version_says_where_it_comes_from(first: First):
    outcome, info = first.outcome, first.shop.registry.describe(first.ref)
    assert info.run_id == outcome.run_id
    assert "Version 1.0.0" in info.description
    tags = info.tags
    assert tags["data_digest"] == outcome.snapshot.digest
    assert (tags["semantic_version"], tags["parent"], tags["champion"]) == ("1.0.0", "none", "none")
    assert tags["training_start"] == outcome.split.refit.start.isoformat()
    assert tags["contract_digest"] == outcome.model.contract_digest
    assert float(tags["gate_average_precision"]) == pytest.approx(outcome.evidence.value("average_precision"), rel=1e-5)
    again = first.shop.snapshots.load(tags["data_digest"])
    assert len(again.events) == outcome.snapshot.rows


def test_a_run_tells_everything(first: First):
    outcome, run = first.outcome, first.shop.run
    assert run["state"] == "FINISHED"
    assert run["datasets"][0].digest == outcome.snapshot.digest
    named = {"data_digest", "git_commit", "environment_digest", "window_test", "seed", "trees", "max_depth"}
    assert named <= set(run["params"])
    for name in ("average_precision", "recall", "cost", "card_precision", "brier", "calibration_error", "auc_roc"):
        assert {name, f"{name}_low", f"{name}_high", f"baseline_{name}"} <= set(run["metrics"])
    assert {"threshold", "single_event_p99_ms", "model_mb"} <= set(run["metrics"])
    assert (run["tags"]["gates"], run["tags"]["version"]) == ("pass", "dev-fraud/1")
    kept = first.shop.settings.root / "runs" / outcome.run_id
    drawn = {p.stem for p in (kept / "plots").glob("*.png")}
    assert drawn == {
        "precision_recall", "calibration", "importance", "score_distribution", "cost_against_threshold", "shap_summary",
    }  # fmt: skip
    shap = json.loads((kept / "shap_summary.json").read_text())
    assert set(shap["mean_abs"]) == set(outcome.model.plan.names)


def test_the_reference_is_the_newest_week_and_its_scores_are_out_of_sample(first: First):
    profile, split = first.outcome.model.profile, first.outcome.split
    events = history().events["tx_time"]
    week = (events >= split.matured_until - timedelta(days=7)) & (events < split.matured_until)
    late = (events >= split.refit_calibration.start) & (events < split.refit_calibration.end)
    assert profile.rows == week.sum()
    assert profile.score is not None
    assert profile.score.rows == late.sum()
    assert {f.name for f in profile.features if f.kind == "calendar"} == {"during_weekend", "during_night"}
    assert all(len(f.weekdays) == 7 for f in profile.features)


def test_the_same_data_code_and_seed_give_the_same_model(first: First, shop: Workshop):
    again = shop.train()
    assert again.model.booster_digest == first.outcome.model.booster_digest
    assert again.model.contract_digest == first.outcome.model.contract_digest
    assert again.snapshot.digest == first.outcome.snapshot.digest


def test_a_refused_model_leaves_a_run_and_no_version(shop: Workshop):
    outcome = shop.train(impossible())
    assert (outcome.ref, outcome.passed, outcome.verdict.outcome) == (None, False, "fail")
    assert outcome.verdict.check("recall").status == "FAIL"
    assert shop.registry.versions("dev-fraud") == []
    assert (shop.run["state"], shop.run["tags"]["gates"]) == ("FINISHED", "fail")
    assert "recall is" in shop.run["tags"]["gate_reasons"]


def test_versions_count_what_changed_and_face_the_champion_on_the_same_rows(first: First, shop: Workshop):
    first.takes_office_in(shop)
    again = shop.train(as_of=LATER)
    assert again.passed
    assert again.incumbent is not None
    assert again.verdict.champion == again.incumbent.model == "dev-fraud/1"
    assert again.incumbent.window == again.evidence.window
    assert again.verdict.check("champion_gain").value is not None
    assert not again.notes
    fewer = usecase_with(max_depth=4).model_copy(update={"features": small().features[:-1]})
    other_features = shop.train(fewer, as_of=LATER)
    assert [o.model.metadata.semantic_version for o in (again, other_features)] == ["1.0.1", "1.1.0"]
    assert other_features.model.metadata.parent == "dev-fraud/2"
    assert len(other_features.model.plan.names) == 14
    assert other_features.incumbent == again.incumbent  # the champion has fifteen features all the same


def measured_against(first: First, shop: Workshop, usecase: UseCase) -> tuple[Any, tuple[str, ...]]:
    """The incumbent's evidence and notes on the test rows of the first training."""
    read = history()
    known = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, AS_OF)
    test = build_fold(usecase, FeaturePlan.of(usecase), known, first.outcome.split.test)
    return measure_incumbent(usecase, shop.registry, "dev-fraud/9", known, test)


def test_a_champion_that_was_fitted_on_the_test_rows_is_left_to_the_comparison(first: First, shop: Workshop):
    first.takes_office_in(shop)
    evidence, notes = measured_against(first, shop, small())
    assert evidence is None
    assert "was fitted on rows up to" in notes[0]
    assert "the comparison in shadow decides" in notes[0]


def test_training_again_on_the_same_table_asks_for_no_gain_on_rows_that_the_champion_knows(
    first: First, shop: Workshop
):
    first.takes_office_in(shop)
    again = shop.train(usecase_with(max_depth=4), as_of=AS_OF)
    assert again.passed
    assert "champion_gain" not in [check.name for check in again.verdict.checks]
    assert "inside the test window" in again.notes[0]


def test_where_nothing_follows_the_gates_such_a_champion_is_measured_and_noted(first: First, shop: Workshop):
    first.takes_office_in(shop)
    rules = small().promotion.model_copy(update={"takes_office": "after_gates"})
    evidence, notes = measured_against(first, shop, small().model_copy(update={"promotion": rules}))
    assert evidence.model == "dev-fraud/1"
    assert "figures flatter it" in notes[0]


def test_a_champion_with_another_input_schema_is_noted(first: First, shop: Workshop):
    first.takes_office_in(shop)
    columns = tuple(c.model_copy(update={"max": 2e6}) if c.name == "amount" else c for c in small().columns)
    evidence, notes = measured_against(first, shop, small().model_copy(update={"columns": columns}))
    assert evidence is None
    assert "another input schema" in notes[0]


def test_an_external_incumbent_is_measured_on_the_same_rows(first: First, shop: Workshop):
    usecase = small().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=1.0)})
    evidence, notes = measured_against(first, shop, usecase)
    assert (evidence.model, notes) == ("external/amount", ())
    assert evidence.value("recall") > 0.95  # nearly every amount is above 1


def test_a_registered_version_is_judged_again_from_what_is_stored(first: First):
    again = first.shop.evaluate(first.ref)
    assert again.evidence.metrics == first.outcome.evidence.metrics
    assert (again.verdict.outcome, again.verdict.challenger) == ("pass", "dev-fraud/1")


def test_a_version_whose_data_or_run_is_gone_cannot_be_judged_again(first: First, shop: Workshop):
    shop.registry = first.shop.registry
    with pytest.raises(VersionMissing):
        shop.evaluate(first.ref)
    shop.tracker = first.shop.tracker
    with pytest.raises(SnapshotMissing):
        shop.evaluate(first.ref)


def test_a_version_that_no_training_made_cannot_be_judged_again(shop: Workshop, tmp_path: Path):
    tiny_model().save(tmp_path / "tiny")
    ref = shop.registry.register(tmp_path / "tiny", "dev-fraud")
    with pytest.raises(EvaluationError, match="names no run"):
        shop.evaluate(ref)
    with pytest.raises(VersionMissing):
        shop.evaluate(ModelRef("dev-fraud", "9"))


def test_a_short_history_is_refused_before_anything_is_written(shop: Workshop):
    as_of = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days_needed(small()) - 1)
    with pytest.raises(TooFewRows, match=f"{days_needed(small())} are needed"):
        shop.train(as_of=as_of)
    assert not shop.settings.snapshots.exists()
    assert not shop.tracker.runs  # type: ignore[attr-defined]  # the stand-in's own


def test_one_class_is_refused_by_name_and_the_run_fails(shop: Workshop):
    read = history()
    quiet = SourceRead(
        read.events, read.labels.assign(y=0), read.quarantine, read.window, read.origin, read.as_of, read.revisions
    )
    with pytest.raises(OneClass, match=r"all \d+ rows of the train fold are negative"):
        shop.train(read=quiet)
    assert shop.run["state"] == "FAILED"
    assert shop.registry.versions("dev-fraud") == []


def test_labels_that_came_later_are_not_looked_at(first: First, shop: Workshop):
    late = open_source(small()).read(TimeWindow(history().window.start, LATER), as_of=LATER)
    assert late.labels["observed_at"].max() > AS_OF
    assert shop.train(read=late).model.booster_digest == first.outcome.model.booster_digest


@pytest.fixture
def real(shop: Workshop, tmp_path: Path) -> Workshop:
    shop.registry = registries.mlflow_registry(tmp_path)
    shop.tracker = MlflowTracker(shop.registry)
    return shop


def test_everything_arrives_in_mlflow(real: Workshop):
    outcome = real.train()
    registry: MlflowRegistry = real.registry
    run = registry.client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.inputs.dataset_inputs[0].dataset.digest == outcome.snapshot.digest[:36]
    assert json.loads(run.inputs.dataset_inputs[0].dataset.profile)["sha256"] == outcome.snapshot.digest
    assert run.data.params["data_digest"] == outcome.snapshot.digest
    assert run.data.metrics["average_precision"] == outcome.evidence.value("average_precision")
    assert run.data.tags["version"] == "dev-fraud/1"
    assert {f.path for f in registry.client.list_artifacts(outcome.run_id)} == {
        "evaluation.json", "shap_summary.json", "twin",
    }  # fmt: skip
    assert registry.describe(ModelRef("dev-fraud", "1")).run_id == outcome.run_id
    again = real.evaluate(outcome.ref)
    assert again.evidence.metrics == outcome.evidence.metrics


@pytest.mark.parametrize("where", ["log_artifacts", "log_model_artifacts", "create_model_version", "log_batch"])
def test_a_full_disk_fails_the_run_and_registers_nothing(real: Workshop, monkeypatch: pytest.MonkeyPatch, where: str):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(real.registry.client, where, full)
    with pytest.raises(RegistryUnavailable, match="No space left on device"):
        real.train()
    monkeypatch.undo()
    assert real.registry.versions("dev-fraud") == []
    runs = real.registry.client.search_runs([real.registry.experiment("dev-fraud")])
    assert [run.info.status for run in runs] == ["FAILED"]


@pytest.mark.parametrize(
    "make", [lambda path: FakeTracker(path), lambda path: MlflowTracker(registries.mlflow_registry(path))]
)
def test_trackers_keep_the_same_contract(make: Callable[[Path], Tracker], tmp_path: Path):
    tracker = make(tmp_path / "tracker")
    run_id = tracker.start("dev-fraud", "a run", {"kind": "test"})
    tracker.log(run_id, {"depth": 3}, {"recall": 0.5}, {"gates": "pass"})
    (tmp_path / "kept" / "inner").mkdir(parents=True)
    (tmp_path / "kept" / "inner" / "a.txt").write_text("a")
    tracker.keep(run_id, tmp_path / "kept")
    assert tracker.fetch(run_id, "inner/a.txt", tmp_path / "one").read_text() == "a"
    assert (tracker.fetch(run_id, "inner", tmp_path / "two") / "a.txt").read_text() == "a"
    with pytest.raises(VersionMissing):
        tracker.fetch(run_id, "nothing", tmp_path / "three")
    with pytest.raises(VersionMissing):
        tracker.log("0" * 32, {"depth": 3})
    tracker.finish(run_id, ok=False)
