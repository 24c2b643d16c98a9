"""A Dask cluster of two processes: the features, figures and lists of one process, and what is said when it fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.settings import read_settings
from bentos.usecase.definition import SplitPolicy, UseCase
from bentos.usecase.loading import load_usecase
from flows.distributed import dask_cluster as clusters
from flows.distributed.dask_cluster import Cluster, open_cluster
from flows.distributed.scoring import score_on_cluster
from flows.distributed.slices import SourceCall
from flows.distributed.training import prepare, train_on_cluster
from flows.errors import ClusterFailed, ClusterUnreachable, EngineMissing, FlowRefused, SchemaProblem, TrainingError
from flows.runs.parameters import EngineChoice
from flows.sources import open_source
from flows.steps.bulk.input import BulkInput
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.score_table import BulkResult, score_table
from flows.steps.data.folds import TrainingHistory, build_fold
from flows.steps.data.read_history import history_window
from flows.steps.evaluation.judge import fetch_model
from flows.steps.tracking import training_record
from flows.steps.training.training_data import full_window
from flows.workspace.installation import PROJECT
from monitoring.store import open_store
from tests.integration.training import test_blocked_training as blocked
from tests.integration.training.test_bulk import AS_OF as BULK_AS_OF
from tests.integration.training.test_bulk import CHUNK, REF, ROWS, _table, _usecase
from tests.integration.training.test_training import AS_OF, Workshop, history, small
from tests.support.builders import tiny_model

LOCAL: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
"""Any free port, also for the scheduler's own pages."""


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(**LOCAL, n_workers=2, threads_per_worker=1, processes=True) as made:
        yield made.scheduler_address


@pytest.fixture
def workers(scheduler: str, tmp_path: Path) -> Iterator[Cluster]:
    with open_cluster(scheduler, tmp_path, lambda *_: None) as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setattr(training_record, "draw_plots", lambda *_: [])
    return Workshop(tmp_path)


def trained(workers: Cluster, shop: Workshop, usecase: UseCase | None = None) -> Any:
    window = history_window(open_source(small()), small(), AS_OF)
    return train_on_cluster(workers, SourceCall(usecase or small(), None), window, rows=100_000, stores=shop.stores)


def test_rows_and_features_are_those_of_one_process_to_the_bit(workers: Cluster, shop: Workshop) -> None:
    read = history()
    window = history_window(open_source(small()), small(), AS_OF)
    other = FeaturePlan.of(small().model_copy(update={"features": small().features[3:6]}))
    found = prepare(workers, SourceCall(small(), None), window, shop.snapshots, champion=other, rows=100_000)
    known = TrainingHistory.at(small(), read.events, read.labels, read.revisions, AS_OF)
    for plan in (found.recipe.plan, other):
        one = build_fold(small(), plan, known, full_window(found.split))
        two = found._read("history", full_window(found.split), plan)
        np.testing.assert_array_equal(one.features.view(np.int32), two.features.view(np.int32))
        pd.testing.assert_frame_equal(one.rows, two.rows)
    whole = shop.snapshots.load(found.snapshot.digest)
    assert found.snapshot.rows == len(read.events)
    pd.testing.assert_frame_equal(whole.events, read.events, check_dtype=True)
    assert whole.labels["event_id"].tolist() == read.labels["event_id"].tolist()


def same_trees(one: ScoringModel, two: ScoringModel) -> None:
    """Splits on the same features at the same limits; sums of floats may end in other digits."""
    first, second = (model.booster.native.trees_to_dataframe() for model in (one, two))
    assert first["Feature"].tolist() == second["Feature"].tolist()
    np.testing.assert_array_equal(first["Split"], second["Split"])


