"""What is not kept as it came: card numbers are refused, entity ids are hashed in every road alike."""

from __future__ import annotations

import json
import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.api.labels import label_columns
from bentos.check.usecase import check_usecase
from bentos.errors import EventError, HashKeyMissing, UseCaseError
from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.schema.id_hashing import ForeignHash, Hasher, holds_card_number, make_hash_key, read_hash_key
from bentos.schema.json_decoder import StrictDecoder
from bentos.settings import read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.limits import HASH_LENGTH
from bentos.windows.memory import MemoryWindows
from tests.support.builders import NOON, card_event, case, case_data, label, label_frame

KEY = b"0123456789abcdef0123456789abcdef"
HASHER = Hasher(KEY)


def columns(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The small case's columns; ``changes`` are merged into the columns of that name."""
    return [column | changes.get(column["name"], {}) for column in case_data()["columns"]]


def private(**changes: Any) -> UseCase:
    """Cards and shops are hashed."""
    wide = columns(card={"max_length": 64})
    return case(**{"columns": wide, "privacy": {"hashed": ["card", "shop"]}, **changes})


def guarded() -> EventSchema:
    return EventSchema.of(case(columns=columns(shop={"pan_guard": True}, id={"pan_guard": True})))


def body(**changes: Any) -> bytes:
    event = card_event(**changes)
    return json.dumps(event | {"at": event["at"].isoformat()}).encode()


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111\u00a01111\u20111111\u20131111",
        "card 4111111111111111 ok",
        "4111111111111111 12/25",
        "4111 1111 1111 1111 1225",
        "ref 12 4111 1111 1111 1111",
        "x4111111111111111x",
        "378282246310005",
        "3782 822463 10005",
        "4222222222222",
        "6304000000000000000",
        "４１１１１１１１１１１１１１１１",
    ],
)
def test_a_card_number_is_found_however_it_is_written(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c-0042",
        "4111111111111112",
        "411111111111",
        "0000000000000000",
        "4111111111111111000000000",
        "4111_1111_1111_1111",
        "2026-03-01T12:00:00.000000Z",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "4111   1111   1111   1111",
    ],
)
def test_other_texts_are_not_taken_for_card_numbers(text: str) -> None:
    assert not holds_card_number(text)


@given(st.integers(10**11, 10**18 - 1))
def test_exactly_one_check_digit_of_ten_makes_a_card_number(number: int) -> None:
    assert sum(holds_card_number(f"{number}{digit}") for digit in range(10)) == 1


def test_a_guarded_column_refuses_a_card_number_and_names_itself_only() -> None:
    for decode in (guarded().decode, lambda sent: guarded().decode_many(b"[" + sent + b"]", 5)):
        for name in ("shop", "id"):
            with pytest.raises(EventError, match=f"'{name}': a card number") as refused:
                decode(body(**{name: "at 4111 1111 1111 1111"}))
            assert "4111" not in str(refused.value)
    assert guarded().decode(body(card="c4111111")).value("card") == "c4111111"
    assert guarded().decode(body(shop=None)).value("shop") is None


def test_a_guarded_column_quarantines_the_row_of_a_table_and_keeps_nothing_of_it() -> None:
    rows = [card_event(1), card_event(2, shop="4111111111111111"), card_event(3, id="4111-1111-1111-1111")]
    events, quarantine = guarded().validate_frame(pd.DataFrame(rows))
    assert events["id"].tolist() == ["e0001"]
    assert quarantine[["row", "reason", "column"]].values.tolist() == [
        [1, "card_number", "shop"],
        [2, "card_number", "id"],
    ]
    assert quarantine["event_id"].tolist() == ["e0002", None]


def test_a_label_of_a_guarded_id_is_guarded_too() -> None:
    usecase = case(columns=columns(id={"pan_guard": True}))
    sent = {"event_id": "4111111111111111", "label": 1, "observed_at": "2026-03-01T00:00:00Z", "source": "analyst"}
    with pytest.raises(EventError, match="event_id"):
        StrictDecoder(label_columns(usecase)).one(json.dumps(sent).encode())


def test_a_guard_stands_before_texts_only() -> None:
    with pytest.raises(UseCaseError, match="pan_guard is for texts"):
        case(columns=columns(amount={"pan_guard": True}))


def test_a_hash_is_a_function_of_key_and_id_and_shows_neither() -> None:
    found = HASHER("c-0042")
    assert found == Hasher(KEY)("c-0042")
    assert re.fullmatch(r"hk[0-9a-f]{6}_[A-Za-z0-9_-]{22}", found)
    assert len(found) == HASH_LENGTH
    assert len({found, HASHER("c-0043"), Hasher(KEY[::-1])("c-0042"), HASHER("")}) == 4


def test_a_hash_passes_unchanged_and_one_of_another_key_is_refused() -> None:
    assert HASHER(HASHER("c-0042")) == HASHER("c-0042")
    with pytest.raises(ForeignHash):
        HASHER(Hasher(KEY[::-1])("c-0042"))
    for like in ("hk", "hk123456_", HASHER("x") + "x", HASHER("x").upper()):
        assert HASHER(like) != like


