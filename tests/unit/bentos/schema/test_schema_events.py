from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.errors import EventError
from bentos.schema.event_schema import EventSchema
from tests.support.builders import NOON, card_event, case, case_data, fraud

SCHEMA = EventSchema.of(case())
NAMES = ["id", "at", "card", "shop", "amount", "items", "fee", "online", "channel"]
GOOD = {
    "id": '"e1"',
    "at": '"2026-03-02T12:00:00Z"',
    "card": '"c1"',
    "shop": '"s1"',
    "amount": "10.5",
    "items": "2",
    "fee": "null",
    "online": "true",
    "channel": '"web"',
}


def body(**raw: str) -> bytes:
    """A good body with some raw JSON values replaced."""
    return ("{" + ",".join(f'"{k}":{v}' for k, v in (GOOD | raw).items()) + "}").encode()


def refusal(data: bytes) -> str:
    with pytest.raises(EventError) as caught:
        SCHEMA.decode(data)
    return str(caught.value)


def test_a_good_event_is_read_in_the_declared_order() -> None:
    event = SCHEMA.decode(body())
    noon = int(NOON.timestamp()) * 1_000_000
    assert event.event_id == "e1"
    assert event.time_us == noon
    assert event.values == ("e1", noon, "c1", "s1", 10.5, 2, None, True, "web")
    assert event.value("card") == "c1"


@pytest.mark.parametrize(
    ("column", "raw"),
    [
        ("amount", "NaN"),
        ("amount", "Infinity"),
        ("amount", "-Infinity"),
        ("amount", "1e999"),
        ("amount", "-1e999"),
        ("amount", "true"),
        ("amount", '"10.5"'),
        ("amount", "null"),
        ("amount", "-0.01"),
        ("amount", "1000.01"),
        ("amount", "123456789012345678901234567890"),
        ("amount", "[1]"),
        ("amount", '{"a":1}'),
        ("amount", "01"),
        ("amount", "1."),
        ("amount", ".5"),
        ("amount", "+1"),
        ("amount", "0x1"),
        ("items", "1.0"),
        ("items", "1e1"),
        ("items", "true"),
        ("items", "0"),
        ("items", "51"),
        ("items", "99999999999999999999"),
        ("fee", "1e16"),
        ("fee", '""'),
        ("online", "1"),
        ("online", '"true"'),
        ("online", "null"),
        ("card", '""'),
        ("card", '"123456789"'),
        ("card", "1"),
        ("card", "null"),
        ("card", '"a\\u0000b"'),
        ("card", '"a\\nb"'),
        ("card", '"a\\u007fb"'),
        ("card", '"a\\u0085b"'),
        ("card", '"\\ud800"'),
        ("card", '"\\udc00\\ud800"'),
        ("card", '"a\x01b"'),
        ("channel", '"phone"'),
        ("channel", '"Web"'),
        ("at", '"2026-03-02T12:00:00"'),
        ("at", '"2026-03-02"'),
        ("at", '"2026-02-30T12:00:00Z"'),
        ("at", '"2026-03-02T24:00:00Z"'),
        ("at", '"2026-03-02T12:00:60Z"'),
        ("at", '"1969-12-31T23:59:59Z"'),
        ("at", '"2200-01-01T00:00:00Z"'),
        ("at", '"0001-01-01T00:00:00+14:00"'),
        ("at", '"9999-12-31T23:59:59.9999999Z"'),
        ("at", '"9999-12-31T23:59:59-14:00"'),
        ("at", "1772452800"),
        ("at", "null"),
    ],
)
def test_a_doubtful_value_is_refused_without_repeating_it(column: str, raw: str) -> None:
    message = refusal(body(**{column: raw}))
    malformed = message == "the body is not valid JSON"
    assert malformed or f"column {column!r}: allowed is" in message
    value = raw.strip('"')
    assert len(value) < 6 or value not in message


