"""A model whose threshold goes by the amount, from training to a verdict: real service, real scribe, real shadow.

The same rows in a file, with the decisions of both models as columns, give the same verdict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.model.calibration import Threshold
from bentos.registry.mlflow import MlflowRegistry
from bentos.schema.event_schema import EventSchema
from flows.sources import open_source
from monitoring.core.calendar import TimeWindow
from monitoring.policies.label_rules import LabelRules
from monitoring.store import LabelRecord
from monitoring.store.database.frames import to_us
from tests.integration.platform.test_cli import said
from tests.integration.service.test_canary import scribing, until
from tests.support.processes.servers import House, serving
from tests.support.release_requests import appoint
from tests.support.worlds import World, small_world

pytestmark = pytest.mark.slow

BY_AMOUNT = {
    "false_negative = 100": 'false_negative = "amount"',
    "false_positive = 1": "false_positive = 5",
}
DAYS = 4
SAVING = 12.0
"""What an alert of the challenger must be expected to save; the trained champion asks for less."""


@dataclass(frozen=True)
class Run:
    """A world in which both models met the same live events.

    Attributes:
        world: the house.
        answers: what the service said, by event id.
        compared: what ``incumbent compare`` printed.
        pairs: the rows of the log behind it.
    """

    world: World
    answers: dict[str, dict[str, Any]]
    compared: dict[str, Any]
    pairs: pd.DataFrame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    before, folder = dict(os.environ), tmp_path_factory.mktemp("amount")
    with small_world(folder, changes=BY_AMOUNT) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "flows.steps.tracking.training_record.draw_plots", lambda *_: []
        )  # pictures take longer than all the rest
        assert said(world, "train", "--source", "log", "--until", world.live_from.isoformat())["role"] == "champion"
        challenge(world, folder / "challenger")
        workspace, named = House(world.workspace.settings.root), {"INCUMBENT_USECASE": world.reference}
        with serving(workspace, **named) as server, scribing(workspace, **named):
            server.wait_served("1")
            events = live_events(world)
            answers = [one for part in parts(events, 250) for one in answered(server, part)]
            until(lambda: len(pairs_of(world)) == len(events))
        compared = said(world, "compare", "--as-of", world.day(DAYS + 3).isoformat())
        yield Run(world, {one["event_id"]: one for one in answers}, compared, pairs_of(world))
    os.environ.clear()
    os.environ.update(before)


def challenge(world: World, folder: Path) -> None:
    """Version 2: the same scores, and an alert only where it is expected to save more."""
    cut = Threshold(SAVING, SAVING, SAVING, 0.0, None, "amount", 5.0, "amount")
    replace(world.model(), threshold=cut).save(folder)
    workspace = world.workspace
    ref = workspace.registry.register(folder, workspace.model)
    appoint(
        workspace.registry, workspace.store, ref, "challenger",
        usecase=workspace.usecase, actor="test", now=world.live_from, reason="a test",
    )  # fmt: skip


def live_events(world: World) -> list[bytes]:
    """The days after the training as request bodies; labels of their frauds follow."""
    usecase, store = world.workspace.usecase, world.workspace.store
    read = open_source(usecase, "simulator").read(TimeWindow(world.day(0), world.day(DAYS)))
    known = read.revisions[read.revisions["y"] == 1]
    rows = zip(known["event_id"], known["observed_at"], strict=True)
    store.labels.add(
        [LabelRecord(usecase.name, name, 1, to_us(at), "chargeback", to_us(at)) for name, at in rows], usecase.label
    )
    return list(EventSchema.of(usecase).bodies(read.events))


def parts(events: list[bytes], size: int) -> Iterator[bytes]:
    for start in range(0, len(events), size):
        yield b"[" + b",".join(events[start : start + size]) + b"]"


def answered(server: Any, body: bytes) -> list[dict[str, Any]]:
    answer = server.post("/score/batch", body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def pairs_of(world: World) -> pd.DataFrame:
    workspace = world.workspace
    return workspace.store.log.paired(
        workspace.usecase.name,
        (f"{workspace.model}/1", f"{workspace.model}/2"),
        TimeWindow(world.day(0), world.day(DAYS)),
        world.day(DAYS + 3),
        LabelRules(workspace.usecase.label, workspace.usecase.calendar),
        {"amount": "float", "customer_id": "identifier", "terminal_id": "identifier"},
    )


def own_cuts(world: World, version: str, amounts: pd.Series) -> np.ndarray:
    cut = world.model(version).threshold
    assert cut.amount == "amount"
    return np.minimum((5.0 + cut.value) / (5.0 + amounts.to_numpy()), 1.0)


def test_the_service_answers_each_event_at_the_threshold_of_its_amount(run: Run) -> None:
    amounts = run.pairs.set_index("event_id")["amount"]
    cuts = own_cuts(run.world, "1", amounts)
    for name, cut in zip(amounts.index, cuts, strict=True):
        answer = run.answers[name]
        assert answer["threshold"] == pytest.approx(cut, rel=1e-6)
        assert answer["decision"] == (answer["score"] >= answer["threshold"])


def test_log_and_shadow_hold_each_model_s_own_threshold_and_decision(run: Run) -> None:
    for side, version in (("a", "1"), ("b", "2")):
        cuts = own_cuts(run.world, version, run.pairs["amount"])
        assert run.pairs[f"threshold_{side}"].to_numpy() == pytest.approx(cuts, rel=1e-6)
        flags = run.pairs[f"score_{side}"] >= run.pairs[f"threshold_{side}"]
        assert (run.pairs[f"flag_{side}"].astype(bool) == flags).all()
    assert run.pairs["threshold_a"].nunique() > 100
    assert 0 < run.pairs["flag_b"].sum() < run.pairs["flag_a"].sum()


def test_the_comparison_judges_each_model_at_its_own_promoted_threshold(run: Run) -> None:
    result, rows = run.compared["result"], run.pairs
    assert (result["days"], result["rows"], result["positives"]) == (DAYS, len(rows), int(rows["y"].sum()))
    for side in "ab":
        caught = rows.groupby("day")[f"flag_{side}"].apply(lambda flags: (flags & (rows["y"] == 1)[flags.index]).sum())
        assert [day[f"tp_{side}"] for day in result["series"]] == caught.tolist()


def test_a_file_with_the_same_decisions_gives_the_same_verdict(run: Run, tmp_path: Path) -> None:
    rows = run.pairs
    table = rows[["event_id", "event_time", "score_a", "score_b", "amount", "customer_id", "terminal_id"]].assign(
        flag_a=rows["flag_a"].astype(int), flag_b=rows["flag_b"].astype(int),
        label=np.where(rows["y"] == 1, 1.0, np.nan), label_time=rows["observed_at"],
    )  # fmt: skip
    table.attrs.clear()
    table.to_parquet(tmp_path / "own.parquet")
    found = said(run.world, "verdict", str(tmp_path / "own.parquet"), "--as-of", run.world.day(DAYS + 3).isoformat())
    assert found["thresholds"] is None
    live = run.compared
    assert found["outcome"] == live["verdict"]["outcome"]
    for name in ("rows", "days", "positives", "recall_champion", "recall_challenger", "recall_gain"):
        assert found["result"][name] == live["result"][name], name
    assert found["result"]["false_positive_rate_rise"] == live["result"]["false_positive_rate_rise"]
    counted = [name for name in live["result"]["series"][0] if name[:2] in ("tp", "fp")]
    for one, other in zip(found["result"]["series"], live["result"]["series"], strict=True):
        assert [one[name] for name in counted] == [other[name] for name in counted]


def test_money_is_recorded_as_money_and_never_as_a_threshold(run: Run) -> None:
    workspace = run.world.workspace
    run_id = workspace.registry.describe(workspace.champion()).run_id
    assert run_id is not None
    assert isinstance(workspace.registry, MlflowRegistry)
    figures = workspace.registry.client.get_run(run_id).data.metrics
    assert "threshold" not in figures
    assert figures["least_saving_low"] <= figures["least_saving"] <= figures["least_saving_high"]
    shown = said(run.world, "threshold", "show")
    assert shown["threshold"]["amount"] == "amount"
    assert json.dumps(shown["curve"])
