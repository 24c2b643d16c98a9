from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pandas as pd
import pytest

from bentos.usecase.loading import load_usecase
from flows.steps.operations.replay_events import ReplayClient, SteadyTraffic, event_bodies, label_bodies

FRAUD = load_usecase("fraud")


def events(count: int) -> pd.DataFrame:
    times = pd.date_range("2026-01-01T12:00:00", periods=count, freq="s", tz="UTC").as_unit("us")
    ids = [f"t-{i}" for i in range(count)]
    return pd.DataFrame(
        {
            "transaction_id": ids,
            "tx_time": times,
            "customer_id": "c-1",
            "terminal_id": "m-1",
            "amount": 12.5,
        }
    )


def answer(event: dict[str, object], version: str = "1") -> dict[str, object]:
    model = {"name": "dev-fraud", "version": version, "alias": "champion"}
    return {"event_id": event["transaction_id"], "score": 0.1, "decision": False, "threshold": 0.5, "model": model}


def replay(handler: Callable[[httpx.Request], httpx.Response]) -> ReplayClient:
    return ReplayClient("http://service", FRAUD, transport=httpx.MockTransport(handler))


def good(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    return httpx.Response(200, json=[answer(e) for e in body] if isinstance(body, list) else answer(body))


def test_an_event_body_holds_the_declared_columns_and_the_time_with_its_zone() -> None:
    body = json.loads(event_bodies(events(1), FRAUD)[0])
    assert body == {
        "transaction_id": "t-0",
        "tx_time": "2026-01-01T12:00:00.000000Z",
        "customer_id": "c-1",
        "terminal_id": "m-1",
        "amount": 12.5,
    }


def test_a_missing_number_is_sent_as_null() -> None:
    table = events(2)
    table.loc[1, "amount"] = float("nan")
    assert [json.loads(b)["amount"] for b in event_bodies(table, FRAUD)] == [12.5, None]


def test_a_label_body_names_event_answer_time_and_source() -> None:
    table = pd.DataFrame({"event_id": ["t-1"], "y": [1], "source": ["chargeback"]})
    table["observed_at"] = pd.to_datetime(["2026-01-08T12:00:00Z"]).as_unit("us")
    assert json.loads(label_bodies(table)[0]) == {
        "event_id": "t-1",
        "label": 1,
        "observed_at": "2026-01-08T12:00:00.000000Z",
        "source": "chargeback",
    }


def test_events_are_sent_in_batches_in_their_order() -> None:
    seen: list[list[str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append([e["transaction_id"] for e in json.loads(request.content)])
        return good(request)

    with replay(handler) as client:
        tally = client.send(events(5), batch=2)
    assert seen == [["t-0", "t-1"], ["t-2", "t-3"], ["t-4"]]
    assert (tally.sent, tally.answered, tally.failed) == (5, 5, 0)
    assert tally.versions == {"1": 5}


def test_a_refused_batch_counts_all_its_events_as_failed() -> None:
    with replay(lambda _: httpx.Response(503)) as client:
        tally = client.send(events(3), batch=2)
    assert (tally.sent, tally.answered, tally.failed) == (3, 0, 3)
    assert tally.reasons == {"503": 2}


def test_an_answer_that_is_no_answer_counts_as_failed() -> None:
    with replay(lambda _: httpx.Response(200, json=[{"score": "high"}])) as client:
        assert client.send(events(1)).failed == 1


def test_fewer_answers_than_events_count_as_failed() -> None:
    with replay(lambda r: httpx.Response(200, json=[answer(json.loads(r.content)[0])])) as client:
        tally = client.send(events(3))
    assert (tally.answered, tally.failed) == (1, 2)


def test_a_connection_that_breaks_counts_as_failed() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with replay(broken) as client:
        assert client.send(events(1)).reasons == {"ConnectError": 1}


def test_refused_labels_are_counted() -> None:
    table = pd.DataFrame({"event_id": ["a", "b"], "y": [1, 0], "source": "chargeback"})
    table["observed_at"] = pd.Timestamp("2026-01-08T12:00:00Z").as_unit("us")
    with replay(lambda _: httpx.Response(422)) as client:
        assert client.send_labels(table) == 2
    with replay(lambda _: httpx.Response(200, json={})) as client:
        assert client.send_labels(table) == 0


@pytest.mark.parametrize("count", [1, 25])
def test_traffic_sends_each_event_once_and_says_how_far_it_came(count: int) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content)["transaction_id"])
        return good(request)

    with replay(handler) as client, SteadyTraffic(client, events(count), pace=1e6) as traffic:
        while traffic.sent < count:
            pass
    assert seen == [f"t-{i}" for i in range(count)]
    assert (traffic.sent, traffic.tally.answered) == (count, count)
