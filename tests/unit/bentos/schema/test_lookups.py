"""Look-up tables: one meaning, two executions, one gate for their files."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bentos.check.usecase import check_usecase
from bentos.errors import EventError, LookupProblem, ModelNotReady, UseCaseError
from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.schema.id_hashing import Hasher
from bentos.schema.lookup_file import check_rows, lookup_path, write_rows
from bentos.schema.lookup_refresh import FillingSchema, LookupKeeper
from bentos.schema.lookups import LookupIndex, Lookups, LookupTable, read_lookup, require_lookups
from bentos.schema.table_cleaning import empty_labels
from bentos.usecase.definition import UseCase
from bentos.windows.memory import MemoryWindows
from tests.support.builders import (
    NOON,
    PROFILE,
    card_event,
    case,
    case_data,
    looked_up_case,
    place_lookup,
    profile_frame,
)

HOUR = timedelta(hours=1)
US = timedelta(microseconds=1)
FILLED = ("credit_limit", "seats", "tier", "since")


def table_of(frame: pd.DataFrame, usecase: UseCase | None = None) -> LookupTable:
    usecase = usecase or looked_up_case()
    lookup = usecase.lookup("profile")
    return LookupTable(lookup, usecase.columns_of_lookup("profile"), check_rows(usecase, lookup, frame), "")


def index_of(table: LookupTable, usecase: UseCase | None = None) -> LookupIndex:
    """The same rows as a service has them: through their file."""
    usecase = usecase or looked_up_case()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(usecase, table.lookup, table.rows, lookup_path(Path(folder), "profile"))
        return LookupIndex(usecase.model_copy(update={"lookups": (table.lookup,)}), "profile", Path(folder))


def limit_at(table: LookupTable, card: str | None, at: datetime) -> Any:
    return index_of(table).row(card, round((at - datetime(1970, 1, 1, tzinfo=at.tzinfo)) / US))[0]


def door(usecase: UseCase, folder: Path) -> FillingSchema:
    """What a service decodes requests with, once the tables were looked at."""
    keeper = LookupKeeper(usecase, folder)
    keeper.look()
    return FillingSchema(usecase, keeper)


def sent(number: int = 1, after: timedelta = HOUR, **values: Any) -> bytes:
    """A request's body: without looked-up values unless they are given."""
    schema = EventSchema.of(case())
    if not values:
        return schema.event(card_event(number, after)).as_json()
    body = schema.event(card_event(number, after, **{k: v for k, v in values.items() if k not in FILLED})).as_json()
    extra = ",".join(f'"{k}":{v}' for k, v in values.items() if k in FILLED)
    return body[:-1] + (b"," + extra.encode() if extra else b"") + b"}"


def test_a_row_holds_from_its_moment_until_the_next_one() -> None:
    table = table_of(profile_frame(("c1", HOUR, 100.0), ("c1", 3 * HOUR, 900.0), ("c2", HOUR, 5.0)))
    assert limit_at(table, "c1", NOON + HOUR - US) is None
    assert limit_at(table, "c1", NOON + HOUR) == 100.0
    assert limit_at(table, "c1", NOON + 3 * HOUR - US) == 100.0
    assert limit_at(table, "c1", NOON + 3 * HOUR) == 900.0
    assert limit_at(table, "c2", NOON + 300 * HOUR) == 5.0
    assert limit_at(table, "c3", NOON + HOUR) is None
    assert limit_at(table, None, NOON + HOUR) is None


def test_a_row_older_than_max_age_no_longer_counts_and_no_older_one_takes_its_place() -> None:
    table = table_of(profile_frame(("c1", 0 * HOUR, 1.0), ("c1", HOUR, 2.0)), looked_up_case({"max_age": "2h"}))
    assert limit_at(table, "c1", NOON + 3 * HOUR) == 2.0
    assert limit_at(table, "c1", NOON + 3 * HOUR + US) is None


