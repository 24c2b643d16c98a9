"""Labels: what became known late comes from files into the labels table."""

from __future__ import annotations

import logging
from pathlib import Path

from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.data.label_files import LabelFile, label_files, read_label_file
from flows.views.reports import labels_view
from flows.workspace.clock import machine_now
from flows.workspace.outcome import FlowOutcome
from flows.workspace.step import step
from flows.workspace.workspace import Workspace, declared_bound, open_workspace
from monitoring.store import LabelResult

log = logging.getLogger("incumbent.flows")


@operation("import labels of {model} at {time}", time=None)
def labels(usecase: str | None = None, path: str | None = None) -> FlowOutcome:
    """Import late labels. Repeating an import changes nothing; a contradiction is kept and shown.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        path: A .csv or .parquet file, or a folder of them. Empty takes inbox/labels in INCUMBENT_HOME.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "labels", None) as run:
        location = Path(path) if path else workspace.settings.root / "inbox" / "labels"
        latest, now = declared_bound(workspace).latest_us(), machine_now()
        files = label_files(location, must_exist=bool(path))
        imports = [read_label_file(file, workspace.usecase, now, latest) for file in files]
        results = [_store(workspace, file, label_file) for file, label_file in zip(files, imports, strict=True)]
        return run.conclude(labels_view(location, imports, results, run.as_of))


@step(name="store labels", run_name="store the labels of {file.name}", tags=("database",), retried=True)
def _store(workspace: Workspace, file: Path, found: LabelFile) -> LabelResult:
    """Write the good rows of a file into the labels table; the same rows again change nothing."""
    stored = workspace.store.labels.add(found.records, workspace.usecase.label)
    refused = sum(found.refused.values())
    log.info(
        "%s: %d good rows and %d refused; %d labels are new, %d were known, %d contradict, %d wait for their event",
        file.name, len(found.records), refused, stored.stored, stored.duplicates, stored.conflicts, stored.parked,
    )  # fmt: skip
    return stored
