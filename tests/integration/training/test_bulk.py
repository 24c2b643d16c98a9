"""Whole tables scored in chunks: the same scores as in one piece, every row accounted for, kills survived."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, SchemaProblem
from flows.steps.bulk.input import BulkInput
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.parts import Parts
from flows.steps.bulk.score_table import BulkResult, score_table
from flows.workspace.installation import PROJECT
from tests.support.builders import card_event, case, tiny_model

REF = ModelRef("dev-card", "7")
AS_OF = datetime(2027, 1, 1, tzinfo=UTC)
ROWS, CHUNK = 230, 50


def _usecase(windows: bool) -> UseCase:
    usecase = case(label={"column": "fraud", "matures_after": "1d", "sources": ["chargeback", "analyst"]})
    if windows:
        return usecase
    kept = tuple(f for f in usecase.features if f.kind != "window")
    return usecase.model_copy(update={"features": kept})


def _table(rows: int = ROWS) -> pd.DataFrame:
    """One event in 50 minutes, so that windows reach over chunks and forget; some frauds are known days later."""
    events = [
        card_event(
            n, timedelta(minutes=50 * n), card=f"c{n % 7}", shop=f"s{n % 3}", amount=float(n * 37 % 991),
            fee=None if n % 4 else n / 8,
        )
        for n in range(1, rows + 1)
    ]  # fmt: skip
    return pd.DataFrame(events).assign(fraud=[int(n % 5 == 0) for n in range(1, rows + 1)])


def _score(folder: Path, usecase: UseCase, model: ScoringModel, source: str, target: str, **more: Any) -> BulkResult:
    out = BulkOutput(target, folder / "spare")
    (folder / "spare").mkdir(exist_ok=True)
    return score_table(usecase, model, REF, BulkInput(usecase, source), out, AS_OF, chunk_rows=CHUNK, **more)


def _expected(usecase: UseCase, model: ScoringModel, table: pd.DataFrame) -> np.ndarray:
    events, labels, _ = EventSchema.of(usecase).read_labelled(table)
    return model.score(model.plan.build(events, labels, AS_OF).to_numpy()).calibrated


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("target", ["out.parquet", "out.csv", "out"])
def test_chunks_give_the_bits_of_the_whole_table(tmp_path: Path, windows: bool, target: str) -> None:
    usecase = _usecase(windows)
    model, table = tiny_model(usecase), _table()
    table.to_parquet(tmp_path / "in.parquet")

    found = _score(tmp_path, usecase, model, str(tmp_path / "in.parquet"), str(tmp_path / target))

    place = tmp_path / target
    scored = pd.read_csv(place, float_precision="round_trip") if place.suffix == ".csv" else pd.read_parquet(place)
    assert (found.rows_in, found.rows_out, found.quarantined) == (ROWS, ROWS, 0)
    assert list(scored) == ["event_id", "score", "decision", "model"]
    assert set(scored["model"]) == {"dev-card/7"}
    np.testing.assert_array_equal(scored["score"], _expected(usecase, model, table))
    assert not list(tmp_path.glob(".*")), "nothing unfinished is left behind"


def test_a_database_table_goes_in_and_out_and_an_existing_one_is_refused(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    model, table = tiny_model(usecase), _table()
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with sqlite3.connect(tmp_path / "events.db") as db:
        table.to_sql("events", db, index=False)

    found = _score(tmp_path, usecase, model, f"{url}#events", f"{url}#scores")

    with sqlite3.connect(tmp_path / "events.db") as db:
        scored = pd.read_sql("select * from scores", db)
    assert found.rows_out == len(scored) == ROWS
    np.testing.assert_array_equal(scored["score"], _expected(usecase, model, table))
    with pytest.raises(FlowRefused, match="exists already"):
        _score(tmp_path, usecase, model, f"{url}#events", f"{url}#scores")


def test_a_bad_row_is_in_quarantine_under_its_number_even_when_its_whole_chunk_is_bad(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    model, table = tiny_model(usecase), _table()
    name = next(c.name for c in usecase.columns if c.type == "float" and not c.nullable)
    table[name] = table[name].astype(object)
    bad = [3, *range(100, 150), 229]
    table.loc[bad, name] = "x"
    table.to_csv(tmp_path / "in.csv", index=False)

    found = _score(tmp_path, usecase, model, str(tmp_path / "in.csv"), str(tmp_path / "out.parquet"))

    refused = pd.read_csv(found.quarantine)
    assert (found.rows_in, found.rows_out, found.quarantined) == (ROWS, ROWS - 52, 52)
    assert refused["row"].tolist() == bad
    assert set(refused["column"]) == {name}
    left = set(table["id"]) - set(table["id"].iloc[bad])
    assert set(pd.read_parquet(tmp_path / "out.parquet")["event_id"]) == left


def test_a_bad_row_of_a_parquet_file_is_in_quarantine_and_its_neighbours_are_scored_as_ever(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    model, table = tiny_model(usecase), _table()
    table.loc[[60, *range(100, 150)], "amount"] = -1.0
    table.loc[[161, 229], "id"] = [table["id"][160], ""]
    table.to_parquet(tmp_path / "in.parquet")

    found = _score(tmp_path, usecase, model, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))

    refused = pd.read_csv(found.quarantine)
    assert refused["row"].tolist() == [60, *range(100, 150), 161, 229]
    expected = ["amount"] * 51 + ["id"] * 2, ["out_of_range"] * 51 + ["duplicate_event_id", "missing"]
    assert (refused["column"].tolist(), refused["reason"].tolist()) == expected
    scored = pd.read_parquet(tmp_path / "out.parquet")
    assert scored["event_id"].tolist() == table["id"].drop(refused["row"]).tolist()
    good = table.drop(refused["row"]).reset_index(drop=True)
    np.testing.assert_array_equal(scored["score"], _expected(usecase, model, good))


def _dies(parts: int, folder: Path, windows: bool, seed: int) -> None:
    """Score, and be killed in the middle of writing part number ``parts``; runs in a process of its own."""

    class Dying(Parts):
        def write(self, number: int, *rest: Any) -> None:
            if number == parts:
                (self.folder / f"part-{number:06d}{self.suffix}").write_bytes(b"half a part")
                os.kill(os.getpid(), 9)
            super().write(number, *rest)

    usecase = _usecase(windows)
    source, target = BulkInput(usecase, str(folder / "in.parquet")), BulkOutput(str(folder / "out.parquet"), folder)
    target.parts = Dying(target.parts.folder, target.parts.suffix)
    score_table(usecase, tiny_model(usecase, seed=seed), REF, source, target, AS_OF, chunk_rows=CHUNK)


def _kill_one(parts: int, folder: Path, windows: bool, seed: int = 1) -> None:
    # A forked child would hang on the threads of XGBoost that it does not have.
    call = f"_dies({parts}, Path({str(folder)!r}), {windows}, {seed})"
    program = f"from pathlib import Path; from tests.integration.training.test_bulk import _dies; {call}"
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, timeout=600, check=False)
    assert ended.returncode == -9
    assert not (folder / "out.parquet").exists(), "a half list has no name"


@pytest.mark.parametrize("windows", [False, True])
def test_a_killed_run_goes_on_with_the_parts_that_are_whole(tmp_path: Path, windows: bool) -> None:
    usecase = _usecase(windows)
    model, table = tiny_model(usecase), _table()
    table.to_parquet(tmp_path / "in.parquet")
    words = tmp_path, usecase, model, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    _kill_one(3, tmp_path, windows)
    whole = [json.loads(note.read_text())["in"] for note in tmp_path.rglob("part-*.json")]
    if windows:  # chunk after chunk; else several are under way when the process dies
        assert whole == [CHUNK] * 3
    assert CHUNK <= sum(whole) < ROWS

    found = _score(*words)

    assert found.resumed == sum(whole)
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "out.parquet")["score"], _expected(usecase, model, table))


def test_parts_of_another_model_are_not_used(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    table = _table()
    table.to_parquet(tmp_path / "in.parquet")
    new = tiny_model(usecase, seed=2)
    words = str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    _kill_one(2, tmp_path, windows=False, seed=1)

    assert _score(tmp_path, usecase, new, *words).resumed == 0
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "out.parquet")["score"], _expected(usecase, new, table))


def test_windows_need_an_input_in_the_order_of_time(tmp_path: Path) -> None:
    usecase = _usecase(windows=True)
    _table().iloc[::-1].to_parquet(tmp_path / "in.parquet")

    with pytest.raises(SchemaProblem, match="sort the input by time"):
        _score(tmp_path, usecase, tiny_model(usecase), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))


def test_reasons_stand_beside_a_score_on_demand(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    _table(20).to_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"

    _score(tmp_path, usecase, tiny_model(usecase), str(tmp_path / "in.parquet"), str(out), reasons=True)

    assert pd.read_parquet(out)["reasons"].str.contains('"contribution"').all()


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    usecase = _usecase(windows=False)
    _table(20).to_parquet(tmp_path / "in.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")

    with pytest.raises(FlowRefused, match="holds other files"):
        _score(tmp_path, usecase, tiny_model(usecase), str(tmp_path / "in.parquet"), str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("copies", [3, 12])
def test_a_file_is_read_in_parts_however_long_it_is_and_however_slowly_they_are_taken(
    tmp_path: Path, copies: int
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    usecase = _usecase(windows=False)
    part = pa.Table.from_pandas(_table(20_000), preserve_index=False)
    with pq.ParquetWriter(tmp_path / "long.parquet", part.schema) as writer:
        for _ in range(copies):
            writer.write_table(part, row_group_size=4_000)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for chunk in BulkInput(usecase, str(tmp_path / "long.parquet")).chunks(4_000):
        time.sleep(0.01)  # whoever reads ahead has the time to
        most = max(most, pa.total_allocated_bytes() - before)
        rows += len(chunk)
    assert rows == copies * 20_000
    assert most < 3.5 * part.nbytes


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("windows", [False, True])
def test_rows_of_the_future_are_in_quarantine_and_their_neighbours_are_scored_as_ever(
    tmp_path: Path, windows: bool, suffix: str
) -> None:
    usecase = _usecase(windows)
    model, table = tiny_model(usecase), _table()
    late = table.iloc[-2:].assign(
        id=["w-1", "w-2"], at=[AS_OF + timedelta(days=1), pd.Timestamp("2199-01-01", tz="UTC")]
    )
    edge = table.iloc[-1:].assign(id=["edge"], at=[AS_OF + timedelta(hours=1)])
    whole = pd.concat([table, edge, late], ignore_index=True)
    source = str(tmp_path / f"in.{suffix}")
    whole.to_csv(source, index=False) if suffix == "csv" else whole.to_parquet(source)

    found = _score(tmp_path, usecase, model, source, str(tmp_path / "out.parquet"))

    refused = pd.read_csv(found.quarantine)
    assert (refused["row"].tolist(), set(refused["reason"])) == ([ROWS + 1, ROWS + 2], {"in_future"})
    scored = pd.read_parquet(tmp_path / "out.parquet").set_index("event_id")["score"]
    good = pd.concat([table, edge], ignore_index=True)
    np.testing.assert_array_equal(scored[good["id"]], _expected(usecase, model, good))
