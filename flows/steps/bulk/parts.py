"""The parts of a run of bulk scoring: what a killed run leaves behind, and the next one goes on with.

Each chunk of the input becomes one part: its scored rows, its refused rows, and a note with their counts.

Parts that are joined later are Arrow files as memory lies: Parquet cannot be joined byte by byte, and a killed run
needs the parts.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flows.errors import FlowRefused

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DICTIONARY = ["model"]
"""Columns of a list with few different values: to look for them among ids and scores costs more than it saves."""
QUARANTINE = ("row", "event_id", "reason", "column")
PARQUET, ARROW = ".parquet", ".arrow"


@dataclass(frozen=True)
class Parts:
    """The folder of one run's parts.

    Attributes:
        folder: where they lie.
        suffix: ``.parquet`` where the parts are the list in the end (a folder of them), else ``.arrow``: memory as it
            is, which costs next to nothing to write and to read once more.
    """

    folder: Path
    suffix: str

    def has(self, number: int) -> bool:
        """Whether the part of a chunk is whole."""
        return self._stem(number).with_suffix(".json").exists()

    def write(self, number: int, scored_rows: pa.Table, refused_rows: pd.DataFrame, rows: int) -> None:
        """Write one part; its note comes last, and a part without one does not count.

        Args:
            number: of the chunk.
            scored_rows: as :meth:`flows.steps.bulk.chunk_worker.Worker.table` makes it.
            refused_rows: the quarantine of the chunk.
            rows: of the chunk.
        """
        import pyarrow.compute as pc

        stem = self._stem(number)
        _write(scored_rows, stem.with_suffix(self.suffix))
        refused_rows[list(QUARANTINE)].to_csv(stem.with_suffix(".csv"), index=False, header=False)
        flagged = pc.sum(scored_rows.column("decision")).as_py() or 0
        note = {"in": rows, "out": scored_rows.num_rows, "refused": len(refused_rows), "flagged": int(flagged)}
        new_note = stem.with_suffix(".new")
        new_note.write_text(json.dumps(note))
        new_note.replace(stem.with_suffix(".json"))

    def files(self) -> list[Path]:
        """The scored rows of all parts, in the order of the input."""
        return sorted(self.folder.glob(f"part-*{self.suffix}"))

    def refusals(self) -> list[Path]:
        """The refused rows likewise: CSV without a header, columns as in :data:`QUARANTINE`."""
        return sorted(self.folder.glob("part-*.csv"))

    def counts(self) -> dict[str, int]:
        """Rows of all parts: ``in``, ``out``, ``refused`` and ``flagged``."""
        notes = [json.loads(file.read_text()) for file in self.folder.glob("part-*.json")]
        return {key: sum(int(note[key]) for note in notes) for key in ("in", "out", "refused", "flagged")}

    def _stem(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}"


def _write(table: pa.Table, file: Path) -> None:
    if file.suffix == PARQUET:
        import pyarrow.parquet as pq

        pq.write_table(table, file, use_dictionary=DICTIONARY)
        return
    import pyarrow as pa

    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_part(file: Path) -> pa.Table:
    """The scored rows of a part."""
    if file.suffix == PARQUET:
        import pyarrow.parquet as pq

        return pq.read_table(file)
    import pyarrow as pa

    with pa.memory_map(str(file)) as memory_map, pa.ipc.open_file(memory_map) as reader:
        return reader.read_all()


def part_schema(file: Path) -> pa.Schema:
    """The columns of a part."""
    if file.suffix == PARQUET:
        import pyarrow.parquet as pq

        return pq.read_schema(file)
    import pyarrow as pa

    with pa.memory_map(str(file)) as memory_map, pa.ipc.open_file(memory_map) as reader:
        return reader.schema


@contextmanager
def open_parts(parts: Parts, identity: str) -> Iterator[Parts]:
    """The parts of exactly this run; those of another run are thrown away.

    Raises:
        FlowRefused: another process is writing them.
    """
    parts.folder.mkdir(parents=True, exist_ok=True)
    with (parts.folder / "lock").open("w") as lock:
        _lock(lock, parts.folder)
        run_file, run_text = parts.folder / "run", f"{identity} {parts.suffix}"
        if not run_file.exists() or run_file.read_text() != run_text:
            for file in parts.folder.glob("part-*"):
                file.unlink()
            run_file.write_text(run_text)
        yield parts


def _lock(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise FlowRefused(f"another run is writing to {folder}; wait for it, or name another --out") from exc