def test_a_request_and_a_table_give_the_same_hashes_and_neither_keeps_the_id() -> None:
    schema = EventSchema.of(private(), HASHER)
    rows = [
        card_event(n, timedelta(minutes=n), card=f"card-{n % 3}", shop=None if n % 4 else "a shop") for n in range(12)
    ]
    online = schema.frame([schema.event(row) for row in rows])
    offline, quarantine = schema.validate_frame(pd.DataFrame(rows))
    pd.testing.assert_frame_equal(online, offline)
    assert quarantine.empty
    assert offline["card"].tolist() == [HASHER(f"card-{n % 3}") for n in range(12)]
    assert offline["shop"].isna().tolist() == [bool(n % 4) for n in range(12)]
    stored = b"".join(schema.bodies(offline)) + b"".join(schema.event(row).as_json() for row in rows)
    assert b"card-" not in stored
    assert b"a shop" not in stored


def test_what_was_stored_is_read_and_sent_again_unchanged() -> None:
    schema = EventSchema.of(private(), HASHER)
    event = schema.decode(body(card="card-1"))
    assert schema.decode(event.as_json()) == event
    frame = schema.frame_of_bodies([event.as_json()])
    assert schema.validate_frame(frame)[0].equals(frame)
    assert schema.bodies(frame) == [event.as_json()]


def test_a_hash_of_another_key_is_refused_in_requests_and_tables() -> None:
    schema, foreign = EventSchema.of(private(), HASHER), Hasher(KEY[::-1])("card-1")
    with pytest.raises(EventError, match="'card': a hash that was made with another key") as refused:
        schema.decode(body(card=foreign))
    assert foreign not in str(refused.value)
    _, quarantine = schema.validate_frame(pd.DataFrame([card_event(1), card_event(2, card=foreign)]))
    assert quarantine[["row", "reason", "column"]].values.tolist() == [[1, "foreign_hash", "card"]]


def test_a_refused_text_is_not_hashed() -> None:
    schema = EventSchema.of(private(), HASHER)
    _, quarantine = schema.validate_frame(pd.DataFrame([card_event(1), card_event(2, card="c\ud800"), card_event(3)]))
    assert quarantine[["row", "reason"]].values.tolist() == [[1, "control_character"]]


def test_windows_over_hashed_ids_agree_online_and_offline_and_with_those_over_plain_ids() -> None:
    labels = label_frame(*(label(n, n % 2, timedelta(hours=n, minutes=30)) for n in range(0, 40, 3)))
    rows = [card_event(n, timedelta(hours=n), card=f"card-{n % 3}", shop=f"s{n % 2}") for n in range(40)]
    found = {}
    for name, usecase in [("plain", case(columns=columns(card={"max_length": 64}))), ("hashed", private())]:
        schema, plan = EventSchema.of(usecase, HASHER), FeaturePlan.of(usecase)
        events, _ = schema.validate_frame(pd.DataFrame(rows))
        found[name] = plan.build(events, labels, NOON + timedelta(days=30)).to_numpy(np.float32)
        state, online = MemoryWindows(plan.specs), []
        waiting = labels.to_dict("records")
        for row in rows:
            while waiting and waiting[0]["observed_at"] <= row["at"]:
                known = waiting.pop(0)
                state.label(known["event_id"], known["y"], int(known["observed_at"].timestamp() * 1e6), 0)
            online.append(plan.row(schema.event(row), state))
        np.testing.assert_array_equal(np.stack(online), found[name])
    np.testing.assert_array_equal(found["plain"], found["hashed"])


@pytest.mark.parametrize(
    ("hashed", "changes", "key", "words"),
    [
        (["card"], {}, "privacy.hashed[0]", "max_length from 31"),
        (["id"], {}, "privacy.hashed[0]", "opaque"),
        (["shop", "amount"], {}, "privacy.hashed[1]", "identifier or string"),
        (["channel"], {}, "privacy.hashed[0]", "identifier or string"),
        (["nothing"], {}, "privacy.hashed[0]", "a declared column"),
    ],
)
def test_a_wrong_declaration_is_explained(hashed: list[str], changes: Any, key: str, words: str) -> None:
    with pytest.raises(UseCaseError) as refused:
        case(privacy={"hashed": hashed}, **changes)
    assert refused.value.key == key
    assert words in refused.value.allowed


def test_a_use_case_can_be_checked_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    monkeypatch.delenv("INCUMBENT_HASH_KEY", raising=False)
    assert check_usecase(private()).passed
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(HashKeyMissing, match="INCUMBENT_HASH_KEY"):
        EventSchema.of(private()).event(card_event())


def test_the_key_comes_from_the_environment_or_a_file_that_only_a_command_makes(tmp_path: Path) -> None:
    settings = read_settings(home=tmp_path)
    with pytest.raises(HashKeyMissing, match=r"hash\.key"):
        read_hash_key(settings)
    made = make_hash_key(settings)
    assert made == tmp_path / "hash.key"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    key = read_hash_key(settings)
    assert len(key) == 64
    assert make_hash_key(settings) is None
    assert read_hash_key(settings) == key
    given = read_settings(home=tmp_path, hash_key="k" * 32)
    assert read_hash_key(given) == b"k" * 32
    assert "k" * 32 not in repr(given)


def test_a_key_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HashKeyMissing, match="32 characters"):
        read_hash_key(read_settings(home=tmp_path, hash_key="short"))
    make_hash_key(read_settings(home=tmp_path))
    (tmp_path / "hash.key").chmod(0o644)
    with pytest.raises(HashKeyMissing, match="chmod 600"):
        read_hash_key(read_settings(home=tmp_path))
