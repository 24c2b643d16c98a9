"""A verdict that is judged again from the rows, the plan and the frozen days that the chain names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from flows.commands.release.audit import payload_text
from flows.errors import FlowRefused, SnapshotCorrupt, SnapshotMissing
from flows.snapshots.store import SnapshotStore
from flows.steps.comparison.replay_verdict import find_verdict, record_verdict, replay_decision
from flows.steps.tracking.code_version import code_digest, current_code_version
from monitoring.errors import JournalConflict
from monitoring.store import memory_store
from tests.integration.monitoring.test_comparison_plan import Arena
from tests.support.log.logged import at, label


class Court(Arena):
    """An arena whose verdicts are recorded."""

    def judge(self, day: float) -> str:
        made = record_verdict(self.store, self.usecase, self.compare(day), at(day), "ann")
        assert made is not None
        return made.id

    def again(self, name: str, *places: SnapshotStore) -> object:
        found = find_verdict(self.store, "fraud", name)
        return replay_decision(self.store, places or [self.snapshots], self.usecase, found)


@pytest.fixture
def court(tmp_path: Path) -> Court:
    made = Court(memory_store(), tmp_path)
    made.live(14, gain=0.8)
    return made


def test_every_verdict_is_the_same_to_the_last_bit(court: Court) -> None:
    names = [court.judge(day) for day in (11, 12, 13.5)]
    # Later labels, later events and later frozen days change nothing of what was judged before.
    court.live(3, gain=0.1, first=14)
    court.store.labels.add([label(n, 1, 15) for n in range(0, 100, 10)], court.usecase.label)
    court.judge(16)
    for name in names:
        found = court.again(name)
        assert found.identical, found.differences  # type: ignore[attr-defined]  # a Replay
        assert found.differences == ()  # type: ignore[attr-defined]  # a Replay


def test_a_verdict_is_found_by_seq_id_and_digest(court: Court) -> None:
    name = court.judge(12)
    (line,) = court.store.decisions.list("fraud", ("comparison.verdict",))
    for key in (name, name[:8], str(line.seq), str(line.payload["digest"])[:16]):
        assert find_verdict(court.store, "fraud", key) == line
    for key in ("nothing", "1"):
        with pytest.raises(FlowRefused):
            find_verdict(court.store, "fraud", key)


def test_the_same_verdict_is_recorded_once_and_a_look_at_the_past_never(court: Court) -> None:
    assert court.judge(12) == court.judge(12)
    import dataclasses

    past = dataclasses.replace(court.compare(12), current=False)
    assert record_verdict(court.store, court.usecase, past, at(12), "ann") is None


def test_rows_that_were_changed_or_lost_are_noticed(court: Court, tmp_path: Path) -> None:
    name = court.judge(12)
    with pytest.raises(SnapshotMissing):
        court.again(name, SnapshotStore(tmp_path / "elsewhere"))
    (file,) = (tmp_path / "snapshots").rglob("*.parquet")
    table = pq.read_table(file)
    frame: pd.DataFrame = table.to_pandas()
    pq.write_table(table.slice(0, len(frame) - 1), file)
    with pytest.raises(SnapshotCorrupt):
        court.again(name)


def test_a_frozen_day_that_was_changed_behind_the_databases_back_is_noticed(court: Court) -> None:
    court.judge(11)
    name = court.judge(13)
    with court.store.database.write() as connection:
        for (trigger,) in connection.execute(
            text("SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='comparison_days'")
        ).fetchall():
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        connection.execute(text("UPDATE comparison_days SET payload = replace(payload, '40', '41')"))
    with pytest.raises(JournalConflict):
        court.again(name)


def test_a_verdict_that_was_recorded_differently_is_not_identical(court: Court) -> None:
    court.judge(12)
    (line,) = court.store.decisions.list("fraud", ("comparison.verdict",))
    said = dict(line.payload)
    verdict = dict(said["verdict"])
    verdict["outcome"] = "keep" if verdict["outcome"] != "keep" else "promote"
    said |= {"verdict": verdict, "digest": "f" * 64}
    forged = court.store.decisions.append("fraud", "comparison.verdict", said, "eve", at(12))
    found = court.again(forged.id)
    assert not found.identical  # type: ignore[attr-defined]  # a Replay
    assert any("digest" in one for one in found.differences)  # type: ignore[attr-defined]  # a Replay


def amended(court: Court, **changes: object) -> object:
    """The verdict of day 12 replayed as if its decision had been written otherwise."""
    court.judge(12)
    (line,) = court.store.decisions.list("fraud", ("comparison.verdict",))
    said = {name: value for name, value in {**line.payload, **changes}.items() if value is not None}
    return court.again(court.store.decisions.append("fraud", "comparison.verdict", said, "ann", at(12)).id)


def test_a_replay_says_that_the_same_code_and_packages_ran(court: Court) -> None:
    found = court.again(court.judge(12))
    assert (found.told, found.others) == (True, ())  # type: ignore[attr-defined]  # a Replay
    assert found.answer == "yes, to the last bit, by the same code and packages"  # type: ignore[attr-defined]  # a Replay


def test_a_replay_with_other_packages_names_them(court: Court) -> None:
    now = current_code_version()
    then = now.to_json() | {"versions": {**now.versions, "numpy": "1.0.0"}}
    found = amended(court, made_with=then)
    (other,) = found.others  # type: ignore[attr-defined]  # a Replay
    assert other == f"numpy (1.0.0 then, {now.versions['numpy']} now)"
    assert found.answer == f"yes, equal to the bit, with other versions of: {other}"  # type: ignore[attr-defined]  # a Replay


def test_where_a_verdict_differs_other_code_is_the_first_suspect(court: Court) -> None:
    found = amended(court, made_with=current_code_version().to_json() | {"code": "0" * 64}, digest="f" * 64)
    assert not found.identical  # type: ignore[attr-defined]  # a Replay
    words = "NO; the first suspect is what computed it: source (0000"
    assert found.answer.startswith(words)  # type: ignore[attr-defined]  # a Replay


def test_a_decision_from_before_code_was_kept_is_replayed_as_before(court: Court) -> None:
    found = amended(court, made_with=None)
    assert (found.identical, found.told, found.others) == (True, False, ())  # type: ignore[attr-defined]  # a Replay
    assert found.answer == "yes, to the last bit"  # type: ignore[attr-defined]  # a Replay


def test_a_file_that_is_changed_moved_or_new_changes_the_digest_of_the_code(tmp_path: Path) -> None:
    for room in ("flows", "bentos", "monitoring"):
        (tmp_path / room).mkdir()
    file = tmp_path / "bentos" / "a.py"
    file.write_text("x = 1\n")
    (tmp_path / "bentos" / "usecase.toml").write_text("a use case is in the plan")
    digests = [code_digest(tmp_path)]
    file.write_text("x = 2\n")
    digests.append(code_digest(tmp_path))
    file = file.rename(tmp_path / "flows" / "a.py")
    digests.append(code_digest(tmp_path))
    (tmp_path / "monitoring" / "b.py").write_text("")
    digests.append(code_digest(tmp_path))
    assert len(set(digests)) == 4
    (tmp_path / "bentos" / "usecase.toml").write_text("another")
    assert code_digest(tmp_path) == digests[-1]


def test_the_list_of_decisions_says_what_a_verdict_said(court: Court) -> None:
    court.judge(12)
    (line,) = court.store.decisions.list("fraud", ("comparison.verdict",))
    told = payload_text(line.payload)
    assert told.startswith(
        f"challenger={line.payload['verdict']['challenger']} outcome=keep_watching reason=cost saving"
    )
