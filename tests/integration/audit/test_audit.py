"""``incumbent audit``: the page about one answer, the terms of champions, the export of the chain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.keys import Key
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.release.emergency import TwoKeys
from bentos.scoring.active_models import ModelHolder
from bentos.usecase.options import ExternalIncumbent
from flows.cli import main
from flows.steps.reports.complaint_page import EventPage, build_event_page, write_event_page
from monitoring.store import Decision, Operation, PlanRecord, RoleChange, Store, memory_store, open_store
from monitoring.store.decisions.journal import State
from monitoring.store.decisions.role_terms import terms_between
from tests.support.builders import case, fraud, tiny_model
from tests.support.log.logged import label, scored
from tests.support.processes.servers import House
from tests.support.release_requests import order_threshold

MODEL = tiny_model(seed=1, threshold=0.2)
NAMES = ("spare", *MODEL.plan.names)
AT = datetime(2026, 2, 1, tzinfo=UTC)


class Archive:
    """Version 1 active by a promotion that ann approved; it answered a few events."""

    def __init__(self, folder: Path) -> None:
        self.workspace = House(folder)
        self.ref = self.workspace.add(MODEL)
        self.workspace.registry.point(self.ref.name, "champion", self.ref.version)
        with self.workspace.store() as store:
            self.promoted = self._office(store)
            store.log.declare_plan(PlanRecord("p", NAMES))
            self.answer(store, 1)

    def _office(self, store: Store) -> Decision:
        """As a release leaves it: an operation of the journal, and a line in the chain for each of its states."""
        granted = {"digest": "d" * 64, "owner": "ann", "request": 1}
        store.decisions.append("fraud", "approval.granted", granted, "ann", AT)
        planned = Operation(
            "op", "fraud", self.ref.name, "promotion", None, "1", None, "d" * 64, MODEL.contract_digest, "worker",
            "it saves money", AT,
        )  # fmt: skip
        lease = store.journal.acquire("release", "worker", 60.0)
        change = RoleChange(self.ref.name, "champion", "1", MODEL.contract_digest)
        at = store.journal.plan(planned, lease, {})
        states: tuple[State, ...] = ("VERIFIED", "CHAMPION_SET", "CONFIRMED", "DONE")
        for state in states:
            at = store.journal.move(at, state, lease, changes=[change] if state == "CHAMPION_SET" else ())
        store.journal.release(lease)
        (line,) = store.decisions.list("fraud", ("promotion.champion_set",))
        return line

    def answer(self, store: Store, number: int, threshold: float = 0.2, **changes: Any) -> None:
        rng = np.random.default_rng(number)
        row = rng.normal(size=(1, len(NAMES))).astype("<f4")
        holder = ModelHolder(ModelRef(self.ref.name, "1"), MODEL, None)
        found = holder.scores([], row, np.arange(1, len(NAMES)))
        score = float(found.calibrated[0])
        values = {
            "model": self.ref.name, "version": "1", "contract": MODEL.contract_digest, "plan_id": "p",
            "features": row.tobytes(), "raw_score": float(found.raw[0]), "score": score, "threshold": threshold,
            "decision": score >= threshold, "received_at": int(datetime.now(UTC).timestamp() * 1e6) + 1000,
        }  # fmt: skip
        store.log.append([scored(number, **values | changes)])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def audit(archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("INCUMBENT_HOME", str(archive.workspace.home))
    monkeypatch.delenv("INCUMBENT_USECASE", raising=False)
    monkeypatch.setattr(
        "flows.workspace.installation.Home.enter", lambda self: None
    )  # the test's own environment stays as it is

    def run(*words: str, as_json: bool = True) -> tuple[int, Any]:
        code = main(["audit", *words, *(["--json"] if as_json else [])])
        said = capsys.readouterr()
        return code, (json.loads(said.out) if as_json and said.out else said.out or said.err)

    return run


def test_the_page_of_an_answer_says_why_by_whom_and_that_it_comes_out_the_same(archive: Archive, audit: Any) -> None:
    code, page = audit("event", "e00001")
    assert code == 0
    assert page["rescored"]["identical"] is True
    assert page["rescored"]["score"] == page["answer"]["score"]
    assert page["office"]["by"] == "worker"
    assert page["office"]["decision"].startswith(archive.promoted.id)
    assert page["office"]["approved_by"].startswith("ann")
    assert page["threshold"] == {"in_force": 0.2, "promoted_with_the_version": 0.2}
    reasons = page["reasons"]["reasons"]
    assert {reason["feature"] for reason in reasons} <= set(MODEL.plan.names)
    told = sum(reason["contribution"] for reason in reasons)
    margin = page["reasons"]["margin"]
    assert margin["bias"] + told + margin["rest"] == pytest.approx(margin["total"], abs=1e-6)


def test_the_page_tells_people_numbers_as_they_were_given_and_sameness_in_words(archive: Archive, audit: Any) -> None:
    _, page = audit("event", "e00001")
    _, said = audit("event", "e00001", as_json=False)
    for reason in page["reasons"]["reasons"]:
        shown = str(np.float32(reason["value"])).removesuffix(".0")
        assert f"{shown}: {reason['direction']} the score" in said
    assert "yes, to the last bit" in said
    assert "True" not in said.partition("Scored again")[2]


def test_a_log_that_was_changed_shows_on_the_page(archive: Archive, audit: Any) -> None:
    with archive.workspace.store() as store:
        archive.answer(store, 2, score=0.123456)
    _, page = audit("event", "e00002")
    assert page["rescored"]["identical"] is False


def test_an_ordered_threshold_names_the_two_people_and_an_unexplained_one_warns(archive: Archive, audit: Any) -> None:
    now = datetime.now(UTC)
    keys = TwoKeys(*(Key(f"k{n}", name, ("approve",), "0" * 64, now) for n, name in enumerate(("ann", "bob"))))
    with archive.workspace.store() as store:
        order_threshold(
            store, fraud(), archive.ref.name, 0.9, now + timedelta(hours=1), keys, actor="ann", reason="an attack",
            now=now,
        )  # fmt: skip
        archive.answer(store, 3, threshold=0.9, received_at=int(datetime.now(UTC).timestamp() * 1e6) + 50_000)
        archive.answer(store, 4, threshold=0.8, received_at=int(AT.timestamp() * 1e6))
        archive.answer(store, 5, threshold=0.7, received_at=int(datetime.now(UTC).timestamp() * 1e6) + 50_000)
    _, page = audit("event", "e00003")
    assert (page["threshold"]["ordered_by"], page["threshold"]["evidence_based"]) == ("ann and bob", False)
    assert page["rescored"]["identical"] is True
    _, page = audit("event", "e00005")  # an order is in force, but this is not its value
    assert "warning" in page["threshold"]
    assert "ordered_by" not in page["threshold"]
    _, page = audit("event", "e00004")
    assert "warning" in page["threshold"]
    assert "warning" in page["office"]


def test_the_page_is_html_too_and_shows_the_truth(archive: Archive, audit: Any, tmp_path: Path) -> None:
    with archive.workspace.store() as store:
        store.labels.add([label(1, 1, 3)], fraud().label)
    file = tmp_path / "page.html"
    code, said = audit("event", "e00001", "--html", str(file), as_json=False)
    assert code == 0
    assert "Reasons, strongest first" in said
    text = file.read_text()
    assert "Scored again: identical." in text
    assert "chargeback" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("code", "shown"), [(1.0, "web: "), (2.0, "(unlisted): "), (float("nan"), "missing: "), (0.0, "app: ")]
)
def test_a_category_among_the_reasons_is_told_by_the_name_of_its_level(code: float, shown: str) -> None:
    usecase = case(name="fraud")
    model, store = tiny_model(usecase, features=("channel",)), memory_store()
    store.log.declare_plan(PlanRecord("c", ("channel",)))
    row = np.array([[code]], dtype="<f4")
    store.log.append([scored(1, plan_id="c", features=row.tobytes(), body=b'{"channel":"web"}')])
    page = build_event_page(store, usecase, "e00001", lambda ref, digest: model)
    store.close()
    (reason,) = page.reasons["reasons"]
    assert reason["value"] is None if np.isnan(code) else reason["value"] == code
    ((_, said),) = dict(page.sections())["Reasons, strongest first"]
    assert said.startswith(shown)


class Vendor:
    """A vendor's score answers; a model may take its place and give it back."""

    def __init__(self) -> None:
        self.store = memory_store()
        given = ExternalIncumbent(column="vendor_score", threshold=0.7)
        self.usecase = fraud().model_copy(update={"incumbent": given})

    def answer(self, number: int, **changes: Any) -> None:
        values = {
            "model": "vendor_score", "version": "0", "alias": "external", "contract": None, "plan_id": None,
            "features": None, "raw_score": None, "score": 0.8, "threshold": 0.7, "decision": True,
            "received_at": int(datetime.now(UTC).timestamp() * 1e6) + 1000,
        }  # fmt: skip
        self.store.log.append([scored(number, **values | changes)])

    def decide(self, kind: str, version: str | None, **said: Any) -> Decision:
        change = RoleChange("dev-fraud", "champion", version, None if version is None else "c" * 64)
        return self.store.decisions.append("fraud", kind, {"model": "dev-fraud", **said}, "ann", AT, [change])

    def page(self, number: int) -> EventPage:
        def load(ref: ModelRef, digest: str | None) -> ScoringModel:
            raise AssertionError(f"{ref.label} did not answer")

        return build_event_page(self.store, self.usecase, f"e{number:05d}", load)


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    made = Vendor()
    yield made
    made.store.close()