def test_a_moment_between_two_microseconds_counts_from_the_later_one() -> None:
    frame = profile_frame(("c1", HOUR, 1.0))
    frame["valid_from"] = frame["valid_from"].dt.as_unit("ns") + pd.Timedelta(1, unit="ns")
    assert limit_at(table_of(frame), "c1", NOON + HOUR) is None
    assert limit_at(table_of(frame), "c1", NOON + HOUR + US) == 1.0


hours = st.integers(-5, 20)
cards = st.sampled_from(["c1", "c2", "c3", "c4"])
limits = st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False))
rows = st.lists(st.tuples(cards, hours, limits), max_size=25, unique_by=lambda row: row[:2])
asked = st.lists(st.tuples(st.one_of(st.none(), cards), hours), min_size=1, max_size=25)
ages = st.sampled_from([None, "1h", "3h"])


@given(rows, asked, ages)
def test_a_frame_and_single_events_get_the_same_bits_which_are_those_of_the_sentence(
    rows: list[tuple[str, int, float | None]], asked: list[tuple[str | None, int]], age: str | None
) -> None:
    usecase = looked_up_case({} if age is None else {"max_age": age})
    table = table_of(profile_frame(*[(card, at * HOUR, limit) for card, at, limit in rows]), usecase)
    index = index_of(table, usecase)
    times = pd.to_datetime(pd.Series([NOON + at * HOUR for _, at in asked]), utc=True).dt.as_unit("us")
    places = table.places(pd.Series([card for card, _ in asked], dtype=object), times)
    frame = pd.DataFrame({c.name: table.values(c, places) for c in table.columns})
    stamps = times.to_numpy("M8[us]").view(np.int64).tolist()
    for at, (card, hour) in enumerate(asked):
        online = index.row(card, stamps[at])
        reach = 10**6 if age is None else int(age[:-1])
        known = [row for row in rows if row[0] == card and row[1] <= hour]
        newest = max(known, key=lambda row: row[1], default=None)
        want = None if newest is None or hour - newest[1] > reach else newest[2]
        assert online[0] == want
        for name, value in zip(FILLED, online, strict=True):
            held = frame[name].iloc[at]
            if value is None:
                assert pd.isna(held)
            elif name == "since":
                assert held == pd.Timestamp(value, unit="us", tz="UTC")
            else:
                assert held == value


@given(rows, st.lists(st.tuples(cards, hours), min_size=1, max_size=20))
@example([("c2", 0, -0.0)], [("c2", 0)])
def test_what_a_service_decodes_is_what_a_table_of_events_is_read_as(
    rows: list[tuple[str, int, float | None]], asked: list[tuple[str, int]]
) -> None:
    usecase = looked_up_case()
    table = table_of(profile_frame(*[(card, at * HOUR, limit) for card, at, limit in rows]), usecase)
    keeper = LookupKeeper(usecase, Path("nowhere"))
    keeper.tables = {"profile": index_of(table)}
    schema = FillingSchema(usecase, keeper)
    bodies = [sent(n, at * HOUR, card=card) for n, (card, at) in enumerate(asked)]
    events = sorted((schema.decode(body) for body in bodies), key=lambda e: (e.time_us, e.event_id))
    foreign = pd.DataFrame([card_event(n, at * HOUR, card=card) for n, (card, at) in enumerate(asked)])
    frame = EventSchema.of(usecase, lookups=Lookups(usecase, tables={"profile": table})).read_table(foreign).events
    assert schema.bodies(frame) == [event.as_json() for event in events]
    plan, state = FeaturePlan.of(usecase), MemoryWindows(FeaturePlan.of(usecase).specs)
    offline = plan.build(frame, empty_labels(), NOON + timedelta(days=90)).to_numpy()
    online = np.stack([plan.row(event, state) for event in events])
    assert np.array_equal(offline.view(np.uint32), online.view(np.uint32))


