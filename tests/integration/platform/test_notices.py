"""Notices of real decisions, runs and parts: told once each, in words, whoever acted; time is told, not waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bentos.release.expiry
import bentos.release.routing_changes
import bentos.release.watch
from bentos.keys import Key
from bentos.promotion.approval import answer_directly, open_request
from bentos.promotion.context import ReleaseContext
from bentos.release.emergency import TwoKeys
from bentos.release.routing_changes import RoutingContext
from bentos.release.watch import Watch
from bentos.settings import read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.notify import decisions as told_decisions
from flows.notify.conditions import Condition, ConditionsView, follow_conditions
from flows.notify.decisions import new_decisions
from flows.notify.notice import Notice
from flows.notify.notifier import Notifier
from flows.notify.outbox import deliver, entries_of, store_notices
from flows.notify.watches import WATCHES
from flows.steps.comparison.ramp import check_ramp, parse_steps, start_ramp
from flows.steps.operations.dead_runs import this_process
from flows.workspace.installation import Home
from flows.workspace.roster import Member, Roster, write_roster
from flows.workspace.workspace import Workspace
from monitoring.exporter.attention import attention_samples, environment_samples
from monitoring.policies.watch import WatchPolicy
from monitoring.rollout.ramp_guard import DEFAULT_GUARD
from monitoring.store import NoticeEntry, Run, StandingCondition, Store, memory_store
from tests.support.builders import fraud
from tests.support.hooks import webhook
from tests.support.release_requests import end_overdue, order_threshold, promote_emergency, rollback
from tests.support.releases import MODEL, NOW, challenged, compared, harmless, promoted_once, ref

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PEOPLE = TwoKeys(Key("ann", "ann", ("approve",), "", NOW), Key("bob", "bob", ("approve",), "", NOW))


def house_of(store: Store, folder: Path, usecase: UseCase | None = None, **settings: object) -> Workspace:
    workspace = Workspace(read_settings(home=folder / "home", **settings), usecase or fraud(), "fraud")
    workspace.__dict__["store"] = store
    return workspace


def news(workspace: Workspace) -> list[Notice]:
    """What the chain tells now, as a notifier keeps it."""
    notices, marks = new_decisions(workspace)
    store_notices(workspace, notices, datetime.now(UTC), marks)
    return notices


def figures(store: Store) -> dict[tuple[str, ...], float]:
    """What the exporter says of the same rows, by name and labels: each alert rests on one of them."""
    found = [*attention_samples(store, "fraud", datetime.now(UTC)), *environment_samples(store, datetime.now(UTC))]
    return {(one.name, *one.labels): one.value for one in found}


ACTED = "automatic_timestamp_seconds"


def acted(store: Store) -> set[str]:
    """What the exporter says has acted by itself within the last minutes."""
    now, found = datetime.now(UTC).timestamp(), figures(store)
    return {name[1] for name, value in found.items() if name[0] == ACTED and now - 600 < value <= now}


@pytest.fixture
def plain() -> Iterator[Store]:
    store = memory_store()
    yield store
    store.close()


# The outbox, on every database.


def entry(name: str = "n1", target: str = "default") -> NoticeEntry:
    return NoticeEntry(name, target, "fraud", "rollback", "{}")


def test_a_notice_is_stored_once_and_claimed_by_one(store: Store) -> None:
    outbox = store.notices
    assert outbox.put([entry(), entry(target="oncall")], NOW) == 2
    assert outbox.put([entry()], NOW) == 0
    first = outbox.claim(NOW, 60.0, limit=1)
    rest = outbox.claim(NOW, 60.0)
    assert sorted(one.target for one in [*first, *rest]) == ["default", "oncall"]
    assert outbox.claim(NOW, 60.0) == []
    (again,) = outbox.claim(NOW + timedelta(seconds=61), 60.0, limit=1)
    assert (again.attempts, again.created_at) == (2, NOW)


def test_what_was_not_taken_is_a_problem_until_the_target_takes_something(store: Store) -> None:
    outbox = store.notices
    outbox.put([entry("n1"), entry("n2")], NOW)
    one, two = outbox.claim(NOW, 60.0)
    outbox.refused(one, "it answered 503", NOW + HOUR)
    assert outbox.problems() == [("default", 1, NOW, "it answered 503")]
    assert outbox.claim(NOW + HOUR - timedelta(seconds=1), 60.0, notice_id="n1") == []
    (one,) = outbox.claim(NOW + HOUR, 60.0, notice_id="n1")
    outbox.refused(one, "it answered 404", None)
    assert outbox.problems() == [("default", 1, NOW, "it answered 404")]
    outbox.mark_delivered(two, NOW + 2 * HOUR)
    assert outbox.problems() == []
    assert outbox.prune(NOW + timedelta(seconds=1)) == 2


def test_marks_only_move_on(store: Store) -> None:
    assert store.notices.mark("fraud", "decisions") is None
    for value, wanted in ((7, 7), (5, 7), (9, 9)):
        store.notices.put([], NOW, {("fraud", "decisions"): value})
        assert store.notices.mark("fraud", "decisions") == wanted


def test_two_that_find_one_condition_at_once_tell_it_once(store: Store) -> None:
    mine = StandingCondition("fraud", "approvals", "a", "{}", NOW, NOW)
    theirs = replace(mine, since=NOW + timedelta(milliseconds=5), told_at=NOW)
    store.notices.save([mine], [], [entry("mine")], NOW)
    store.notices.save([theirs], [], [entry("theirs")], theirs.since)
    assert store.notices.conditions("fraud", "approvals") == [mine]
    assert [one.notice_id for one in store.notices.claim(NOW + DAY, 60.0)] == ["mine"]


def test_signs_of_life_have_an_age(store: Store) -> None:
    assert store.heartbeats.seen("fraud") == {}
    for _ in range(2):
        store.heartbeats.beat("fraud", "scribe")
    ((at, age),) = store.heartbeats.seen("fraud").values()
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60.0
    assert age < 60.0


# The chain of decisions.


def test_the_words_for_actors_and_kinds_are_those_of_the_modules_that_write_them() -> None:
    assert bentos.release.watch.ACTOR == told_decisions.WATCH
    assert bentos.release.watch.KIND == told_decisions.BREACHED
    assert bentos.release.expiry.ACTOR == told_decisions.EXPIRY
    assert bentos.release.expiry.EXPIRED == told_decisions.EXPIRED
    assert bentos.release.routing_changes.ROUTING == told_decisions.ROUTING


def breach(store: Store, registry: Any, usecase: UseCase) -> None:
    said = {"answers": {"requests": 1000, "failed": 80, "p99_ms": 12.0}}
    store.serving.heartbeat("fraud", "r1", MODEL, "2", "2", said)
    Watch(ReleaseContext(registry, store, usecase, MODEL, harmless)).run_once(datetime.now(UTC) + timedelta(seconds=2))


def test_history_is_not_told_and_an_automatic_rollback_is_told_once(plain: Store, tmp_path: Path) -> None:
    registry = promoted_once(tmp_path, plain)
    workspace = house_of(plain, tmp_path)
    assert news(workspace) == []
    breach(plain, registry, workspace.usecase)
    (notice,) = news(workspace)
    assert (notice.kind, notice.outcome, notice.usecase, notice.model) == ("rollback", "automatic", "fraud", MODEL)
    assert notice.text.startswith("Version 2 was rolled back by itself at ")
    assert "too many requests failed (80 of 1000 requests failed, below 0.01 wanted" in notice.text
    assert notice.text.endswith("Version 1 answers again.")
    assert news(workspace) == []
    for share in range(300):
        plain.decisions.append("fraud", "routing", {"share": share}, "me", datetime.now(UTC))
    assert acted(plain) == {"rollback"}


def test_a_breach_that_is_left_to_people_asks_them(plain: Store, tmp_path: Path) -> None:
    registry = promoted_once(tmp_path, plain)
    usecase = fraud().model_copy(update={"watch": WatchPolicy(automatic=False)})
    workspace = house_of(plain, tmp_path, usecase)
    news(workspace)
    breach(plain, registry, usecase)
    (notice,) = news(workspace)
    assert (notice.kind, notice.outcome, notice.title) == ("rollback", "needed", "Version 2 should be rolled back")
    assert "incumbent rollback brings version 1 back" in notice.todo


def test_an_emergency_is_told_when_it_begins_and_when_it_ends_by_itself(plain: Store, tmp_path: Path) -> None:
    registry, store = challenged(tmp_path)
    workspace = house_of(store, tmp_path)
    news(workspace)
    promote_emergency(
        registry, store, ref("2"), PEOPLE, usecase=workspace.usecase, actor="ann", reason="an attack", now=NOW,
        until=NOW + HOUR, check=harmless,
    )  # fmt: skip
    order_threshold(store, workspace.usecase, MODEL, 0.7, NOW + HOUR, PEOPLE, actor="ann", reason="less work", now=NOW)
    end_overdue(registry, store, MODEL, usecase=workspace.usecase, now=NOW + HOUR, patience=0.0, check=harmless)
    found = {(one.kind, one.outcome, one.title): one for one in news(workspace)}
    assert set(found) == {
        ("emergency", "begun", "An emergency promotion of version 2"),
        ("promotion", "done", "Version 2 is in charge"),
        ("emergency", "begun", "Another threshold for a while"),
        ("emergency", "ended", "The usual threshold holds again"),
        ("emergency", "ended", "An emergency ended, version 1 answers again"),
    }
    ended = found["emergency", "ended", "An emergency ended, version 1 answers again"]
    assert "nobody had reviewed it. Version 1 answers again." in ended.text
    assert acted(store) == {"emergency_end"}
    store.close()


def test_a_rollback_by_hand_names_who_did_it_and_why(plain: Store, tmp_path: Path) -> None:
    registry = promoted_once(tmp_path, plain)
    workspace = house_of(plain, tmp_path)
    news(workspace)
    rollback(registry, plain, MODEL, workspace.usecase, "carl", "complaints", NOW, check=harmless)
    (notice,) = news(workspace)
    assert (notice.outcome, "by carl: complaints" in notice.text) == ("by_hand", True)
    assert acted(plain) == set()


def test_a_ramp_that_its_guard_took_back_is_told(plain: Store, tmp_path: Path) -> None:
    registry, store = challenged(tmp_path)
    workspace = house_of(store, tmp_path)
    desk = RoutingContext(registry, store, workspace.usecase, MODEL, "me")
    start_ramp(desk, parse_steps("1,100"), HOUR, "p99_ms<50", "a try", NOW, salt="fixed")
    news(workspace)
    policy = desk.current()
    assert policy is not None
    said = {"digest": policy.digest, "share": policy.share, "applied": True}
    store.serving.heartbeat("fraud", "r1", MODEL, "1", "1", {"routing": said, "challenger_p99_ms": 900.0})
    assert check_ramp(desk, datetime.now(UTC) + HOUR).event == "returned", DEFAULT_GUARD
    (notice,) = news(workspace)
    assert (notice.kind, notice.outcome) == ("ramp", "returned")
    assert "taken back to 0" in notice.text
    assert acted(store) == {"ramp_return"}
    store.close()


# What lasts.


def notice(text: str = "MLflow does not answer.") -> Notice:
    return Notice("dependency", "dev", "", "", "", text, NOW.isoformat(), title="MLflow is away")


def run_turns(store: Store, looks: list[tuple[timedelta, bool]], grace: timedelta) -> list[tuple[str, str]]:
    """Outcome and id of what is told in a row of looks, each at its time and finding the condition or not."""
    found = []
    for after, wrong in looks:
        now = NOW + after
        looked = ConditionsView(
            [Condition("mlflow", notice(), grace)] if wrong else [], {"mlflow": "MLflow answers"}, grace
        )
        turn = follow_conditions(store.notices.conditions("", "dependencies"), looked, "", "dependencies", now)
        store.notices.save(turn.standing, turn.ended, [], now)
        found += [(one.outcome, one.id) for one in turn.notices]
    return found


M = timedelta(minutes=1)


def test_a_condition_is_told_after_its_grace_once_a_day_and_when_it_is_over(store: Store) -> None:
    looks = [(0 * M, True), (M, True), (2 * M, True), (5 * M, True), (DAY, True), (DAY + 3 * M, True), (2 * DAY, True)]
    told = run_turns(store, [*looks, (2 * DAY + M, False), (2 * DAY + 4 * M, False)], 2 * M)
    assert [outcome for outcome, _ in told] == ["begun", "lasts", "ended"]
    assert len({name for _, name in told}) == 3


def test_a_condition_that_comes_and_goes_is_one_matter(store: Store) -> None:
    looks = [(0 * M, True), (2 * M, True), (3 * M, False), (4 * M, True), (5 * M, False), (6 * M, True)]
    assert [outcome for outcome, _ in run_turns(store, looks, 2 * M)] == ["begun"]


def test_a_condition_within_its_grace_is_never_told(store: Store) -> None:
    assert run_turns(store, [(0 * M, True), (M, False), (2 * M, True), (3 * M, False)], 2 * M) == []


def test_an_approval_is_told_with_who_may_answer_and_how_and_its_answer_ends_it(plain: Store, tmp_path: Path) -> None:
    workspace = house_of(plain, tmp_path, prefect_ui_url="https://prefect.example.org/")
    now = datetime.now(UTC)
    asked = open_request(plain, "fraud", compared("1", "2"), "run-1", "worker", now, now + DAY)
    notifier = Notifier(workspace)
    with webhook() as hook:
        object.__setattr__(workspace, "settings", read_settings(home=tmp_path / "home", notify_url=hook.url,
                                                            prefect_ui_url="https://prefect.example.org/"))  # fmt: skip
        notifier.run_once()
        notifier.looked.clear()
        notifier.run_once()
        waits = figures(plain)
        answer_directly(plain, "fraud", asked, "approve", Key("k", "Ann", ("approve",), "", NOW), "seen", now)
        notifier.looked.clear()
        notifier.run_once()
    begun, ended = (body for body in hook.bodies if body["kind"] == "approval")
    assert (begun["outcome"], ended["outcome"]) == ("begun", "ended")
    assert "it saves money" in begun["text"]
    assert "except worker, who made or proposed it" in begun["todo"]
    assert f"incumbent approve {asked.id} --code --key-file FILE" in begun["todo"]
    assert begun["link"] == "https://prefect.example.org/runs/flow-run/run-1"
    assert ended["text"].startswith("It was approved, after ")
    assert 0 <= waits["approval_waiting_seconds",] < 600
    assert 0 <= waits["condition_seconds", "approvals", str(asked.id)] < 600
    assert 0 <= waits["heartbeat_age_seconds", "notifier"] < 600
    assert (
        not {("approval_waiting_seconds",), ("condition_seconds", "approvals", str(asked.id))} & figures(plain).keys()
    )


def looked(workspace: Workspace, name: str) -> list[Notice] | None:
    (watch,) = [one for one in WATCHES if one.name == name]
    found = watch.look(workspace, datetime.now(UTC))
    return None if found is None else [one.notice for one in found.standing]


def test_a_champion_that_the_registry_lost_is_told_only_where_the_registry_answers(
    plain: Store, tmp_path: Path
) -> None:
    promoted_once(tmp_path, plain)
    workspace = house_of(plain, tmp_path)
    assert looked(workspace, "champion") is None
    for champion, reachable, wanted in (("2", True, []), (None, False, None), (None, True, ["champion"])):
        plain.serving.heartbeat("fraud", "r1", MODEL, "2", champion, {"reachable": reachable})
        found = looked(workspace, "champion")
        assert (None if found is None else [one.kind for one in found]) == wanted


def run_of(flow: str, state: Any, message: str, minutes: int) -> Run:
    at = NOW + timedelta(minutes=minutes)
    return Run(f"{flow}-{minutes}", "fraud", flow, state, at, at, None, message)


GONE = {"process": {**this_process(NOW)["process"], "born": "long ago"}}
"""What the row of a run says whose process is gone."""


def test_a_flow_that_failed_is_told_without_data_until_it_runs_again(plain: Store, tmp_path: Path) -> None:
    workspace = house_of(plain, tmp_path)
    plain.runs.put(run_of("drift", "failed", "KeyError: 'customer-4711'", 1))
    plain.runs.put(run_of("labels", "failed", "no_data: the file holds no label", 1))
    plain.runs.put(replace(run_of("training", "running", "", 1), ended_at=None, payload=GONE))
    found = {one.title: one for one in looked(workspace, "runs") or []}
    assert set(found) == {"The drift failed", "The labels failed", "The training was killed"}
    assert "4711" not in found["The drift failed"].text
    assert "no_data: the file holds no label" in found["The labels failed"].text
    assert "ended from outside" in found["The training was killed"].text
    for minutes in range(2, 602):
        plain.runs.put(run_of("canary", "completed", "", minutes))
    killed = {name[1]: value for name, value in figures(plain).items() if name[0] == "flow_killed"}
    assert killed == {"drift": 0, "labels": 0, "training": 1, "canary": 0}
    for flow in ("drift", "labels", "training"):
        plain.runs.put(replace(run_of(flow, "completed", "", 2), ended_at=datetime.now(UTC)))
    assert looked(workspace, "runs") == []
    assert figures(plain)["flow_killed", "training"] == 0


def test_a_scribe_that_gives_no_sign_of_life_is_told(plain: Store, tmp_path: Path) -> None:
    workspace = house_of(plain, tmp_path)
    assert looked(workspace, "scribe") is None, "one that never lived here may live elsewhere"
    plain.heartbeats.beat("fraud", "scribe")
    assert looked(workspace, "scribe") == []
    with plain.database.write() as connection:
        connection.exec_driver_sql("UPDATE heartbeats SET seen_at = seen_at - 600000000")
    (notice,) = looked(workspace, "scribe") or []
    assert (notice.kind, notice.title) == ("part", "The scribe is dead")


def test_services_that_do_not_answer_are_told_without_their_addresses(
    plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret-4711@127.0.0.1:1/api")
    workspace = house_of(
        plain, tmp_path, redis_url="redis://:secret-4711@127.0.0.1:1/0", mlflow_uri="http://u:secret-4711@127.0.0.1:1"
    )
    found = looked(workspace, "dependencies") or []
    assert [one.title for one in found] == ["MLflow is away", "Prefect is away", "Redis is away"]
    assert all("nobody listens at its address" in one.text for one in found)
    assert "4711" not in "".join(one.to_text() for one in found)


def test_what_concerns_all_is_told_along_the_routes_of_every_use_case(plain: Store, tmp_path: Path) -> None:
    workspace = house_of(plain, tmp_path)
    shipped = Path("bentos/usecases/fraud/usecase.toml").read_text()
    for name in ("fraud", "cards"):
        route = f'\n[[notify.routes]]\nkinds = ["part", "run"]\nto = "{name}_team"\n'
        (tmp_path / f"{name}.toml").write_text(shipped.replace('name = "fraud"', f'name = "{name}"', 1) + route)
    members = {name: Member(str(tmp_path / f"{name}.toml")) for name in ("fraud", "cards")}
    members["gone"] = Member(str(tmp_path / "gone.toml"))
    write_roster(Home(workspace.settings), Roster(members))
    workspace = replace(workspace, usecase=load_usecase(tmp_path / "fraud.toml"))
    about = ("begun", "The worker is dead", NOW.isoformat())
    part_notice, own = (
        Notice("part", "dev", "", "", *about, id="a"),
        Notice("run", "dev", "fraud", MODEL, *about, id="b"),
    )
    found = [(one.notice_id, one.target) for one in entries_of(workspace, [part_notice, own])]
    assert found == [("a", "fraud_team"), ("a", "cards_team"), ("b", "fraud_team")]


def test_a_target_that_is_away_is_asked_ever_more_rarely_and_given_up_after_days(plain: Store, tmp_path: Path) -> None:
    workspace = house_of(plain, tmp_path, notify_url="http://127.0.0.1:1/token-4711")
    store_notices(workspace, [replace(notice(), id="n1")], NOW)
    now, tried = NOW, []
    while now < NOW + 4 * DAY:
        if deliver(plain, workspace.settings, lambda: now):  # noqa: B023  # called at once
            tried.append(now - NOW)
        now += timedelta(seconds=5) if now < NOW + HOUR else timedelta(minutes=5)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[:4] == [timedelta(seconds=5 * 2**n) for n in range(4)]
    assert max(pauses) <= timedelta(minutes=20)
    assert 3 * DAY <= tried[-1] <= 3 * DAY + timedelta(minutes=20)
    assert [count for _, count, _, _ in plain.notices.problems()] == [1]
    found = figures(plain)
    assert found["notices_undelivered", "default"] == 1
    assert found["notice_undelivered_seconds", "default"] > 0
