"""The demo's days, without processes: a client and a database that remember."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from bentos.usecase.loading import load_usecase
from flows.demo.plan import plan_demo
from flows.demo.stage import LABELS_BY_FILE
from flows.demo.story import Story, refuse_table, require_world, run_demo
from flows.errors import FlowRefused, StackError
from flows.workspace.installation import open_home
from monitoring.store import LabelRecord, Store, memory_store
from monitoring.store.database.frames import to_us

FRAUD = load_usecase("fraud")


@dataclass
class Client:
    """Remembers what was sent."""

    events: list[str] = field(default_factory=list)
    labels: list[pd.DataFrame] = field(default_factory=list)
    refuse: int = 0
    store: Store = field(default_factory=memory_store)
    known: list[int] = field(default_factory=lambda: [0])

    def send(self, events: pd.DataFrame) -> None:
        self.events += events["transaction_id"].tolist()

    def send_labels(self, labels: pd.DataFrame) -> int:
        self.labels.append(labels)
        rows = zip(labels["event_id"], labels["observed_at"], strict=True)
        self.store.labels.add([LabelRecord("fraud", e, 1, to_us(at), "chargeback", 0) for e, at in rows], FRAUD.label)
        return self.refuse

    def model(self) -> dict[str, Any]:
        """The windows are one question behind the table."""
        said = {"labels_known_up_to": self.known[-1]}
        self.known.append(self.store.labels.tail("fraud", 0)[1])
        return said


class Bar:
    def __call__(self, done: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...

    def tell(self, text: str) -> None: ...


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    sender = Client()
    log = SimpleNamespace(count=lambda _usecase, _window: 10**6)
    workspace: Any = SimpleNamespace(usecase=FRAUD, store=SimpleNamespace(log=log, labels=sender.store.labels))
    stack: Any = SimpleNamespace(check=lambda: None, home=SimpleNamespace(logs=tmp_path))
    plan = plan_demo(FRAUD, shift_day=1, overrides=(("customers", 30), ("terminals", 60)))
    told = Story(workspace, stack, plan)
    told.bar, told.client = Bar(), sender  # type: ignore[assignment]  # stand-ins
    yield told
    sender.store.close()


def client(story: Story) -> Client:
    found: Any = story.client
    assert isinstance(found, Client)
    return found


def test_a_live_day_sends_that_days_events_in_order_and_moves_business_time(story: Story) -> None:
    story.replay_day()
    times = story.events_of(0)["tx_time"]
    assert client(story).events == story.events_of(0)["transaction_id"].tolist()
    assert times.is_monotonic_increasing
    assert (times >= story.plan.live_from).all()
    assert (story.today, story.as_of) == (1, story.plan.day(0).end)


def test_labels_of_each_day_are_posted_once_but_for_those_that_come_by_file(story: Story) -> None:
    story.post_labels(0)
    for _ in range(3):
        story.replay_day()
    posted = pd.concat(client(story).labels)
    days = (posted["observed_at"] - story.plan.live_from) // pd.Timedelta(days=1)
    assert LABELS_BY_FILE not in set(days)
    assert posted["event_id"].is_unique
    assert (posted["y"] == 1).all()
    assert len(story.labels_of(LABELS_BY_FILE)) > 0


def test_a_day_begins_when_the_windows_know_its_labels(story: Story) -> None:
    story.post_labels(0)
    story.replay_day()
    story.replay_day()
    _, last = client(story).store.labels.tail("fraud", 0)
    assert last > 0
    assert client(story).known[-2] >= last
    assert client(story).known[0] < last


def test_a_refused_label_stops_the_story(story: Story) -> None:
    story.replay_day()
    client(story).refuse = 2
    with pytest.raises(StackError, match=r"2 labels were refused; look at .*service\.log"):
        story.replay_day()


@pytest.mark.parametrize("sent", [0, 5, 60, 130])
def test_days_that_were_begun_one_by_one_are_finished_in_batches(story: Story, sent: int) -> None:
    days = [story.events_of(day) for day in range(5)]
    whole = pd.concat(days)["transaction_id"].tolist()
    story.finish_days(days, sent)
    finished = sum(len(day) for day in days[: story.today])
    assert whole[:sent] + client(story).events == whole[:finished]
    assert finished >= sent


def test_a_story_that_does_not_come_true_is_given_up(story: Story) -> None:
    story.today = story.plan.live_days - 1

    def pigs_fly() -> bool:
        return False

    with pytest.raises(FlowRefused, match="still not so that pigs fly"):
        story.days_until(pigs_fly)


def test_waiting_names_the_logs_when_time_is_up(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.demo.stage.PATIENCE", 0.1)
    with pytest.raises(StackError, match=r"the log did not catch up"):
        story.wait_for("the log", lambda: False)


def test_both_labels_are_posted_where_their_absence_says_nothing(story: Story) -> None:
    churn = load_usecase("churn")
    told = Story(SimpleNamespace(usecase=churn), story.stack, plan_demo(churn, overrides=(("customers_a_day", 20),)))  # type: ignore[arg-type]  # a stand-in
    assert set(told.labels_of(0)["y"]) == {0, 1}
    # What became of a customer is known 30 days later.
    asked = told.labels_of(0)["event_id"].str.slice(2, 10)
    assert set(asked) == {f"{told.plan.live_from - timedelta(days=30):%Y%m%d}"}


@pytest.mark.parametrize("name", ["fraud", "churn"])
def test_a_use_case_whose_columns_the_simulator_makes_has_a_demo(name: str) -> None:
    require_world(name)


def test_a_use_case_without_a_simulated_world_is_told_so_before_anything_starts(tmp_path: Path) -> None:
    home = open_home(usecase="retention", home=tmp_path / "home")
    with pytest.raises(FlowRefused, match=r"no simulated world for 'retention'.*one snapshot a month.*Name another"):
        run_demo(home)
    assert not (tmp_path / "home" / "demo").exists()


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [
        ("fraud", "cards.parquet", "when the world changed.*--source parquet --path cards.parquet"),
        ("churn", "my telco.csv", "no days to live through.*bench usecase churn --data 'my telco.csv'"),
        ("retention", "shop.parquet", "needs 14 of them and 90d.*bench usecase retention --data shop.parquet"),
    ],
)
def test_a_table_is_refused_with_the_reason_and_with_what_to_run_on_it(name: str, file: str, why: str) -> None:
    with pytest.raises(FlowRefused, match=why):
        refuse_table(name, file)
