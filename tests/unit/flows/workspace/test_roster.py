"""The use cases of one home, and how a stack keeps in step with them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.settings import read_settings
from flows.errors import FlowRefused
from flows.stack.follower import Follower, write_targets
from flows.stack.local_stack import Stack
from flows.stack.parts import Part, Ports
from flows.stack.state_file import read_state
from flows.workspace.installation import Home
from flows.workspace.roster import (
    Member,
    Roster,
    find_reference,
    read_roster,
    roster_file,
    settle_roster,
    write_roster,
)  # fmt: skip

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(read_settings(home=tmp_path / "home", usecase="fraud"))
    found.make()
    return found


def stack_of(home: Home, said: list[str] | None = None) -> Stack:
    """A stack whose parts are known and not started."""
    stack = Stack(home, Ports(4200, 3000, 8900, exporter=9109), say=(said if said is not None else []).append)
    for name in ("service", "scribe", "notifier", "deployments"):
        stack.add(Part(name, ["true"]))
    return stack


def changed(home: Home, roster: Roster) -> None:
    """Another roster; its time of change differs even where the clock's step is coarse."""
    before = roster_file(home).stat().st_mtime_ns if roster_file(home).exists() else 0
    write_roster(home, roster)
    os.utime(roster_file(home), ns=(before + 10**9, before + 10**9))


def test_one_use_case_needs_no_roster(home: Home) -> None:
    assert settle_roster(home, ["churn"]) == Roster()
    assert not roster_file(home).exists()


def test_several_are_kept_for_the_next_time(home: Home) -> None:
    assert list(settle_roster(home, ["fraud", "churn"]).active) == ["fraud", "churn"]
    assert settle_roster(home, []) == read_roster(home)
    assert read_roster(home).active == {"fraud": "fraud", "churn": "churn"}


def test_a_use_case_that_retired_stays_known_when_others_are_named(home: Home) -> None:
    write_roster(home, Roster({"churn": Member("churn", NOW), "fraud": Member("fraud")}))
    settle_roster(home, ["fraud", "retention"])
    assert read_roster(home).retired == {"churn": NOW}
    settle_roster(home, ["fraud", "churn"])
    assert list(read_roster(home).active) == ["fraud", "churn"]
    assert read_roster(home).retired == {}


def test_a_name_is_refused_twice(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(Path("bentos/usecases/fraud/usecase.toml").read_text())
    with pytest.raises(FlowRefused, match="both the use case fraud"):
        settle_roster(home, ["fraud", str(copy)])
    assert not roster_file(home).exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"usecases": {"fraud": {}}}', '{"people": 3}'])
def test_a_roster_that_is_none_is_refused_by_name(home: Home, text: str) -> None:
    roster_file(home).write_text(text)
    with pytest.raises(FlowRefused, match=r"usecases\.json cannot be read"):
        read_roster(home)


