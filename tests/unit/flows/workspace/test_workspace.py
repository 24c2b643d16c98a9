"""The business time of a run, and the bound on the future that other roads than the service keep to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.errors import FlowRefused
from flows.workspace.clock import business_time, machine_now
from flows.workspace.workspace import declared_bound, open_workspace
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import ScoreRecord

FAR = datetime(2099, 1, 1, tzinfo=UTC)


def test_a_business_time_in_the_future_is_refused_before_anything_counts_from_it() -> None:
    with pytest.raises(FlowRefused, match=r"as_of 2099-01-01T00:00:00Z lies in the future: the machine's clock says"):
        business_time(FAR)
    with pytest.raises(FlowRefused, match="at most 1h ahead"):
        business_time((machine_now() + timedelta(hours=2)).replace(tzinfo=None))
    soon = machine_now() + timedelta(minutes=50)
    assert business_time(soon) == soon


def test_a_house_of_a_stream_may_be_ahead_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    monkeypatch.setenv("INCUMBENT_CLOCK", "stream")
    assert business_time(FAR) == FAR
    workspace = open_workspace("fraud")
    times = [FAR + timedelta(hours=n) for n in range(60)]
    workspace.store.log.append(
        [ScoreRecord("fraud", f"t-{n}", to_us(at), 0, "event", b"{}") for n, at in enumerate(times)]
    )
    wild = FAR + timedelta(days=9_999)
    workspace.store.log.append([ScoreRecord("fraud", "w", to_us(wild), 0, "event", b"{}")])
    assert declared_bound(workspace).latest_us() == to_us(times[-7] + timedelta(hours=1))
