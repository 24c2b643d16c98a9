"""Look-up tables behind the real service, the real log and a real training."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bentos.registry.ports import ModelRef
from bentos.scribe import Scribe
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.cli import main
from flows.sources import open_source
from flows.steps.bulk.chunk_worker import Worker
from flows.steps.data.import_history import load_history
from flows.steps.data.lookup_tables import load_lookup
from flows.steps.operations.replay_events import event_bodies
from monitoring.core.calendar import TimeWindow
from tests.support.builders import tiny_model
from tests.support.lookups import CHANGES, fraud_with_lookup, profiles
from tests.support.processes.servers import PATIENCE, PROJECT, House, Server, event, serving
from tests.support.worlds import small_world

WINDOW = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
NAME = "customer_profile"


@dataclass
class Place:
    """A running service whose events are filled from one table."""

    workspace: House
    usecase: UseCase
    server: Server

    def put(self, *rows: tuple[str, float]) -> str:
        """Replace the table by rows that hold since the first of February; wait until the service has it."""
        file = self.workspace.home / "profile.parquet"
        table = {"customer_id": [c for c, _ in rows], "limit_eur": [limit for _, limit in rows], "products": 2}
        pd.DataFrame(table).assign(valid_from=pd.Timestamp("2026-02-01", tz="UTC")).to_parquet(file)
        digest = load_lookup(self.usecase, NAME, file, self.folder).digest
        self.wait(lambda: self.server.card()["lookups"][NAME]["digest"] == digest)
        return digest

    @property
    def folder(self) -> Path:
        return self.workspace.settings.lookups("fraud")

    def wait(self, told: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not told():
            assert time.monotonic() < deadline, self.server.log.read_text()[-2000:]
            time.sleep(0.05)

    def limits(self) -> dict[str, float | None]:
        """Ship the spool; the credit limit of each event in the log."""
        with self.workspace.store() as store:
            spool = self.workspace.settings.spool("fraud")
            Scribe(store, spool, "fraud", self.usecase.label, filled=self.usecase.lookup_column_names).run_once()
            assert store.ledger.accounting("fraud").quarantined == 0
            bodies = [json.loads(e.body) for part in store.log.stream("fraud", 0, 100) for e in part]
        return {body["transaction_id"]: body["credit_limit"] for body in bodies}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("lookups")
    file = folder / "limits.toml"
    file.write_text(fraud_with_lookup((PROJECT / "bentos" / "usecases" / "fraud" / "usecase.toml").read_text()))
    usecase = load_usecase(file)
    workspace = House(folder / "home")
    model = tiny_model(usecase, threshold=0.1)
    workspace.add(model)
    workspace.appoint(ModelRef(workspace.model, "1"), model.contract_digest)
    table = folder / "first.parquet"
    profiles(1, 500, 100).to_parquet(table)
    load_lookup(usecase, NAME, table, workspace.settings.lookups("fraud"))
    with serving(workspace, INCUMBENT_USECASE=str(file)) as server:
        yield Place(workspace, usecase, server)


def test_the_log_holds_the_value_that_was_served_and_a_missing_one_for_whom_the_table_does_not_know(
    place: Place,
) -> None:
    place.put(("c-known", 750.0))
    sent = [event("t-known", customer_id="c-known"), event("t-unknown", customer_id="c-nobody")]
    early = event("t-early", customer_id="c-known", tx_time="2026-01-31T23:59:59.999999Z")
    old = event("t-old", customer_id="c-known", tx_time="2026-03-18T00:00:00.000001Z")
    for one in [*sent, early, old]:
        answer = place.server.score(one)
        assert answer.status_code == 200, answer.text
    limits = place.limits()
    assert [limits[f"t-{name}"] for name in ("known", "unknown", "early", "old")] == [750.0, None, None, None]
    with place.workspace.store() as store:
        _, features = store.log.features("fraud", WINDOW)
    served = features.set_index("event_id")["credit_limit"]
    assert served["t-known"] == 750.0
    assert pd.isna(served["t-unknown"])


def test_a_new_table_counts_for_new_events_and_a_repetition_gets_its_first_answer(place: Place) -> None:
    place.put(("c-swap", 100.0))
    first = place.server.score(event("t-swap-1", customer_id="c-swap"))
    place.put(("c-swap", 900.0))
    assert place.server.score(event("t-swap-1", customer_id="c-swap")).content == first.content
    assert place.server.score(event("t-swap-1", customer_id="c-other")).status_code == 409
    assert place.server.score(event("t-swap-2", customer_id="c-swap")).status_code == 200
    limits = place.limits()
    assert (limits["t-swap-1"], limits["t-swap-2"]) == (100.0, 900.0)


def test_an_event_that_was_sent_under_one_table_and_answered_under_another_is_in_the_log_as_answered(
    place: Place,
) -> None:
    place.put(("c-late", 100.0))
    sent = event("t-late", customer_id="c-late")
    answer = place.server.post("/events", json.dumps(sent).encode())
    assert answer.json() == {"accepted": 1, "conflicts": []}
    assert place.limits()["t-late"] == 100.0
    place.put(("c-late", 900.0))
    assert place.server.score(sent).status_code == 200
    assert place.limits()["t-late"] == 900.0


def test_a_value_that_a_client_sends_is_refused_on_every_road(place: Place) -> None:
    sent = event("t-own", credit_limit=5.0)
    late = {"event": sent, "decision": True, "reason": "deadline"}
    roads = {"/score": sent, "/score/batch": [sent], "/score/list": [sent], "/events": sent, "/late": late}
    for path, body in roads.items():
        answer = place.server.post(path, json.dumps(body).encode())
        assert answer.status_code == 400, path
        assert "column 'credit_limit' is filled from lookup 'customer_profile'" in answer.text
    assert "t-own" not in place.limits()
    properties = place.server.client.get("/docs.json").json()["components"]["schemas"]["Event"]["properties"]
    assert not {"credit_limit", "products"} & set(properties)


def test_a_torn_file_is_counted_and_the_rows_in_memory_stay_in_use(place: Place) -> None:
    place.put(("c-torn", 321.0))
    failed = f'incumbent_lookup_reads_total{{lookup="{NAME}",outcome="failed"}}'
    before = place.server.metrics().get(failed, 0.0)
    file = place.folder / f"{NAME}.sqlite"
    torn = file.with_name("torn")
    torn.write_bytes(file.read_bytes()[:3000])
    torn.replace(file)
    place.wait(lambda: place.server.metrics().get(failed, 0.0) == before + 1)
    assert place.server.score(event("t-torn", customer_id="c-torn")).status_code == 200
    assert place.limits()["t-torn"] == 321.0
    assert "the rows in memory stay in use" in place.server.log.read_text()
    place.put(("c-torn", 322.0))


def test_a_service_without_its_table_does_not_start_and_says_what_to_do(place: Place, tmp_path: Path) -> None:
    bare = Server(House(tmp_path / "home"), INCUMBENT_USECASE=str(place.workspace.home.parent / "limits.toml"))
    try:
        assert bare.process.wait(PATIENCE) == 1
        assert "refused: lookup 'customer_profile'" in bare.log.read_text()
        assert "incumbent lookups load customer_profile FILE" in bare.log.read_text()
    finally:
        bare.stop()


def said(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def test_a_training_from_the_log_uses_what_was_served_whatever_the_table_says_today(tmp_path: Path) -> None:
    before = dict(os.environ)
    with small_world(tmp_path, history=False, changes=CHANGES) as world:
        workspace, reference = world.workspace, world.reference
        train = ("train", "--usecase", reference, "--json", "--until", world.live_from.date().isoformat())
        code, _, error = said(*train, "--source", "simulator")
        assert (code, "incumbent lookups load" in error) == (1, True)
        file = tmp_path / "profiles.parquet"
        profiles(1, 4_000, 400).to_parquet(file)
        assert said("lookups", "load", NAME, str(file), "--usecase", reference)[0] == 0
        code, out, _ = said("lookups", "show", "--usecase", reference, "--json")
        shown = json.loads(out)["lookups"][0]
        assert (code, shown["columns"]) == (0, ["credit_limit", "products"])
        assert shown["rows"] == len(profiles(1, 4_000, 400))
        start = workspace.usecase.calendar.start_of(workspace.usecase.source.simulator.start)
        window = TimeWindow(start, world.live_from)
        load_history(
            open_source(workspace.usecase, "simulator"), window, workspace.store, workspace.usecase, world.live_from
        )
        first = json.loads(said(*train, "--source", "log")[1])
        profiles(2, 4_000, 400).to_parquet(file)
        assert said("lookups", "load", NAME, str(file), "--usecase", reference)[0] == 0
        changed = open_source(workspace.usecase, "simulator").read(window).events
        logged = open_source(workspace.usecase, "log", store=workspace.store).read(window).events
        assert changed["credit_limit"].notna().any()
        assert not changed["credit_limit"].equals(logged["credit_limit"])
        again = json.loads(said(*train, "--source", "log")[1])
        # Made-up limits teach nothing, so whether the gates pass is not the question here.
        assert again["data_digest"] == first["data_digest"]
        assert again["evidence"]["metrics"] == first["evidence"]["metrics"]
        code, _, error = said(*train, "--source", "log", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1")
        assert (code, "which the dask engine cannot do; use --engine single" in error) == (1, True)
        # Chunks of bulk scoring are filled from the same table, and a replay does not send what is looked up.
        sample = changed.head(50).drop(columns=["credit_limit", "products"])
        worker = Worker(
            workspace.usecase,
            tiny_model(workspace.usecase),
            ModelRef(workspace.model, "1"),
            world.live_from + timedelta(days=1),
            False,
        )
        read, _, refused = worker.clean(sample, 0)
        assert (len(refused), read["credit_limit"].equals(changed.head(50)["credit_limit"])) == (0, True)
        assert b"credit_limit" not in event_bodies(changed.head(1), workspace.usecase)[0]
    os.environ.clear()
    os.environ.update(before)
