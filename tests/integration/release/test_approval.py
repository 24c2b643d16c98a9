"""A person's agreement: whose, to what, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import ReleaseError
from bentos.keys import Key, KeyRing, add_key
from bentos.promotion.approval import (
    CODE_LIFE,
    ApprovalRequest,
    answer_directly,
    approved_by,
    issue_code,
    list_requests,
    makers,
    open_request,
    rejected_by,
)
from bentos.promotion.evidence import write_training
from flows.errors import FlowRefused
from flows.workspace.prefect_server import require_guarded_server
from monitoring.store import Store
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import redeem
from tests.support.releases import MODEL, NOW, challenged, compared, harmless, passed, promote, ref

DUE = NOW + timedelta(hours=24)
VERDICT = compared("1", "2")


@dataclass
class Desk:
    """The trainer brought version 2 up; the worker proposes it; ann and bob hold keys."""

    registry: FakeRegistry
    store: Store
    keys: dict[str, Key]
    tokens: dict[str, str]

    def ask(self, run: str = "run-1", due: Any = DUE) -> ApprovalRequest:
        return open_request(self.store, "fraud", VERDICT, run, "worker", NOW, due)

    def fill_in(
        self, request: ApprovalRequest, code: str, answer: Any = "approve", name: str = "Ann", **more: Any
    ) -> Any:
        return redeem(self.store, "fraud", request, answer, name, "seen", code, more.get("now", NOW))

    def promote(self) -> Any:
        usecase = fraud()
        rules = usecase.promotion.model_copy(update={"approval": "required"})
        return promote(
            self.registry, self.store, VERDICT, usecase=usecase.model_copy(update={"promotion": rules}), actor="worker",
            now=NOW, check=harmless,
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    registry, store = challenged(tmp_path, "Trainer")
    file = tmp_path / "keys.json"
    made = {name: add_key(file, name, ["approve"], NOW) for name in ("ann", "bob", "trainer", "worker")}
    ring = KeyRing.load(file)
    tokens = {name: token for name, (_, token) in made.items()}
    yield Desk(registry, store, {n: ring.check(t, "approve", NOW) for n, t in tokens.items()}, tokens)
    store.close()


def test_without_an_approval_the_verdict_promotes_nobody(desk: Desk) -> None:
    with pytest.raises(ReleaseError, match="nobody has approved"):
        desk.promote()
    assert desk.store.journal.unfinished(MODEL) == []


def test_a_form_with_a_code_approves_and_the_owner_enters_the_chain(desk: Desk) -> None:
    request = desk.ask()
    code = issue_code(desk.store, "fraud", request, desk.keys["ann"], NOW)
    made = desk.fill_in(request, code)
    assert (made.kind, made.payload["owner"], made.actor) == ("approval.granted", "ann", "ann")
    assert approved_by(desk.store, "fraud", VERDICT) == "ann"
    assert desk.promote().to_version == "2"
    whole = str([dict(d.payload) for d in desk.store.decisions.list()])
    assert code not in whole
    assert all(token not in whole for token in desk.tokens.values())
    assert desk.store.decisions.verify() == []


def test_a_code_is_good_once_for_a_while_and_for_its_request_and_owner(desk: Desk) -> None:
    request, other = desk.ask(), desk.ask("run-2")
    code = issue_code(desk.store, "fraud", request, desk.keys["ann"], NOW)
    for wrong in (
        lambda: desk.fill_in(other, code),
        lambda: desk.fill_in(request, "0" * 16),
        lambda: desk.fill_in(request, code, now=NOW + CODE_LIFE),
        lambda: desk.fill_in(request, code, name="bob"),
    ):
        with pytest.raises(ReleaseError):
            wrong()
    assert approved_by(desk.store, "fraud", VERDICT) is None
    desk.fill_in(request, code, "reject")
    assert rejected_by(desk.store, "fraud", VERDICT) == "ann"
    with pytest.raises(ReleaseError, match="rejected"):
        issue_code(desk.store, "fraud", request, desk.keys["ann"], NOW)
    with pytest.raises(ReleaseError, match="code"):
        desk.fill_in(other, code)
    with pytest.raises(ReleaseError, match="nobody has approved"):
        desk.promote()


@pytest.mark.parametrize("name", ["trainer", "worker"])
def test_maker_cannot_be_checker(desk: Desk, name: str) -> None:
    request = desk.ask()
    with pytest.raises(ReleaseError, match="somebody else must check"):
        issue_code(desk.store, "fraud", request, desk.keys[name], NOW)
    with pytest.raises(ReleaseError, match="somebody else must check"):
        answer_directly(desk.store, "fraud", request, "approve", desk.keys[name], "", NOW)
    assert approved_by(desk.store, "fraud", VERDICT) is None


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_whoever_started_a_training_cannot_approve_it_whoever_appointed_the_version(desk: Desk, name: str) -> None:
    write_training(desk.store, "fraud", ref("2").label, passed("2"), "Ann", NOW, work="training", owners=["BOB "])
    write_training(desk.store, "fraud", ref("3").label, passed("3"), "worker", NOW, work="training", owners=["carl"])
    assert {"trainer", "ann", "bob"} == makers(desk.store, "fraud", MODEL, "2")
    request = desk.ask()
    with pytest.raises(ReleaseError, match="somebody else must check"):
        answer_directly(desk.store, "fraud", request, "approve", desk.keys[name], "", NOW)
    assert approved_by(desk.store, "fraud", VERDICT) is None


def test_a_request_that_ran_out_is_asked_again(desk: Desk) -> None:
    request = desk.ask()
    with pytest.raises(ReleaseError, match="asks again"):
        issue_code(desk.store, "fraud", request, desk.keys["ann"], DUE)
    again = desk.ask("run-2", DUE + timedelta(days=1))
    assert again.id != request.id
    assert [r.state(DUE) for r in list_requests(desk.store, "fraud", MODEL)] == ["expired", "open"]
    answer_directly(desk.store, "fraud", again, "approve", desk.keys["bob"], "fine", DUE)
    assert approved_by(desk.store, "fraud", VERDICT) == "bob"


def test_a_run_that_asked_before_gets_its_own_request_back(desk: Desk) -> None:
    assert desk.ask() == desk.ask()
    assert desk.ask("") == desk.ask("")
    assert len(list_requests(desk.store, "fraud", MODEL)) == 1


def test_an_open_server_takes_no_approvals_on_this_machine_either(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    for host in ("127.0.0.1", "localhost", "[::1]", "prefect.example", "10.0.0.5"):
        monkeypatch.setenv("PREFECT_API_URL", f"http://{host}:4200/api")
        with pytest.raises(FlowRefused, match="asks nobody who they are"):
            require_guarded_server()
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass")
    require_guarded_server()
