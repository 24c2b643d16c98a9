"""Labels: what became known late comes from files into the labels table."""

from __future__ import annotations

from pathlib import Path

from flows.runs.operation import operation
from flows.runs.run_record import recorded
from flows.steps.data.label_files import label_files, read_label_file
from flows.views.reports import labels_view
from flows.workspace.clock import machine_now
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import declared_bound, open_house


@operation(name="labels", description="Import late labels from files.")
def labels(usecase: str | None = None, path: str | None = None) -> Outcome:
    """Import late labels. Repeating an import changes nothing; a contradiction is kept and shown.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        path: A .csv or .parquet file, or a folder of them. Empty takes inbox/labels in INCUMBENT_HOME.
    """
    house = open_house(usecase)
    with recorded(house, "labels", None) as run:
        place = Path(path) if path else house.settings.root / "inbox" / "labels"
        latest, now = declared_bound(house).latest_us(), machine_now()
        found = [read_label_file(file, house.usecase, now, latest) for file in label_files(place, named=bool(path))]
        stored = [house.store.labels.add(one.records, house.usecase.label) for one in found]
        return run.conclude(labels_view(place, found, stored, run.as_of))