def test_an_external_score_is_in_office_by_declaration(vendor: Vendor, tmp_path: Path) -> None:
    vendor.answer(1)
    page = vendor.page(1)
    assert page.office == {
        "external": "the score of column vendor_score",
        "by": "declaration in the use-case file; no model had become champion before this answer",
    }
    assert page.threshold == {"in_force": 0.7, "declared_in_the_use_case_today": 0.7}
    assert page.rescored["identical"] is None
    text = write_event_page(tmp_path / "page.html", page).read_text(encoding="utf-8")
    assert "declaration in the use-case file" in text
    assert "warning" not in page.office


def test_an_external_score_that_came_back_is_in_office_by_that_decision(vendor: Vendor) -> None:
    vendor.decide("promotion.champion_set", "1")
    back = vendor.decide("rollback.external", None, from_version="1", to_version="external", reason="it harms")
    vendor.answer(1)
    office = vendor.page(1).office
    assert office["decision"] == f"{back.id} (number {back.seq})"
    assert (office["kind"], office["by"], office["reason"]) == ("rollback.external", "ann", "it harms")
    assert (office["replaced"], "warning" in office) == ("1", False)


def test_an_external_score_that_answers_in_a_model_s_term_is_no_ordinary_case(vendor: Vendor) -> None:
    seated = vendor.decide("promotion.champion_set", "1")
    vendor.answer(1)
    assert f"number {seated.seq}) dev-fraud/1 was active" in vendor.page(1).office["warning"]