def test_a_further_use_case_gets_parts_and_an_address_of_its_own(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    assert follower.follow(stack) is False, "there is no roster"
    changed(home, Roster({"fraud": Member("fraud"), "churn": Member("churn")}))
    assert follower.follow(stack) is True
    assert follower.follow(stack) is False, "nothing changed since"
    further = {name for name in stack.keepers if name.endswith("-churn")}
    assert further == {"service-churn", "scribe-churn", "deployments-churn", "notifier-churn"}
    assert {stack.keepers[name].part.environment["INCUMBENT_USECASE"] for name in further} == {"churn"}
    assert stack.keepers["deployments-churn"].part.after == "deployments"
    assert stack.urls["service-churn"] == f"http://127.0.0.1:{stack.ports.services['churn']}"
    assert stack.ports.services["churn"] not in (stack.ports.service, stack.ports.exporter)


def test_a_use_case_that_retires_leaves_the_others_as_they_are(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    three = {name: Member(name) for name in ("fraud", "churn", "retention")}
    changed(home, Roster(three))
    follower.follow(stack)
    before = dict(stack.ports.services)
    changed(home, Roster(three).put("churn", Member("churn", NOW)))
    follower.follow(stack)
    assert not [name for name in stack.keepers if name.endswith("-churn")]
    assert stack.ports.services == {"retention": before["retention"]}
    assert {"service", "service-retention"} <= set(stack.keepers)


def test_the_first_use_case_retires_and_comes_back(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    both = Roster({"fraud": Member("fraud"), "churn": Member("churn")})
    changed(home, both.put("fraud", Member("fraud", NOW)))
    follower.follow(stack)
    assert not {"service", "scribe", "notifier"} & set(stack.keepers)
    assert {"deployments", "service-churn"} <= set(stack.keepers), "the worker's pool is theirs too"
    changed(home, both)
    follower.follow(stack)
    assert {"service", "scribe", "notifier", "service-churn"} <= set(stack.keepers)


def test_a_roster_that_cannot_be_read_is_told_and_stops_nothing(home: Home) -> None:
    said: list[str] = []
    stack, follower = stack_of(home, said), Follower()
    changed(home, Roster({"fraud": Member("fraud"), "churn": Member("churn")}))
    follower.follow(stack)
    parts = set(stack.keepers)
    roster_file(home).write_text("{")
    follower.follow(stack)
    assert set(stack.keepers) == parts
    assert "usecases.json cannot be read" in said[-1]


def test_targets_say_whose_they_are(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    changed(home, Roster({"fraud": Member("fraud"), "churn": Member("churn")}))
    follower.follow(stack)
    write_targets(stack)
    files = {file.name: json.loads(file.read_text()) for file in (home.run / "targets").iterdir()}
    assert files["exporter.json"] == [{"targets": ["127.0.0.1:9109"], "labels": {"usecase": "all", "env": "dev"}}]
    assert [one["labels"] for one in files["service.json"]] == [
        {"usecase": "fraud", "env": "dev"}, {"usecase": "churn", "env": "dev"},
    ]  # fmt: skip


BOTH = Roster({"fraud": Member("fraud"), "churn": Member("churn")})


def test_every_name_that_a_use_case_ever_had_leads_to_it() -> None:
    roster = BOTH.rename("fraud", "card-fraud", "fraud").rename("fraud", "payments", "fraud")
    assert [roster.id_of(name) for name in ("fraud", "card-fraud", "payments", "other")] == ["fraud"] * 3 + [None]
    assert (roster.name_of("fraud"), roster.name_of("churn")) == ("payments", "churn")
    back = roster.rename("fraud", "fraud", "fraud")
    assert (back.name_of("fraud"), back.id_of("payments")) == ("fraud", "fraud")
    assert find_reference(back, "card-fraud") == "fraud"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("churn", "leads to the use case churn"),
        ("retention", "leads to the use case retention"),
        ("customers", "leads to the use case churn"),
        ("fraud", "already named fraud"),
        ("Card Fraud", "no name"),
        ("", "no name"),
        ("../x", "no name"),
    ],
)
def test_a_name_that_would_lead_to_two_use_cases_is_refused(name: str, why: str) -> None:
    roster = BOTH.rename("churn", "customers", "churn").rename("churn", "clients", "churn")
    with pytest.raises(FlowRefused, match=why):
        roster.rename("fraud", name, "fraud")


def test_a_house_keeps_its_names_whatever_comes_up(home: Home, tmp_path: Path) -> None:
    write_roster(home, Roster().rename("fraud", "card_fraud", "fraud"))
    assert read_roster(home).active == {}, "a home of one use case stays one"
    assert settle_roster(home, ["card_fraud"]).usecases == {}
    assert list(settle_roster(home, ["card_fraud", "churn"]).active) == ["fraud", "churn"]
    settle_roster(home, ["churn", "retention"])
    assert read_roster(home).id_of("card_fraud") == "fraud"
    copy = tmp_path / "mine.toml"
    copy.write_text(Path("bentos/usecases/fraud/usecase.toml").read_text().replace('"fraud"', '"card_fraud"', 1))
    with pytest.raises(FlowRefused, match="card_fraud leads to the use case fraud"):
        settle_roster(home, [str(copy)])


def test_a_renaming_starts_and_stops_nothing(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    changed(home, BOTH)
    follower.follow(stack)
    before = dict(stack.keepers)
    changed(home, BOTH.rename("churn", "customers", "churn"))
    follower.follow(stack)
    assert stack.keepers == before


def test_the_file_of_the_stack_says_which_part_is_whose(home: Home) -> None:
    stack, follower = stack_of(home), Follower()
    changed(home, Roster({"fraud": Member("fraud"), "churn": Member("churn")}))
    follower.follow(stack)
    stack.publish()
    state = read_state(home.addresses)
    assert state is not None
    assert (state.usecase, state.reference) == ("fraud", "fraud")
    assert state.part_of("service", "fraud") == "service"
    assert state.part_of("service", "churn") == "service-churn"
    assert state.part_of("service", "retention") == "service-retention", "it is not the first one's"


def test_the_addresses_file_gives_the_ports_back() -> None:
    ports = Ports(4200, 3000, 8900, "0.0.0.0", 9109, {"churn": 3001, "service-x": 3002})  # an operator's
    assert Ports.of("0.0.0.0", ports.numbers) == ports
