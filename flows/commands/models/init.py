"""``init``: a first use-case file from a table."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused
from monitoring.core.text_table import table

if TYPE_CHECKING:
    import pandas as pd

    from flows.sources.foreign_table import Raw
    from flows.steps.onboarding.profile_table import TableProfile

_COLUMN_LIMIT = 40


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="name of the use case: lower case letters, digits and _")
    parser.add_argument("--from", dest="data", type=Path, required=True, metavar="FILE", help="a CSV or Parquet file")
    parser.add_argument("--target", metavar="COLUMN", help="the column to be predicted, where the guess is wrong")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write; NAME.toml by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an expected error")


@dataclass(frozen=True)
class _Inspection:
    """A table that was looked at: where it is, what it suggests, its first rows."""

    raw: Raw
    found: TableProfile
    head: pd.DataFrame

    @property
    def needs_copy(self) -> bool:
        """Whether no source could read the table as it is."""
        from flows.sources.foreign_table import conversion_note

        columns = [c for c in self.found.columns if c.type != "ignored"]
        return self.found.made_id or self.raw.encoding == "cp1252" or any(conversion_note(c.reading) for c in columns)


def run(args: argparse.Namespace) -> CommandResult:
    """Look at the table, write the file and its companions, say what comes next."""
    _require_name(args.name)
    out: Path = args.out or Path(f"{args.name}.toml")
    files = {kind: out.with_suffix(end) for kind, end in _ENDINGS.items()}
    for file in files.values():
        if file.exists():
            raise UsageRefused(f"{file} exists; nothing is overwritten, choose another --out")
    inspection = _inspect(args.data, args.target)
    text = _text(args, inspection, files)
    if inspection.needs_copy:
        _copy(inspection, files["copy"])
    _write(args.name, inspection, text, files)
    return _reply(args, inspection, files)


_ENDINGS = {"usecase": ".toml", "profile": ".html", "event": ".event.json", "copy": ".parquet"}


def _require_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        example = plain if plain[:1].isalpha() else "my_case"
        raise UsageRefused(f"{name!r}: lower case letters, digits and _, for example {example}")


def _inspect(data: Path, target: str | None) -> _Inspection:
    import pandas as pd

    from flows.sources.foreign_table import chunks, open_raw
    from flows.steps.onboarding.profile_table import guess_table

    try:
        raw = open_raw(data)
        head = next(chunks(raw), pd.DataFrame())
        if target is not None and target.strip() not in head:
            raise UsageRefused(f"--target {target}: no such column; there are {', '.join(map(str, head))}")
        return _Inspection(raw, guess_table(chunks(raw), target.strip() if target else None), head)
    except FileNotFoundError as exc:
        raise UsageRefused(f"{data}: there is no such file") from exc
    except (OSError, ValueError) as exc:
        raise UsageRefused(f"{data}: {exc}") from exc


def _text(args: argparse.Namespace, inspection: _Inspection, files: dict[str, Path]) -> str:
    """The use-case file, which is known to load: a wrong name must not leave half of it behind."""
    from bentos.usecase.loading import parse_usecase
    from flows.steps.onboarding.write_toml import write_toml

    source, original = str(args.data.absolute()), ""
    kind = inspection.raw.kind
    if inspection.needs_copy:
        source, original, kind = str(files["copy"].absolute()), str(args.data), "parquet"
    text = write_toml(args.name, inspection.found, kind, source, original)
    document = tomllib.loads(text)
    if inspection.found.kind != "binary":
        document["label"].pop("kind")
    parse_usecase(document, files["usecase"])
    return text


def _copy(inspection: _Inspection, out: Path) -> None:
    from flows.sources.foreign_table import write_copy

    columns = [c.source for c in inspection.found.columns if c.type != "ignored"] + [inspection.found.target]
    readings = {c.source: c.reading for c in inspection.found.columns} | {inspection.found.target: "text"}
    write_copy(inspection.raw, readings, columns, inspection.found.made_id, out)


def _write(name: str, inspection: _Inspection, text: str, files: dict[str, Path]) -> None:
    from flows.steps.onboarding.profile_page import write_profile
    from flows.steps.onboarding.write_toml import sample_event
    from monitoring.reports.html import write_text

    event = json.dumps(sample_event(inspection.found, inspection.head), ensure_ascii=False, indent=1)
    write_text(files["event"], event + "\n")
    write_profile(files["profile"], name, inspection.found, inspection.head, _notes(inspection.found))
    write_text(files["usecase"], text)


def _notes(draft: TableProfile) -> list[str]:
    from flows.steps.onboarding.profile_table import ENOUGH_ROWS
    from flows.steps.onboarding.write_toml import suspect_note

    notes = [suspect_note(draft)]
    if draft.kind != "binary":
        notes.append(
            f"{draft.target} is a {draft.kind} target, and only a binary one can be trained: incumbent check refuses "
            "the file. Add a column that says yes or no to your question, and name it with --target"
        )
    if draft.rows < ENOUGH_ROWS:
        notes.append(f"{draft.rows} rows are too few to train and to judge a model; some thousands are a beginning")
    return [note for note in notes if note]


def _reply(args: argparse.Namespace, inspection: _Inspection, files: dict[str, Path]) -> CommandResult:
    draft, quoted_paths = inspection.found, {kind: shlex.quote(str(file)) for kind, file in files.items()}
    usecase = quoted_paths["usecase"]
    next_commands = [
        f"incumbent check {usecase}",
        f"incumbent train --usecase {usecase}",
        f"incumbent serve --usecase {usecase}",
    ]
    curl_command = (
        f"curl -s http://127.0.0.1:3000/score -H 'content-type: application/json' -d @{quoted_paths['event']}"
    )
    rows = [(c.source, c.name, c.type, c.detail) for c in draft.columns[:_COLUMN_LIMIT]]
    overflow = (
        [f"... and {len(draft.columns) - _COLUMN_LIMIT} more, see {files['profile']}"]
        if len(draft.columns) > _COLUMN_LIMIT
        else []
    )
    time = draft.event_time if draft.timed else "none, so cross-validation"
    share = f"{draft.share:.1%} positive" if draft.kind == "binary" else draft.kind
    file_notes = [f"{files['usecase']} is written; every guess is marked in it. {files['profile']} shows the table."]
    if inspection.needs_copy:
        file_notes.append(f"{files['copy']} is a copy that can be read: the table as it is cannot.")
    text = [
        table(rows, ("column", "name", "type", "seen")), *overflow, "",
        f"target: {draft.target} ({share}), id: {draft.event_id}, time: {time}",
        *(f"look: {note}" for note in _notes(draft)), "", *file_notes, "Next:", "", *next_commands,
        "", "and, once it serves, in another terminal:", "", curl_command,
    ]  # fmt: skip
    data: dict[str, Any] = {"file": str(files["usecase"]), "target": draft.target, "kind": draft.kind}
    data |= {"event_id": draft.event_id, "next": next_commands, "ask": curl_command, "profile": str(files["profile"])}
    data |= {"event": str(files["event"]), "copy": str(files["copy"]) if inspection.needs_copy else None}
    return CommandResult(data | {"notes": _notes(draft)}, "\n".join(text))
