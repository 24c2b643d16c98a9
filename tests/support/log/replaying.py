"""Replay simulated traffic through running services, and compare what they logged with the offline build."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.settings import read_settings
from bentos.spool.shipper import Scribe
from bentos.usecase.definition import UseCase
from flows.sources import open_source
from flows.steps.operations.replay_events import event_bodies, label_bodies
from monitoring.core.calendar import TimeWindow
from tests.support.builders import fraud
from tests.support.processes.servers import House, Server

DAY = timedelta(days=1)
PATIENCE = 60.0
EVER = TimeWindow(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Traffic:
    """Events in time order, and everything that is ever said about them."""

    usecase: UseCase
    events: pd.DataFrame
    labels: pd.DataFrame

    @property
    def first(self) -> pd.Timestamp:
        """The start of the first day."""
        return self.events[self.usecase.event_time].min().floor("D")

    def between(self, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        times = self.events[self.usecase.event_time]
        return self.events[(times >= start) & (times < end)]

    def said(self, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        at = self.labels["observed_at"]
        return self.labels[(at >= start) & (at < end)]

    def features(self, plan: FeaturePlan) -> pd.DataFrame:
        """The offline build, by event id."""
        end = self.labels["observed_at"].max() + DAY
        built = plan.build(self.events, self.labels, end.to_pydatetime())
        return built.set_axis(self.events[self.usecase.event_id]).sort_index()


def traffic(customers: int, terminals: int, days: int, seed: int = 7) -> Traffic:
    """A simulated span. Some labels come late, some are revised, some sources contradict themselves."""
    usecase = fraud()
    source = open_source(usecase, "simulator", customers=customers, terminals=terminals, seed=seed, days=days)
    events = source.read(source.extent()).events.reset_index(drop=True)
    return Traffic(usecase, events, _statements(usecase, events, np.random.default_rng(seed)))


def _statements(usecase: UseCase, events: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One in four events is spoken of: by the analyst soon, by the chargeback later, or both, and not as one."""
    strong, weak = usecase.label.sources[:2]
    spoken = events[rng.random(len(events)) < 0.25]
    parts = []
    for source, share, first, last in ((weak, 0.8, 0.1, 3.0), (strong, 0.5, 2.0, 20.0), (weak, 0.1, 3.0, 9.0)):
        about = spoken[rng.random(len(spoken)) < share]
        delay = pd.to_timedelta(rng.uniform(first, last, len(about)), unit="D").round("us")
        observed = (about[usecase.event_time].reset_index(drop=True) + delay).dt.as_unit("us")
        parts.append(
            pd.DataFrame(
                {
                    "event_id": about[usecase.event_id].to_numpy(),
                    "y": (rng.random(len(about)) < 0.6).astype("int8"),
                    "observed_at": observed,
                    "source": source,
                }
            )
        )
    return pd.concat(parts).drop_duplicates(["event_id", "observed_at", "source"]).reset_index(drop=True)


class Players:
    """Sends traffic to one service or to several by turns, and lets labels through when they become known."""

    def __init__(self, workspace: House, servers: Sequence[Server], told: Traffic) -> None:
        self.workspace = workspace
        self.servers = servers
        self.told = told
        self._turn = 0

    def play(self, step: timedelta, batch: int) -> None:
        """Replay everything; labels of a step are posted before it begins and count from their own time."""
        times = self.told.events[self.told.usecase.event_time]
        moment, end = times.min().floor("D"), times.max()
        while moment <= end:
            self.post_labels(self.told.said(moment, moment + step))
            self.send(self.told.between(moment, moment + step), batch)
            moment += step

    def send(self, events: pd.DataFrame, batch: int) -> None:
        bodies = event_bodies(events, self.told.usecase)
        for start in range(0, len(bodies), batch):
            part = bodies[start : start + batch]
            path, body = ("/score", part[0]) if len(part) == 1 else ("/score/batch", b"[" + b",".join(part) + b"]")
            reply = self.next().post(path, body)
            assert reply.status_code == 200, reply.text
            rows: Any = reply.json()
            bad = [row["error"] for row in (rows if isinstance(rows, list) else [rows]) if "error" in row]
            assert not bad, bad[0]

    def next(self) -> Server:
        self._turn += 1
        return self.servers[self._turn % len(self.servers)]

    def post_labels(self, labels: pd.DataFrame) -> None:
        """Post labels and wait until every service's windows know them."""
        if not len(labels):
            return
        for start in range(0, len(labels), 500):
            body = b"[" + b",".join(label_bodies(labels.iloc[start : start + 500])) + b"]"
            reply = self.next().post("/labels", body)
            assert reply.status_code == 200, reply.text
        ids = list(dict.fromkeys(labels["event_id"]))
        deadline = time.monotonic() + PATIENCE
        with self.workspace.store() as store:
            while True:
                self.ship()
                known = store.labels.of_events("fraud", ids)
                if len({(k.event_id, k.observed_at, k.source) for k in known}) >= self._told_so_far(labels):
                    break
                assert time.monotonic() < deadline, "the labels do not come through"
                time.sleep(0.05)
        last = max(label.label_id for label in known)
        while any(server.card()["labels_known_up_to"] < last for server in self.servers):
            assert time.monotonic() < deadline, "the windows do not learn the labels"
            time.sleep(0.05)

    def _told_so_far(self, labels: pd.DataFrame) -> int:
        ids = set(labels["event_id"])
        sofar = self.told.labels[self.told.labels["observed_at"] <= labels["observed_at"].max()]
        return int(sofar["event_id"].isin(ids).sum())

    def ship(self) -> None:
        """Let the scribe of each service work once."""
        with self.workspace.store() as store:
            for home in dict.fromkeys(server.workspace.home for server in self.servers):
                Scribe(store, read_settings(home=home).spool("fraud"), "fraud", self.told.usecase.label).run_once()

    def logged(self) -> pd.DataFrame:
        """The features as served, by event id."""
        self.ship()
        times = self.told.events[self.told.usecase.event_time]
        with self.workspace.store() as store:
            _, found = store.log.features("fraud", TimeWindow(times.min(), times.max() + DAY))
        return found.set_index("event_id").sort_index()

    def logged_of(self, feature: str, ids: Sequence[str]) -> list[float]:
        """One feature as served, of events of the test's own."""
        self.ship()
        with self.workspace.store() as store:
            _, found = store.log.features("fraud", EVER)
        return [float(value) for value in found.set_index("event_id")[feature].loc[list(ids)]]


def second_home(workspace: House, folder: Path) -> tuple[House, dict[str, str]]:
    """Another replica's own folder, with the registry and the database of the first."""
    other = House(folder)
    return other, {
        "INCUMBENT_DATABASE_URL": workspace.settings.log_url,
        "INCUMBENT_MLFLOW_URI": workspace.settings.registry_uri,
    }


def differing(logged: pd.DataFrame, built: pd.DataFrame) -> list[str]:
    """Features that are not the same bits in every row; rows must be the same events."""
    assert list(logged.index) == list(built.index)
    return [
        name
        for name in built.columns
        if logged[name].to_numpy("<f4").tobytes() != built[name].to_numpy("<f4").tobytes()
    ]