def test_an_external_score_that_no_file_declares_any_more_is_said(vendor: Vendor) -> None:
    vendor.answer(1, model="older_score")
    assert "declares no such external incumbent" in vendor.page(1).office["warning"]


def test_an_event_that_was_never_answered_is_refused(audit: Any) -> None:
    assert audit("event", "nobody", as_json=False)[0] == 1


def test_who_was_in_office_when_is_one_command_and_one_view(archive: Archive, audit: Any) -> None:
    code, found = audit("roles", "--at", "2026-02-15")
    assert code == 0
    (term,) = found["terms"]
    assert (term["version"], term["role"], term["until"], term["decision"]) == (
        "1", "champion", None, archive.promoted.seq,
    )  # fmt: skip
    assert audit("roles", "--at", "2026-01-15")[1]["terms"] == []
    assert len(audit("roles", "--between", "2026-01-15", "2026-03-01")[1]["terms"]) == 1
    assert audit("roles", "--role", "previous")[1]["terms"] == []


def test_an_export_can_be_verified_elsewhere_and_shows_a_change(audit: Any, tmp_path: Path) -> None:
    file = tmp_path / "chain.jsonl"
    code, said = audit("export", "--out", str(file))
    lines = file.read_text().splitlines()
    assert (code, said["decisions"], said["last_hash"]) == (0, len(lines), json.loads(lines[-1])["hash"])
    assert audit("verify", "--file", str(file))[0] == 0
    file.write_text("\n".join([lines[0].replace("ann", "eve"), *lines[1:]]))
    code, said = audit("verify", "--file", str(file))
    assert (code, len(said["problems"])) == (1, 1)
    file.write_text("\n".join(lines[1:]))
    assert audit("verify", "--file", str(file))[0] == 1
    file.write_text("[1]")
    assert audit("verify", "--file", str(file), as_json=False)[0] == 2


