"""Scoring: a window of events in bulk, for lists that are worked off by day."""

from __future__ import annotations

from datetime import datetime

from flows.distributed.select_engine import score_by_engine
from flows.errors import FlowRefused, NoData
from flows.runs.operation import operation, quiet_when_scheduled
from flows.runs.parameters import AS_SET, LOG, EngineChoice, SourceChoice
from flows.runs.run_record import record_run
from flows.steps.bulk.scored_window import score_window, write_score_list
from flows.views.models import bulk_view
from flows.views.reports import scoring_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace
from monitoring.core.calendar import TimeWindow


@operation("score {model} until {time}", time="end")
def scoring(
    usecase: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    source: SourceChoice = LOG,
    version: str | None = None,
    table_in: str | None = None,
    table_out: str | None = None,
    reasons: bool = False,
    engine: EngineChoice = AS_SET,
) -> FlowOutcome:
    """Score a window of events in bulk and write the list as Parquet and CSV, highest score first.

    With ``table_in`` every row of that table is scored instead, in chunks and in the table's order.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        start: First event time. Empty takes the start of the last whole business day before end.
        end: Event time at which the window ends; nothing later is read. Empty takes now.
        source: Where events are read; log is the product's own log.
        version: Number of the registered version. Empty takes the champion.
        table_in: CSV or Parquet (file or folder) or URL#table whose rows are all scored.
        table_out: Where their scores go: .csv, .parquet, a folder, or URL#table.
        reasons: Whether the strongest reasons stand beside each score of a table.
        engine: Where the rows of a table are scored. Empty takes what the settings say.
    """
    if (table_in is None) != (table_out is None):
        raise FlowRefused("a table is scored from table_in to table_out; give both or none")
    workspace = open_workspace(usecase)
    with record_run(workspace, "scoring", end) as run:
        ref = workspace.version(version, ("champion",))
        if table_in is not None and table_out is not None:
            result = score_by_engine(workspace, ref, table_in, table_out, run.as_of, reasons, engine)
            return run.conclude(bulk_view(result, ref, run.as_of))
        window = workspace.last_day(run.as_of) if start is None else TimeWindow(start, run.as_of)
        with quiet_when_scheduled(NoData):  # a day without events has no list
            table = score_window(workspace.usecase, source.open(workspace), workspace.load(ref), window, run.as_of)
        files = write_score_list(table, workspace.score_lists, f"{workspace.model}-{ref.version}", window)
        return run.conclude(scoring_view(table, files, ref, window, run.as_of))
