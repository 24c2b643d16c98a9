"""A home that an earlier commit left is upgraded, and everything that was in it is still there and still works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.registry.ports import ModelRef
from flows.sources import open_source
from monitoring.core.calendar import TimeWindow
from tests.support.log.old_houses import COMMITS, OldHouse, as_times, unpack
from tests.support.processes.servers import Server

DAYS = timedelta(days=400)
"""From the first simulated day on: longer than any stored house."""


@dataclass
class Upgraded:
    """An old home after ``incumbent db upgrade``.

    Attributes:
        home: nothing else was done in it yet; tests that change something take a copy.
        before: rows of each table as the old commit left them.
        said: what the upgrade printed.
        shipped: a copy in which the scribe has shipped what lay in the spool.
    """

    workspace: OldHouse
    before: dict[str, int]
    said: dict[str, Any]
    shipped: OldHouse


@pytest.fixture(scope="module", params=COMMITS)
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Upgraded:
    folder = tmp_path_factory.mktemp("old-home")
    workspace = unpack(request.param, folder)
    before = workspace.rows()
    code, said = workspace.command("db", "upgrade")
    assert code == 0
    shipped = workspace.copy(folder / "shipped")
    shipped.ship("dev-fraud/2")
    return Upgraded(workspace, before, said, shipped)


def test_the_upgrade_loses_no_row(old: Upgraded) -> None:
    figures, now = old.workspace.figures, old.workspace.rows()
    assert (old.said["from"], old.said["state"]) == (figures["schema"]["revision"], "current")
    gone = {name: (count, now.get(name)) for name, count in old.before.items() if now.get(name, 0) < count}
    assert gone == {}
    assert old.workspace.accounting() == figures["accounting"]


def test_what_lay_in_the_spool_is_shipped_and_the_accounting_is_that_of_the_old_commit(old: Upgraded) -> None:
    assert old.workspace.figures["accounting"]["spooled"] > 0
    found = old.shipped.accounting()
    assert found == old.workspace.figures["accounting_shipped"]
    assert (found["balance"], found["spooled"]) == (0, 0)


def test_the_chain_verifies_and_the_roles_are_those_of_the_old_commit(old: Upgraded) -> None:
    code, said = old.shipped.command("audit", "verify")
    assert (code, said["problems"]) == (0, [])
    assert old.workspace.command("audit", "roles") == (0, old.workspace.figures["roles"])
    code, said = old.workspace.command("audit", "show")
    kinds = {decision["kind"] for decision in said["decisions"]}
    assert {"training", "appointment", "approval.requested"} <= kinds


def test_an_open_plan_goes_on_under_its_own_rule_with_the_figures_of_the_old_commit(
    old: Upgraded, tmp_path: Path
) -> None:
    workspace = old.shipped.copy(tmp_path / "home")
    with workspace.open() as opened:
        plans = opened.store.comparisons.list(opened.usecase.name)
    assert [plan.closed_at for plan in plans] == [None]
    for as_of, figures in as_times(workspace.figures["compare"]).items():
        code, said = workspace.command("compare", "--as-of", as_of.isoformat(), "--html", "never")
        assert code in (0, 1)
        assert said["verdict"]["plan_hash"] == figures["verdict"]["plan_hash"]
        assert said["verdict"] == figures["verdict"]
        assert {name: said["result"][name] for name in figures["result"]} == figures["result"]


def test_the_pending_approval_can_be_given_and_the_challenger_takes_office(old: Upgraded, tmp_path: Path) -> None:
    workspace = old.workspace.copy(tmp_path / "home")
    (request,) = workspace.command("approve")[1]["requests"]
    assert request == workspace.figures["requests"]["requests"][0]
    answer(workspace, "approve")
    code, said = workspace.command(
        "promote", "--as-of", verdict_day(workspace).isoformat(), "--reason", "it finds more"
    )
    assert code == 0, said
    with workspace.open() as opened:
        assert opened.champion().version == "2"
        assert opened.registry.roles(opened.model)["previous"].version == "1"
        assert opened.store.decisions.verify() == []
        (plan,) = opened.store.comparisons.list(opened.usecase.name)
    assert plan.outcome == "promote"


def test_the_pending_approval_can_be_rejected_and_the_champion_stays(old: Upgraded, tmp_path: Path) -> None:
    workspace = old.workspace.copy(tmp_path / "home")
    answer(workspace, "reject")
    code, _ = workspace.command("promote", "--as-of", verdict_day(workspace).isoformat(), "--reason", "it finds more")
    assert code != 0
    with workspace.open() as opened:
        assert opened.champion().version == "1"


def test_both_models_give_the_stored_scores_to_the_bit(old: Upgraded) -> None:
    with old.shipped.open() as workspace:
        window = TimeWindow(first_day(old.workspace), first_day(old.workspace) + DAYS)
        answers = workspace.store.log.answers(workspace.usecase.name, window).set_index("event_id")
        _, features = workspace.store.log.features(workspace.usecase.name, window)
        models = {version: workspace.load(ModelRef(workspace.model, version)) for version in ("1", "2")}
    shadow = old.shipped.table("SELECT event_id, raw_score, score, decision FROM shadow WHERE version = '2'")
    assert len(answers) == len(shadow) > 300
    for stored, model in ((answers, models["1"]), (shadow.set_index("event_id"), models["2"])):
        rows = features.set_index("event_id").loc[stored.index, list(model.plan.names)]
        scores = model.score(rows.to_numpy())
        assert np.array_equal(scores.calibrated, stored["score"].to_numpy())
        assert np.array_equal(scores.raw, stored["raw_score"].to_numpy(dtype=np.float32))
        assert np.array_equal(model.decide(scores.calibrated, scores.cuts), stored["decision"].to_numpy(dtype=bool))


def test_an_id_has_the_hash_that_the_log_holds(old: Upgraded) -> None:
    with old.shipped.open() as workspace:
        usecase = workspace.usecase
        window = TimeWindow(first_day(old.workspace), first_day(old.workspace) + DAYS)
        columns = {"transaction_id": "identifier", "customer_id": "identifier"}
        stored = workspace.store.log.events(usecase.name, window, columns).set_index("transaction_id")["customer_id"]
        made = open_source(usecase, "simulator").read(window).events.set_index("transaction_id")["customer_id"]
    assert stored.str.startswith("hk").all()
    assert stored.equals(made.loc[stored.index])


def test_the_service_starts_on_it_with_the_stored_champion_and_the_stored_keys(old: Upgraded, tmp_path: Path) -> None:
    workspace = old.shipped.copy(tmp_path / "home")
    server = Server(workspace, INCUMBENT_KEYS_REQUIRED="always")
    try:
        server.wait_for("/readyz", patience=300.0)
        event = next_event(workspace)
        assert server.score(event).status_code == 401
        answers = []
        for owner in ("shop", "ops"):
            server.client.headers["authorization"] = f"Bearer {workspace.key(owner)}"
            answers.append(server.score(event))
        assert [answer.status_code for answer in answers] == [200, 403]
        assert answers[0].json()["model"] == {"name": "dev-fraud", "version": "1", "alias": "champion"}
        assert server.card()["in_office"]["version"] == "1"
    finally:
        server.stop()


def test_the_status_tells_who_is_in_office_and_what_waits(old: Upgraded) -> None:
    code, said = old.workspace.command("status", "--as-of", verdict_day(old.workspace).isoformat())
    assert code == 0
    assert "dev-fraud/1" in str(said)
    assert "dev-fraud/2" in str(said)


def answer(workspace: OldHouse, word: str) -> None:
    file = workspace.home / "keys" / "ann"
    code, said = workspace.command("approve", "--answer", word, "--key-file", str(file), "--note", "seen")
    assert (code, said["owner"]) == (0, "ann")


def verdict_day(workspace: OldHouse) -> datetime:
    return next(iter(as_times(workspace.figures["compare"])))


def first_day(workspace: OldHouse) -> datetime:
    return datetime.fromisoformat(workspace.figures["first_day"])


def next_event(workspace: OldHouse) -> dict[str, Any]:
    """A card is used after everything that the home has seen."""
    with workspace.open() as opened:
        span = opened.store.log.span(opened.usecase.name)
        assert span is not None
    return {
        "transaction_id": "after-the-upgrade",
        "tx_time": (span[2] + timedelta(minutes=5)).isoformat(),
        "customer_id": "c-0001",
        "terminal_id": "m-0001",
        "amount": 57.16,
    }