def test_a_chain_that_nobody_touched_is_verified_and_an_operation_that_was_taken_away_is_missed(
    archive: Archive, audit: Any, tmp_path: Path
) -> None:
    assert audit("verify") == (0, {"problems": []})
    with sqlite3.connect(archive.workspace.home / "dev-log.db") as here, sqlite3.connect(tmp_path / "copy.db") as there:
        here.backup(there)
        there.execute("DELETE FROM operations")
    store = open_store(f"sqlite:///{tmp_path / 'copy.db'}")
    (problem,) = store.decisions.verify()
    store.close()
    assert "gone from the table of operations" in problem


def test_a_chain_whose_end_was_cut_off_lacks_the_hash_that_was_noted(audit: Any, tmp_path: Path) -> None:
    file = tmp_path / "chain.jsonl"
    noted = audit("export", "--out", str(file))[1]["last_hash"]
    assert audit("verify", "--holds", noted) == (0, {"problems": []})
    assert audit("verify", "--file", str(file), "--holds", noted)[0] == 0
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    assert audit("verify", "--file", str(file))[0] == 0  # what is left is whole
    code, said = audit("verify", "--file", str(file), "--holds", noted)
    assert code == 1
    assert "cut off" in said["problems"][0]
    assert any("cut off" in one for one in audit("verify", "--holds", "0" * 64)[1]["problems"])


def test_the_view_tells_terms_on_every_kind_of_database(store: Store) -> None:
    for day, (role, version) in enumerate(
        [("champion", "1"), ("challenger", "2"), ("champion", "2"), ("challenger", None), ("champion", "3")]
    ):
        change = RoleChange("m", role, version, None)
        store.decisions.append("fraud", "test", {}, "ann", AT + timedelta(days=day), [change])
    ever = terms_between(store.database, "m", AT - timedelta(days=9), AT + timedelta(days=9))
    assert [(t.role, t.version, (t.since - AT).days, t.until and (t.until - AT).days) for t in ever] == [
        ("champion", "1", 0, 2),
        ("challenger", "2", 1, 3),
        ("champion", "2", 2, 4),
        ("champion", "3", 4, None),
    ]
    noon = AT + timedelta(days=2)
    assert [t.version for t in terms_between(store.database, "m", noon, noon, "champion")] == ["2"]
    with store.database.read() as connection:
        text = (
            "SELECT version, held_since, decided_by FROM roles_history WHERE role = 'champion' AND held_until IS NULL"
        )
        rows = connection.exec_driver_sql(text).fetchall()
    assert [(v, str(since)[:10], by) for v, since, by in rows] == [("3", "2026-02-05", "ann")]


def test_what_each_replica_serves_is_one_view(store: Store) -> None:
    store.serving.heartbeat("fraud", "r1", "dev-fraud", "3", "3", {})
    store.serving.heartbeat("fraud", "r2", "dev-fraud", "2", "3", {})
    store.serving.heartbeat("fraud", "r3", "dev-fraud", None, None, {})
    with store.database.read() as connection:
        text = "SELECT replica, version, alias_version, agrees, last_seen FROM served_versions ORDER BY replica"
        rows = connection.exec_driver_sql(text).fetchall()
    assert [tuple(row[:4]) for row in rows] == [("r1", "3", "3", 1), ("r2", "2", "3", 0), ("r3", None, None, 1)]
    assert all(str(row[4]).startswith(str(datetime.now(UTC).year)) for row in rows)