def test_a_client_may_leave_a_looked_up_column_out_or_send_null_and_nothing_else(tmp_path: Path) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 750.0)))
    schema = door(usecase, tmp_path)
    filled = schema.decode(sent())
    assert [filled.value(name) for name in FILLED[:3]] == [750.0, 2, "gold"]
    assert schema.decode(sent(credit_limit="null")) == filled
    with pytest.raises(EventError, match="column 'credit_limit' is filled from lookup 'profile'; leave it out"):
        schema.decode(sent(credit_limit="1.0"))
    with pytest.raises(EventError, match=r"^event 1 of the batch: column 'seats' is filled"):
        schema.decode_many(b"[" + sent(1) + b"," + sent(2, seats="3") + b"]", 5)


def test_a_repeated_body_is_a_repetition_after_the_table_changed_and_so_is_what_the_log_holds_of_it(
    tmp_path: Path,
) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 750.0)))
    before = door(usecase, tmp_path).decode(sent())
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 1.0)))
    after = door(usecase, tmp_path).decode(sent())
    assert (before.value("credit_limit"), after.value("credit_limit")) == (750.0, 1.0)
    assert before.body_hash == after.body_hash
    assert before.as_json() != after.as_json()
    stored = EventSchema.of(usecase)
    assert stored.body_hash(before.as_json()) == stored.decode(before.as_json()).body_hash == before.body_hash
    assert door(usecase, tmp_path).decode(sent(amount=11.0)).body_hash != before.body_hash


def test_without_look_up_tables_the_hash_is_that_of_the_stored_bytes() -> None:
    schema = EventSchema.of(case())
    event = schema.event(card_event())
    assert schema.body_hash(event.as_json()) == event.body_hash
    assert type(event).__name__ == "Event"


def test_a_table_of_events_that_has_the_column_keeps_it_and_any_other_is_filled(tmp_path: Path) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 750.0)))
    schema = EventSchema.of(usecase, lookups=Lookups(usecase, tmp_path))
    foreign = pd.DataFrame([card_event(1, HOUR), card_event(2, -HOUR), card_event(3, HOUR, card="c9")])
    # The source_name of a looked-up column is its name in the look-up table, not in tables of events.
    read = schema.read_table(foreign.assign(limit_eur=3.0)).events.set_index("id")
    assert read["credit_limit"].fillna(-1.0).to_dict() == {"e0001": 750.0, "e0002": -1.0, "e0003": -1.0}
    assert list(read.columns) == [name for name in schema.names if name != "id"]
    served = schema.read_table(foreign.assign(credit_limit=[1.0, 2.0, None])).events.set_index("id")
    assert served["credit_limit"].fillna(-1.0).to_dict() == {"e0001": 1.0, "e0002": 2.0, "e0003": -1.0}
    again = schema.read_table(read.reset_index()).events
    pd.testing.assert_frame_equal(again.set_index("id"), read)