def test_a_message_says_what_is_allowed() -> None:
    assert refusal(body(amount="-1")) == "column 'amount': allowed is a number from 0 to 1000"
    assert refusal(body(items="0")) == "column 'items': allowed is an integer from 1 to 50"
    assert refusal(body(channel='"x"')) == "column 'channel': allowed is one of 'app', 'web'"
    assert "text of 1 to 8 characters" in refusal(body(card='"123456789"'))
    assert "or null" in refusal(body(fee='"x"'))
    assert "with an offset" in refusal(body(at='"2026-03-02T12:00:00"'))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        body() + b" x",
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16"),
        body()[:-1] + b",}",
        b'{"id":"\xff"}',
        body(card='"C"').replace(b"C", b"\xff"),
        body(card='"C"').replace(b"C", b"\xed\xa0\x80"),
        body(card='"C"').replace(b"C", b"\xc0\x80"),
        body(card='"C"').replace(b"C", b"\x00"),
    ],
)
def test_a_body_that_is_not_one_json_object_in_utf8_is_refused(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize("open_close", [("[", "]"), ('{"id":', "}"), ('{"x":', "}"), ('{"amount":[', "]}")])
def test_deep_json_is_refused_and_not_followed(open_close: tuple[str, str]) -> None:
    left, right = open_close
    refusal((left * 100_000).encode())
    refusal((left * 100_000 + "1" + right * 100_000).encode())
    with pytest.raises(EventError):
        SCHEMA.decode_many((left * 100_000 + "1" + right * 100_000).encode(), 10)


def test_an_unknown_field_is_refused_by_name() -> None:
    message = refusal(body()[:-1] + b',"colour":1}')
    assert message.startswith("unknown field 'colour'; allowed are id, at, card")


def test_an_unknown_field_that_looks_like_data_is_not_repeated() -> None:
    assert "4111" not in refusal(body()[:-1] + b',"4111 1111 1111 1111":1}')


def test_a_missing_column_is_named() -> None:
    data = body().replace(b'"card":"c1",', b"")
    assert refusal(data) == "column 'card' is missing; it may not be left out"


def test_an_optional_column_may_be_null_or_left_out() -> None:
    without = body().replace(b'"fee":null,', b"").replace(b'"shop":"s1",', b"")
    assert SCHEMA.decode(without).as_json() == SCHEMA.decode(body(shop="null")).as_json()


@pytest.mark.parametrize(
    "twice",
    ['"amount":10.5', '"fee":null', '"fee":1', '"card":"c2"', '"\\u0061mount":3', '"online":true'],
)
def test_a_key_that_is_written_twice_is_refused(twice: str) -> None:
    data = body()[:-1] + b"," + twice.encode() + b"}"
    assert refusal(data).endswith("is given twice in one event")
    with pytest.raises(EventError, match="is given twice in one event"):
        SCHEMA.decode_many(b"[" + body() + b"," + data + b"]", 10)


@pytest.mark.parametrize("card", ['a"b', "a\\", '\\"', 'a\\"b', '\\\\"', '","', "한글", "👩‍💻", "é", "a b", "\u2028"])
def test_quotes_backslashes_and_any_script_are_plain_text(card: str) -> None:
    for ascii_only in (True, False):
        event = SCHEMA.decode(body(card=json.dumps(card, ensure_ascii=ascii_only)))
        assert event.value("card") == card
        assert SCHEMA.decode(event.as_json()).value("card") == card


def test_a_float_column_takes_whole_numbers() -> None:
    value = SCHEMA.decode(body(amount="10")).value("amount")
    assert isinstance(value, float)
    assert value == 10.0


@pytest.mark.parametrize("text", ["2026-03-02T14:00:00+02:00", "2026-03-02 12:00:00Z", "2026-03-02T12:00:00.000000Z"])
def test_times_with_any_offset_mean_one_instant(text: str) -> None:
    event = SCHEMA.decode(body(at=f'"{text}"'))
    assert event.as_json() == SCHEMA.decode(body()).as_json()
    assert event.body_hash == SCHEMA.decode(body()).body_hash


def test_canonical_json_does_not_depend_on_order_space_or_number_style() -> None:
    other = json.dumps(dict(reversed(list(json.loads(body(amount="1.05e1")).items()))), indent=2).encode()
    assert SCHEMA.decode(other).body_hash == SCHEMA.decode(body()).body_hash
    assert SCHEMA.decode(body(amount="10.6")).body_hash != SCHEMA.decode(body()).body_hash
    assert list(json.loads(SCHEMA.decode(other).as_json())) == NAMES


def test_a_batch_names_the_bad_event_counted_from_nought() -> None:
    batch = b"[" + body() + b"," + body(amount="-1") + b"]"
    with pytest.raises(EventError, match="event 1 of the batch: column 'amount'"):
        SCHEMA.decode_many(batch, 10)
    with pytest.raises(EventError, match="event 1 of the batch: column 'card'"):
        SCHEMA.decode_many(b"[" + body() + b"," + body(card='"\\u0001"') + b"]", 10)


@pytest.mark.parametrize("batch", [b"[]", b"[" + b",".join([body()] * 4) + b"]", body(), b"[[]]", b"[null]"])
def test_a_batch_of_another_size_or_shape_is_refused(batch: bytes) -> None:
    with pytest.raises(EventError):
        SCHEMA.decode_many(batch, 3)


def test_a_batch_gives_the_same_events_as_one_by_one() -> None:
    bodies = [body(id=f'"e{i}"', amount=str(i)) for i in range(3)]
    batch = SCHEMA.decode_many(b"[" + b",".join(bodies) + b"]", 3)
    assert batch == [SCHEMA.decode(b) for b in bodies]


def test_an_event_does_not_show_its_values_when_printed() -> None:
    assert "c1" not in repr(SCHEMA.decode(body()))


def test_an_infinite_number_in_a_mapping_is_refused_and_not_taken_for_missing() -> None:
    with pytest.raises(EventError, match="fee: a finite number"):
        SCHEMA.event({**card_event(1), "fee": float("inf")})


def test_a_mapping_with_an_aware_time_becomes_an_event() -> None:
    paris = timezone(timedelta(hours=1))
    event = SCHEMA.event(card_event(at=datetime(2026, 3, 2, 13, tzinfo=paris)))
    assert event == SCHEMA.event(card_event())
    with pytest.raises(EventError, match="with an offset"):
        SCHEMA.event(card_event(at=datetime(2026, 3, 2, 13)))  # noqa: DTZ001 - the mistake under test
    with pytest.raises(EventError, match="cannot be written as JSON"):
        SCHEMA.event(card_event(card=object()))


def test_events_frames_and_bodies_turn_into_each_other() -> None:
    events = [SCHEMA.event(card_event(n, timedelta(hours=n), fee=None if n % 2 else 1.5)) for n in range(5)]
    events.append(SCHEMA.event(card_event(9, shop=None)))
    frame = SCHEMA.frame(events)
    assert [str(t) for t in frame.dtypes] == [
        "object", "datetime64[us, UTC]", "object", "object", "float64", "int64", "float64", "bool", "object",
    ]  # fmt: skip
    assert SCHEMA.bodies(frame) == [e.as_json() for e in events]
    pd.testing.assert_frame_equal(SCHEMA.frame_of_bodies(SCHEMA.bodies(frame)), frame)
    pd.testing.assert_frame_equal(SCHEMA.frame([]), frame.iloc[:0])
    pd.testing.assert_frame_equal(SCHEMA.frame_of_bodies([]), frame.iloc[:0])


def test_the_fingerprint_follows_names_types_and_bounds_and_nothing_else() -> None:
    data = case_data()
    prints = {EventSchema.of(case()).fingerprint}
    for key, value in [("max", 2000), ("type", "integer"), ("name", "sum"), ("nullable", True)]:
        columns = [dict(c) for c in data["columns"]]
        columns[4][key] = value
        features = [f for f in data["features"] if f.get("column") != "amount"]
        prints.add(EventSchema.of(case(columns=columns, features=features)).fingerprint)
    assert len(prints) == 5
    columns = [dict(c) | {"description": "other"} for c in reversed(data["columns"])]
    columns[0] |= {"source_name": "CHANNEL", "example": "web"}
    same = case(columns=columns, features=data["features"][:1], timezone="Europe/Paris")
    assert EventSchema.of(same).fingerprint == SCHEMA.fingerprint


def test_the_api_page_shows_bounds_and_examples() -> None:
    schema = EventSchema.of(fraud()).body_model().model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["amount"]["maximum"] == 1_000_000
    assert schema["properties"]["transaction_id"]["examples"] == ["t-000001"]
    assert schema["properties"]["tx_time"]["format"] == "date-time"
    small = SCHEMA.body_model().model_json_schema()
    assert small["required"] == ["id", "at", "card", "amount", "items", "online", "channel"]
    assert small["properties"]["channel"]["enum"] == ["app", "web"]


def test_column_names_may_be_python_keywords() -> None:
    data = case_data()
    columns = [*data["columns"], {"name": "class", "type": "integer"}, {"name": "from", "type": "string"}]
    schema = EventSchema.of(case(columns=columns))
    event = schema.event({**card_event(), "class": 3, "from": "x"})
    assert (event.value("class"), event.value("from")) == (3, "x")
    schema.body_model()


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just("2026-03-02T12:00:00Z")
)
json_like = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), json_like, max_size=11))
def test_whatever_json_arrives_is_an_event_or_an_event_error(data: dict[str, Any]) -> None:
    for text in (json.dumps(data), json.dumps({k: json.loads(v) for k, v in GOOD.items()} | data, ensure_ascii=False)):
        try:
            event = SCHEMA.decode(text.encode("utf-8", "surrogatepass"))
        except EventError:
            continue
        assert SCHEMA.decode(event.as_json()) == event


@given(st.binary(max_size=60))
def test_whatever_bytes_arrive_are_an_event_or_an_event_error(data: bytes) -> None:
    for text in (data, body().replace(b"c1", data), body()[: len(data)] + data):
        try:
            SCHEMA.decode(text)
        except EventError:
            continue


@given(st.integers(0, 2**62))
def test_times_are_exact_to_the_microsecond(us: int) -> None:
    us %= 230 * 365 * 86_400 * 10**6
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    assert SCHEMA.event(card_event(at=at)).time_us == us
