"""Scoring: a window of events in bulk, for lists that are worked off by day."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.forms import LOG, SourceChoice
from flows.house import open_house
from flows.outcome import Outcome
from flows.recording import recorded
from flows.steps.bulk import scored_window, write_list
from flows.views import scoring_view
from monitoring.calendar import TimeWindow


@flow(name="scoring", description="Score a window of events in bulk and write the list.")
def scoring(
    usecase: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    source: SourceChoice = LOG,
    version: str | None = None,
) -> Outcome:
    """Score a window of events in bulk and write the list as Parquet and CSV, highest score first.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        start: First event time. Empty takes the start of the last whole business day before end.
        end: Event time at which the window ends; nothing later is read. Empty takes now.
        source: Where events are read; log is the product's own log.
        version: Number of the registered version. Empty takes the champion.
    """
    house = open_house(usecase)
    with recorded(house, "scoring", end) as run:
        window = house.last_day(run.as_of) if start is None else TimeWindow(start, run.as_of)
        ref = house.version(version, ("champion",))
        table = scored_window(house.usecase, source.open(house), house.load(ref), window, run.as_of)
        files = write_list(table, house.settings.reports / "scores", f"{house.model}-{ref.version}", window)
        return run.conclude(scoring_view(table, files, ref, window, run.as_of))
