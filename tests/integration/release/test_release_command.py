"""``python -m bentos.release`` as somebody meets it at 3 a.m."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.release.__main__ import main
from bentos.settings import read_settings
from monitoring.store import Report, Store, open_store
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import appoint, install_first
from tests.support.releases import MODEL, NOW, compared, enter, harmless, passed, ref, registry_of

NAMES: dict[str, Any] = {"usecase": fraud(), "actor": "ann", "now": NOW, "check": harmless}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """Version 1 active, version 2 compared with it; no model is really loaded."""
    made = registry_of(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    monkeypatch.setattr("bentos.registry.mlflow.open_registry", lambda settings: made)
    monkeypatch.setattr("bentos.promotion.context.make_isolated_check", lambda usecase: harmless)
    return made


@pytest.fixture
def store(tmp_path: Path, registry: FakeRegistry) -> Iterator[Store]:
    opened = open_store(read_settings(home=tmp_path).log_url)
    install_first(registry, opened, passed("1"), **NAMES)
    appoint(registry, opened, ref("2"), "challenger", reason="it passed", **NAMES)
    yield opened
    opened.close()


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run a command; its exit code and what it printed as JSON, or its complaint."""

    def command(*words: str) -> tuple[int, Any]:
        code = main([*words, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if code == 0 else said.err

    return command


def test_the_status_says_who_is_in_office_and_who_serves(run: Callable[..., Any], store: Store) -> None:
    store.serving.heartbeat("fraud", "a", MODEL, "1")
    code, said = run("status")
    assert code == 0
    assert said["roles"] == {"champion": "1", "challenger": "2"}
    assert (said["champion_by_journal"], said["in_office_since"]) == ("1", NOW.isoformat())
    assert said["served"]["a"]["version"] == "1"
    assert said["audit_problems"] == said["unfinished"] == []


def test_the_status_works_without_a_registry(run: Callable[..., Any], registry: FakeRegistry) -> None:
    registry.down = True
    _, said = run("status")
    assert (said["registry_reachable"], said["champion_by_journal"]) == (False, "1")


def test_the_last_stored_comparison_promotes_and_a_rollback_returns(run: Callable[..., Any], store: Store) -> None:
    code, said = run("promote")
    assert (code, "no comparison" in said) == (1, True)
    verdict = compared("1", "2")
    store.reports.add(Report("fraud", "comparison", NOW, "promote", {"verdict": verdict.to_json()}))
    enter(store, verdict)
    code, said = run("promote", "--preview")
    assert (said["preview"], run("status")[1]["roles"]["champion"]) == (True, "1")
    code, said = run("promote", "--wait", "0")
    assert (code, said["to_version"], said["state"]) == (0, "2", "DONE")
    code, said = run("rollback", "--reason", "too many alerts", "--wait", "0")
    assert (code, said["to_version"]) == (0, "1")
    assert run("status")[1]["barred"] == {"2": "too many alerts"}
    code, said = run("rollback", "--reason", "again")
    assert (code, "@previous" in said) == (1, True)


def test_a_verdict_may_come_from_a_file(run: Callable[..., Any], store: Store, tmp_path: Path) -> None:
    file = tmp_path / "verdict.json"
    kept = replace(compared("1", "2"), outcome="keep").to_json()
    store.reports.add(Report("fraud", "comparison", NOW, "keep", {"verdict": kept}))
    file.write_text(json.dumps(kept))
    code, said = run("promote", "--verdict", str(file))
    assert (code, "keep" in said) == (1, True)
    file.write_text('{"a": 1}')
    assert run("promote", "--verdict", str(file))[0] == 1
    assert run("promote", "--verdict", str(tmp_path / "nothing"))[0] == 1


def test_a_verdict_that_was_never_stored_or_is_out_of_date_promotes_nobody(
    run: Callable[..., Any], store: Store, tmp_path: Path
) -> None:
    file, promotes = tmp_path / "verdict.json", compared("1", "2")
    file.write_text(json.dumps(promotes.to_json()))
    code, said = run("promote", "--verdict", str(file))
    assert (code, "no comparison is stored" in said) == (1, True)
    store.reports.add(Report("fraud", "comparison", NOW, "promote", {"verdict": promotes.to_json()}))
    forged = replace(promotes, reasons=("somebody would like it",))
    file.write_text(json.dumps(forged.to_json()))
    code, said = run("promote", "--verdict", str(file))
    assert (code, "not the newest stored comparison of fraud" in said) == (1, True)
    later = replace(promotes, outcome="keep_watching", as_of=NOW + timedelta(days=1))
    store.reports.add(Report("fraud", "comparison", later.as_of, "keep_watching", {"verdict": later.to_json()}))
    file.write_text(json.dumps(promotes.to_json()))
    code, said = run("promote", "--verdict", str(file))
    assert (code, "out of date" in said) == (1, True)
    assert run("status")[1]["roles"]["champion"] == "1"


def test_the_verdict_in_a_file_promotes_when_it_is_the_newest_stored_one(
    run: Callable[..., Any], store: Store, tmp_path: Path
) -> None:
    file, promotes = tmp_path / "verdict.json", compared("1", "2")
    store.reports.add(Report("fraud", "comparison", NOW, "promote", {"verdict": promotes.to_json()}))
    enter(store, promotes)
    file.write_text(json.dumps(promotes.to_json()))
    code, said = run("promote", "--verdict", str(file), "--wait", "0")
    assert (code, said["to_version"], said["state"]) == (0, "2", "DONE")


def test_an_interrupted_release_is_shown_and_ended(
    run: Callable[..., Any], store: Store, registry: FakeRegistry
) -> None:
    from tests.support.releases import Killed, Process, dies_after, promote, time_passes

    enter(store, compared("1", "2"))
    process = Process(registry, store, dies_after(8))
    with pytest.raises(Killed):
        promote(process.registry, process.store, compared("1", "2"), **NAMES)
    time_passes(store)
    assert len(run("status")[1]["unfinished"]) == 1
    assert run("recover", "--preview")[1]["operations"] == run("status")[1]["unfinished"]
    assert len(run("recover")[1]["operations"]) == 1
    assert run("status")[1]["unfinished"] == []


def test_a_rollback_without_a_reason_is_wrong_usage(registry: FakeRegistry) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["rollback"])
    assert caught.value.code == 2


def test_plain_text_is_for_people(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "champion: 1" in capsys.readouterr().out


@pytest.fixture
def people(tmp_path: Path, store: Store) -> dict[str, str]:
    """Files with the keys of three people."""
    from datetime import UTC, datetime

    from bentos.keys import add_key

    ring, files = read_settings(home=tmp_path).keys_file, {}
    for name in ("ann", "bob", "carl"):
        file = tmp_path / f"{name}.key"
        file.write_text(add_key(ring, name, ["approve"], datetime.now(UTC))[1])
        files[name] = str(file)
    return files


def test_an_emergency_is_ordered_by_two_shown_and_reviewed_by_a_third(
    run: Callable[..., Any], people: dict[str, str]
) -> None:
    order = ("promote", "--emergency", "--reason", "an attack", "--wait", "0", "--key-file", people["ann"])
    code, said = run(*order, "--key-file", people["ann"])
    assert (code, "second person" in said) == (1, True)
    code, done = run(*order, "--key-file", people["bob"])
    assert (code, done["to_version"], done["state"]) == (0, "2", "DONE")
    (shown,) = run("status")[1]["emergencies"]
    assert "review open" in shown
    review = ("review", done["op_id"][:8], "--note", "it was right", "--key-file")
    assert run(*review, people["bob"])[0] == 1
    assert run(*review, people["carl"])[1]["owner"] == "carl"
    assert "reviewed" in run("status")[1]["emergencies"][0]


def test_a_threshold_order_is_given_shown_and_lifted(run: Callable[..., Any], people: dict[str, str]) -> None:
    keys = ("--key-file", people["ann"], "--key-file", people["bob"])
    for wrong in ((), ("--until", "soon"), ("--until", "2026-03-01T10:00")):
        assert run("threshold", "--set", "0.8", *wrong, "--reason", "an attack", *keys)[0] == 1
    code, said = run("threshold", "--set", "0.8", "--until", "4h", "--reason", "an attack", *keys)
    assert (code, said["value"], said["owners"]) == (0, 0.8, ["ann", "bob"])
    assert run("status")[1]["threshold_order"].startswith("0.8 for version 1 until")
    code, said = run("threshold", "--lift", "--reason", "over", "--key-file", people["carl"])
    assert (code, said["kind"]) == (0, "threshold.lifted")
    assert run("status")[1]["threshold_order"] is None


def test_an_alias_that_was_moved_by_hand_is_shown_and_put_back(run: Callable[..., Any], registry: FakeRegistry) -> None:
    registry.point(MODEL, "champion", "3")
    assert run("status")[1]["unexplained_alias"] == "3"
    assert run("promote", "--wait", "0")[0] == 1
    assert run("reconcile", "--reason", "a slip")[1] == {"steps": ["@champion = 1"]}
    assert run("reconcile")[1] == {"steps": []}
    assert run("status")[1]["unexplained_alias"] is None


def test_a_rollback_lists_what_it_changes(run: Callable[..., Any], store: Store) -> None:
    store.reports.add(Report("fraud", "comparison", NOW, "promote", {"verdict": compared("1", "2").to_json()}))
    enter(store, compared("1", "2"))
    assert run("promote", "--wait", "0")[0] == 0
    code, said = run("rollback", "--reason", "too many alerts", "--wait", "0")
    assert (code, said["affected"]["answered"], said["affected"]["file"]) == (0, 0, None)
    assert [d.kind for d in store.decisions.list(limit=1)] == ["rollback.affected"]