def test_rows_with_a_time_or_entity_that_cannot_be_read_are_refused_for_that_and_not_filled(tmp_path: Path) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 750.0)))
    schema = EventSchema.of(usecase, lookups=Lookups(usecase, tmp_path))
    foreign = pd.DataFrame([card_event(1, HOUR), card_event(2), card_event(3, card="far too long for it")])
    foreign["at"] = foreign["at"].astype(object).where(foreign["id"] != "e0002", "yesterday")
    read = schema.read_table(foreign)
    assert read.events["credit_limit"].tolist() == [750.0]
    assert read.quarantine["reason"].tolist() == ["bad_time", "too_long"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit_eur": "much"}, "column 'limit_eur': 2 of 2 values cannot be used .wrong_type.; allowed is a number"),
        ({"tier": "silver"}, "column 'tier': 2 of 2 values cannot be used .unknown_category."),
        ({"seats": 1.5}, "column 'seats': 2 of 2 values cannot be used .not_an_integer."),
        ({"card": None}, "column 'card': 2 of 2 values cannot be used .missing."),
        ({"card": "c1", "valid_from": NOON}, "1 rows repeat the card and valid_from of another"),
        ({"valid_from": NOON.replace(tzinfo=None)}, "a timestamp with a zone"),
        ({"valid_from": pd.NaT}, "a timestamp with a zone"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_as_a_whole_and_says_why(changes: dict[str, Any], message: str) -> None:
    frame = profile_frame(("c1", 0 * HOUR, 1.0), ("c2", HOUR, 2.0)).assign(**changes)
    with pytest.raises(LookupProblem, match=message):
        table_of(frame)


def test_a_table_without_a_declared_column_is_refused() -> None:
    with pytest.raises(LookupProblem, match="no column 'limit_eur' or 'credit_limit'; it has card, valid_from, seats"):
        table_of(profile_frame(("c1", HOUR, 1.0)).drop(columns="limit_eur"))


def test_a_file_reads_back_as_the_rows_that_were_written(tmp_path: Path) -> None:
    usecase = looked_up_case()
    frame = profile_frame(("c1", HOUR, 0.1 + 0.2), ("c2", 0 * HOUR, None), ("c1", 2 * HOUR, -123456.789))
    place_lookup(usecase, tmp_path, frame)
    found = read_lookup(usecase, "profile", tmp_path)
    pd.testing.assert_frame_equal(found.rows, table_of(frame).rows)
    assert (found.entities, found.newest) == (2, NOON + 2 * HOUR)
    assert [file.name for file in tmp_path.iterdir()] == ["profile.sqlite"]


def test_an_empty_table_knows_nobody(tmp_path: Path) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", HOUR, 1.0)).iloc[:0])
    table = read_lookup(usecase, "profile", tmp_path)
    assert (len(table.rows), table.entities, table.newest) == (0, 0, None)
    assert LookupIndex(usecase, "profile", tmp_path).row("c1", 0) == (None, None, None, None)


def test_a_missing_and_a_torn_file_say_what_to_do(tmp_path: Path) -> None:
    usecase = looked_up_case()
    with pytest.raises(LookupProblem, match="incumbent lookups load profile FILE"):
        require_lookups(usecase, tmp_path)
    path = place_lookup(usecase, tmp_path, profile_frame(*[(f"c{n}", HOUR, 1.0) for n in range(2_000)]))
    whole = path.read_bytes()
    for torn in (b"", whole[:100], whole[: len(whole) // 2], b"PAR1" + whole):
        path.write_bytes(torn)
        with pytest.raises(LookupProblem, match="no look-up table, or a torn one"):
            read_lookup(usecase, "profile", tmp_path)


def test_a_bad_file_leaves_the_old_rows_in_use_and_a_good_one_takes_their_place(tmp_path: Path) -> None:
    usecase = looked_up_case()
    keeper = LookupKeeper(usecase, tmp_path)
    schema = FillingSchema(usecase, keeper)
    keeper.look()
    assert not keeper.complete
    with pytest.raises(ModelNotReady, match="'profile' was not read yet"):
        schema.decode(sent())
    path = place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 1.0)))
    keeper.look()
    assert keeper.complete
    first = keeper.card()["profile"]["digest"]
    for bad in (lambda: path.write_bytes(b"half"), path.unlink):
        bad()
        keeper.look()
        assert schema.decode(sent()).value("credit_limit") == 1.0
        assert keeper.card()["profile"]["digest"] == first
    place_lookup(usecase, tmp_path, profile_frame(("c1", 0 * HOUR, 2.0)))
    keeper.look()
    assert schema.decode(sent()).value("credit_limit") == 2.0
    assert keeper.card()["profile"]["digest"] != first


def test_a_file_that_was_made_for_other_declarations_is_refused_until_it_is_loaded_again(tmp_path: Path) -> None:
    usecase = looked_up_case()
    place_lookup(usecase, tmp_path, profile_frame(("c1", HOUR, 1.0)))
    columns = tuple(c.model_copy(update={"max": 0.5}) if c.name == "credit_limit" else c for c in usecase.columns)
    changed = usecase.model_copy(update={"columns": columns})
    for read in (lambda: read_lookup(changed, "profile", tmp_path), lambda: LookupIndex(changed, "profile", tmp_path)):
        with pytest.raises(LookupProblem, match="declared otherwise; load it again"):
            read()


def test_booleans_and_numbers_come_in_their_own_types(tmp_path: Path) -> None:
    flag = {"name": "vip", "type": "boolean", "nullable": True, "lookup": "profile"}
    usecase = case(columns=[*case_data()["columns"], flag, COLUMN], lookups=[PROFILE])
    table = profile_frame(("c1", 0 * HOUR, 3.0), ("c2", 0 * HOUR, None)).assign(vip=[True, None])
    place_lookup(usecase, tmp_path, table.rename(columns={"limit_eur": "credit_limit"}))
    schema = door(usecase, tmp_path)
    first, second = (schema.decode(sent(n, card=card)) for n, card in enumerate(("c1", "c2")))
    assert (first.value("vip"), type(first.value("credit_limit"))) == (True, float)
    assert first.value("vip") is True
    assert (second.value("vip"), second.value("credit_limit")) == (None, None)
    assert b'"vip":true,"credit_limit":3.0' in first.as_json()


def test_hashed_ids_find_their_rows_and_no_id_is_in_the_file(tmp_path: Path) -> None:
    data = [{**c, "max_length": 60} if c["name"] == "card" else c for c in case_data()["columns"]]
    usecase = looked_up_case(columns=data, privacy={"hashed": ["card"]})
    path = place_lookup(usecase, tmp_path, profile_frame(("customer-4711", 0 * HOUR, 7.0)))
    assert b"4711" not in path.read_bytes()
    hasher = Hasher.for_samples()
    schema = EventSchema.of(usecase, hasher, Lookups(usecase, tmp_path, hasher))
    read = schema.read_table(pd.DataFrame([card_event(1, HOUR, card="customer-4711")]))
    assert read.events["credit_limit"].tolist() == [7.0]


COLUMN = {"name": "credit_limit", "type": "float", "nullable": True, "lookup": "profile"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lookups": []}, r"columns\[9\].lookup: found 'profile'; allowed: the name of a \[\[lookups\]\] table"),
        ({"lookups": [PROFILE | {"entity": "shop"}]}, r"lookups\[0\].entity: found 'shop'; .* send \(card\)"),
        ({"lookups": [PROFILE | {"entity": "id"}]}, r"lookups\[0\].entity: found 'id'"),
        ({"lookups": [PROFILE | {"entity": "nobody"}]}, r"lookups\[0\].entity: found 'nobody'"),
        ({"lookups": [PROFILE, PROFILE]}, "lookups: found 'profile' twice"),
        (
            {"lookups": [PROFILE, PROFILE | {"name": "idle"}]},
            r"lookups\[1\].name: found 'idle'",
        ),
        ({"lookups": [PROFILE | {"max_age": "0s"}]}, "max_age must be longer than nothing"),
        ({"column": {"nullable": False}}, "may not know an entity, so column 'credit_limit' needs nullable"),
        ({"column": {"source_name": "card"}}, r"columns\[9\].source_name: found 'card'; .* when or of whom a row is"),
        ({"column": {"source_name": "valid_from"}}, r"columns\[9\].source_name: found 'valid_from'"),
        (
            {"column": {"type": "string"}, "privacy": {"hashed": ["credit_limit"]}},
            r"columns\[9\].lookup: found 'credit_limit', a hashed column",
        ),
    ],
)
def test_a_declaration_that_leads_nowhere_is_told_with_its_key(changes: dict[str, Any], message: str) -> None:
    column = COLUMN | changes.pop("column", {})
    with pytest.raises(UseCaseError, match=message):
        case(**{"columns": [*case_data()["columns"], column], "lookups": [PROFILE]} | changes)


def test_a_use_case_without_time_cannot_look_up() -> None:
    with pytest.raises(UseCaseError, match="look-up tables with time = 'none'"):
        case(
            time="none",
            columns=[*case_data()["columns"], COLUMN],
            lookups=[PROFILE],
            features=case_data()["features"][:2],
        )


def test_check_runs_without_any_file() -> None:
    report = check_usecase(looked_up_case())
    assert [f for f in report.findings if f.status == "FAIL"] == []


def test_clients_are_not_told_of_columns_that_they_need_not_send() -> None:
    fields = EventSchema.of(looked_up_case()).body_model().model_fields
    assert list(fields) == [c["name"] for c in case_data()["columns"]]