def test_a_training_on_a_cluster_is_judged_and_registered_as_any_other(
    workers: Cluster, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = trained(workers, shop)
    single = Workshop(tmp_path / "single").train()
    assert outcome.ref == ModelRef("dev-fraud", "1")
    assert (outcome.evidence.rows, outcome.evidence.positives) == (single.evidence.rows, single.evidence.positives)
    for name in ("average_precision", "auc_roc"):
        one, two = single.evidence.metrics[name].value, outcome.evidence.metrics[name].value
        assert one == pytest.approx(two, abs=0.005)
        assert outcome.evidence.baseline[name].value == single.evidence.baseline[name].value
    same_trees(outcome.model, single.model)
    model = fetch_model(shop.registry, outcome.ref)
    model.check_golden()
    assert (model.metadata.rows, model.metadata.data_digest) == (single.model.metadata.rows, outcome.snapshot.digest)
    assert model.plan == single.model.plan

    # Where nothing follows the gates the next one is compared with it on rows that it knows; a stored version is judged
    # again from its parts.
    shop.registry.point("dev-fraud", "champion", "1")
    monkeypatch.setattr("flows.distributed.training.BASELINE_ROWS", 5_000)
    rules = small().promotion.model_copy(update={"takes_office": "after_gates"})
    second = trained(workers, shop, small().model_copy(update={"promotion": rules}))
    assert second.incumbent is not None
    assert second.incumbent.metrics["average_precision"].value is not None
    assert second.evidence.rows == outcome.evidence.rows, "a sample for the baseline is no smaller training"
    again = shop.evaluate(outcome.ref)
    assert again.evidence.metrics["average_precision"] == outcome.evidence.metrics["average_precision"]


def test_what_a_draw_let_through_weighs_on_a_cluster_as_in_one_process(
    workers: Cluster, shop: Workshop, tmp_path: Path
) -> None:
    split = {"train": "9d", "calibration": "5d", "test": "5d", "refit_calibration": "4d"}
    plain = blocked.usecase(blocks=True)
    blocking = plain.model_copy(
        update={
            "split": SplitPolicy.model_validate(split, strict=False),
            "training": plain.training.model_copy(update={"trees": 20}),
            "label": plain.label.model_copy(update={"matures_after": timedelta(days=3)}),
        }
    )
    until, url = blocked.EVERY.end + blocking.label.matures_after, f"sqlite:///{tmp_path / 'log.db'}"
    with closing(blocked.logged(True, open_store(url))) as store:
        source = open_source(blocking, "log", store=store)
        window = history_window(source, blocking, until)
        one = Workshop(tmp_path / "single").train(blocking, until, read=source.read(window, until))
    call = SourceCall(blocking, "log", log_url=url)
    two = train_on_cluster(workers, call, window, rows=20_000, stores=shop.stores)
    weight = {row.event_id: row.weight for row in shop.snapshots.load(two.snapshot.digest).labels.itertuples()}
    assert set(weight.values()) == {1.0, 1.0 / blocked.SHARE}
    kept = Workshop(tmp_path / "single").snapshots.load(one.snapshot.digest).labels
    assert weight == {row.event_id: row.weight for row in kept.itertuples()}
    assert (one.evidence.rows, one.evidence.positives) == (two.evidence.rows, two.evidence.positives)
    for name, figure in one.evidence.metrics.items():
        assert two.evidence.metrics[name].value == pytest.approx(figure.value, abs=0.005), name
    same_trees(one.model, two.model)
    assert two.model.threshold.value == pytest.approx(one.model.threshold.value, abs=1e-4)


def test_what_only_one_machine_can_do_is_refused_before_any_work(workers: Cluster, shop: Workshop) -> None:
    exact = small().model_copy(update={"training": small().training.model_copy(update={"tree_method": "exact"})})
    with pytest.raises(TrainingError, match=r"hist.*--engine single"):
        trained(workers, shop, exact)


@pytest.mark.parametrize("name", ["churn", "retention"])
def test_tables_without_a_time_and_derived_ones_stay_on_one_machine(
    workers: Cluster, shop: Workshop, name: str
) -> None:
    with pytest.raises(TrainingError, match="--engine single"):
        trained(workers, shop, load_usecase(name))


class _Fails:
    """A task that ends its worker, or fails as a full disk does."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, _: int) -> int:
        if self.how == "dies":
            os._exit(1)
        raise OSError("no space left")


def test_a_full_disk_is_told_with_the_stage(workers: Cluster) -> None:
    with pytest.raises(ClusterFailed, match=r"features: .*no space left"):
        workers.run("features", _Fails("disk"), [1])


@pytest.mark.slow
def test_a_part_that_kills_worker_after_worker_is_told_with_what_to_do(workers: Cluster) -> None:
    with pytest.raises(ClusterFailed, match=r"features: .*memory.*--nthreads 1"):
        workers.run("features", _Fails("dies"), [1])


def score(workers: Cluster | None, usecase: UseCase, model: ScoringModel, read: Path, write: Path) -> BulkResult:
    source, target = BulkInput(usecase, str(read)), BulkOutput(str(write), write.parent)
    if workers is None:
        return score_table(usecase, model, REF, source, target, BULK_AS_OF, chunk_rows=CHUNK, reasons=True)
    return score_on_cluster(workers, usecase, model, REF, source, target, BULK_AS_OF, chunk_rows=CHUNK, reasons=True)


@pytest.mark.parametrize("windows", [False, True])
def test_a_list_of_scores_has_the_bytes_of_the_single_engine(workers: Cluster, tmp_path: Path, windows: bool) -> None:
    usecase = _usecase(windows)
    model, table = tiny_model(usecase), _table()
    table["amount"] = table["amount"].astype(object)
    table.loc[[3, 60, 61, 229], "amount"] = -1.0
    table["amount"] = table["amount"].astype(float)
    (tmp_path / "in").mkdir()
    table.iloc[:90].to_parquet(tmp_path / "in" / "a.parquet", row_group_size=70)
    table.iloc[90:].to_parquet(tmp_path / "in" / "b.parquet", row_group_size=40)

    one = score(None, usecase, model, tmp_path / "in", tmp_path / "one.parquet")
    two = score(workers, usecase, model, tmp_path / "in", tmp_path / "two.parquet")

    assert (two.rows_in, two.rows_out, two.quarantined, two.flagged) == (ROWS, ROWS - 4, 4, one.flagged)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert one.quarantine.read_bytes() == two.quarantine.read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing unfinished is left behind"


def test_a_broken_run_goes_on_after_its_whole_parts(
    workers: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usecase = _usecase(windows=True)
    model = tiny_model(usecase)
    _table().to_parquet(tmp_path / "in.parquet")
    score(None, usecase, model, tmp_path / "in.parquet", tmp_path / "one.parquet")

    def broken(*_: object) -> BulkResult:
        raise OSError("the disk is full")

    monkeypatch.setattr("flows.distributed.scoring.publish_result", broken)
    with pytest.raises(OSError, match="full"):
        score(workers, usecase, model, tmp_path / "in.parquet", tmp_path / "two.parquet")
    monkeypatch.undo()
    (tmp_path / ".two.parquet.parts" / "part-000002.json").unlink()
    found = score(workers, usecase, model, tmp_path / "in.parquet", tmp_path / "two.parquet")
    assert found.resumed == ROWS - CHUNK
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_tables_that_windows_cannot_take_are_refused_as_on_one_machine(workers: Cluster, tmp_path: Path) -> None:
    usecase = _usecase(windows=True)
    model = tiny_model(usecase)
    _table().iloc[::-1].to_parquet(tmp_path / "late.parquet")
    with pytest.raises(SchemaProblem, match="sort the input by time"):
        score(workers, usecase, model, tmp_path / "late.parquet", tmp_path / "out.parquet")
    twice = _table()
    twice.loc[200, "id"] = twice.loc[3, "id"]
    twice.to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(SchemaProblem, match="more than one part"):
        score(workers, usecase, model, tmp_path / "twice.parquet", tmp_path / "out.parquet")
    _table().to_csv(tmp_path / "in.csv")
    with pytest.raises(FlowRefused, match="reads Parquet"):
        score(workers, usecase, model, tmp_path / "in.csv", tmp_path / "out.parquet")


def test_a_scheduler_that_does_not_answer_is_named_with_the_way_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    for named in (address, "nonsense://x"):
        with (
            pytest.raises(ClusterUnreachable, match=f"{named}.*dask scheduler"),
            open_cluster(named, tmp_path, lambda *_: None),
        ):
            pass
    with pytest.raises(ClusterUnreachable, match="--scheduler"), open_cluster("", tmp_path, lambda *_: None):
        pass


def test_a_scheduler_without_workers_and_a_folder_that_is_not_shared_are_told(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 1)
    with (
        LocalCluster(**LOCAL, n_workers=0) as empty,
        pytest.raises(ClusterUnreachable, match="no worker"),
        open_cluster(empty.scheduler_address, tmp_path, lambda *_: None),
    ):
        pass
    monkeypatch.setattr(clusters, "_look", _sees_nothing)
    with pytest.raises(ClusterUnreachable, match="INCUMBENT_HOME"), open_cluster(scheduler, tmp_path, lambda *_: None):
        pass
    assert not (tmp_path / "cluster").exists()


def _sees_nothing(_: str) -> bool:
    return False


def test_without_the_extra_the_command_to_install_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(EngineMissing, match=r"pip install 'incumbent\[dask\]'"),
        open_cluster("tcp://127.0.0.1:1", tmp_path, lambda *_: None),
    ):
        pass


def test_the_settings_choose_the_engine_and_a_parameter_wins(tmp_path: Path) -> None:
    single = read_settings(home=tmp_path)
    dask = read_settings(home=tmp_path, engine="dask", scheduler="tcp://a:1")
    assert EngineChoice().address(single) is None
    assert EngineChoice().address(dask) == "tcp://a:1"
    assert EngineChoice(engine="single").address(dask) is None
    assert EngineChoice(engine="dask", scheduler="tcp://b:2").address(single) == "tcp://b:2"
    with pytest.raises(FlowRefused, match="--engine dask"):
        EngineChoice(scheduler="tcp://b:2").address(single)


def test_dask_is_imported_only_when_it_is_asked_for() -> None:
    script = (
        "import sys, flows.training, flows.scoring, flows.retraining, flows.commands.models.train\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, timeout=600)
