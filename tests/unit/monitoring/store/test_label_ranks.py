from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from monitoring.store.database.frames import times
from monitoring.store.predictions.labels import resolve_labels
from tests.support.log.logged import labels_policy

POLICY = labels_policy(sources=("court", "chargeback", "analyst"))
STATEMENTS = st.lists(
    st.tuples(
        st.sampled_from(["e1", "e2", "e3"]),
        st.integers(0, 1),
        st.integers(0, 5),
        st.sampled_from(POLICY.sources),
    ),
    max_size=12,
)
Statement = tuple[str, int, int, str]


def naive(statements: list[Statement]) -> dict[str, tuple[int | None, int, str]]:
    """Event to (label or none in conflict, since when, source), by the words of the policy."""
    found: dict[str, tuple[int | None, int, str]] = {}
    for event in {s[0] for s in statements}:
        for source in POLICY.sources:
            said = [s for s in statements if s[0] == event and s[3] == source]
            if said:
                words = {s[1] for s in said}
                found[event] = (words.pop() if len(words) == 1 else None, min(s[2] for s in said), source)
                break
    return found


@given(STATEMENTS)
def test_the_strongest_source_decides_and_its_contradictions_decide_nothing(statements: list[Statement]) -> None:
    frame = pd.DataFrame(
        {
            "event_id": pd.Series([s[0] for s in statements], dtype=object),
            "y": pd.Series([s[1] for s in statements], dtype="int8"),
            "observed_at": times([s[2] for s in statements]),
            "source": pd.Series([s[3] for s in statements], dtype=object),
        }
    )
    found = resolve_labels(frame, POLICY)
    since = found["observed_at"].astype("int64").tolist()
    ours = {
        row.event_id: (None if row.conflict else int(row.y), at, row.source)
        for row, at in zip(found.itertuples(), since, strict=True)
    }
    assert ours == naive(statements)
