from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.sources.labels import final_labels, known_at

START = datetime(2026, 3, 1, tzinfo=UTC)
FRAUD = load_usecase("fraud")


def with_absence(meaning: str) -> UseCase:
    label = FRAUD.label.model_copy(update={"absent_after_maturity": meaning})
    return FRAUD.model_copy(update={"label": label})


def events(*days: float) -> pd.DataFrame:
    times = pd.Series([START + timedelta(days=d) for d in days]).dt.as_unit("us")
    return pd.DataFrame({"transaction_id": [f"t{i}" for i in range(len(days))], "tx_time": times})


def labels(*rows: tuple[str, int, float]) -> pd.DataFrame:
    ids, y, days = zip(*rows, strict=True) if rows else ((), (), ())
    observed = pd.to_datetime(pd.Series([START + timedelta(days=d) for d in days], dtype="datetime64[us, UTC]"))
    return pd.DataFrame(
        {
            "event_id": pd.Series(ids, dtype=object),
            "y": np.array(y, np.int8),
            "observed_at": observed,
            "source": pd.Series(["chargeback"] * len(ids), dtype=object),
        }
    )


def test_labels_observed_later_are_not_known_yet() -> None:
    both = labels(("t0", 1, 3), ("t1", 0, 5))
    assert known_at(both, START + timedelta(days=3))["event_id"].tolist() == ["t0"]
    assert len(known_at(both, None)) == 2


def test_final_labels_come_in_the_order_of_the_events() -> None:
    final = final_labels(events(0, 1, 2), labels(("t2", 1, 9), ("t0", 0, 9)), with_absence("unknown"), None)
    assert final["event_id"].tolist() == ["t0", "t2"]
    assert final["y"].tolist() == [0, 1]


def test_a_matured_event_without_a_label_is_negative_where_absence_says_so() -> None:
    final = final_labels(events(0, 1, 9), labels(("t1", 1, 2)), with_absence("negative"), START + timedelta(days=10))
    assert final["event_id"].tolist() == ["t0", "t1"]  # t2 is one day old
    assert final["y"].tolist() == [0, 1]
    assert final["source"].tolist() == ["absent", "chargeback"]
    assert final["observed_at"].iloc[0] == pd.Timestamp(START + timedelta(days=7))


def test_an_event_matures_exactly_when_its_age_reaches_the_policy() -> None:
    at_the_instant = final_labels(events(0), labels(), with_absence("negative"), START + timedelta(days=7))
    just_before = final_labels(
        events(0), labels(), with_absence("negative"), START + timedelta(days=7, microseconds=-1)
    )
    assert len(at_the_instant) == 1
    assert just_before.empty


def test_absence_means_nothing_where_it_is_unknown() -> None:
    assert final_labels(events(0, 1), labels(), with_absence("unknown"), None).empty


def test_a_contradicted_event_is_unknown_and_not_absent() -> None:
    final = final_labels(events(0, 1), labels(), with_absence("negative"), None, excluded={"t1"})
    assert final["event_id"].tolist() == ["t0"]


def test_labels_of_other_events_are_left_out() -> None:
    final = final_labels(events(0), labels(("elsewhere", 1, 1)), with_absence("unknown"), None)
    assert final.empty


def test_the_frame_has_the_promised_types_whatever_it_holds() -> None:
    for known in (labels(), labels(("t0", 1, 2)), labels(("t0", 1, 2), ("t1", 0, 3))):
        for meaning in ("negative", "unknown"):
            final = final_labels(events(0, 1), known, with_absence(meaning), None)
            assert list(final.columns) == ["event_id", "y", "observed_at", "source"]
            types = [str(t) for t in final.dtypes]
            assert types == ["object", "int8", "datetime64[us, UTC]", "object"]
