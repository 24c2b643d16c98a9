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

from flows.commands.common import Reply, UsageRefused
from monitoring.core.text_table import table

if TYPE_CHECKING:
    import pandas as pd

    from flows.sources.foreign_table import Raw
    from flows.steps.onboarding.profile_table import FirstFile

_SHOWN = 40


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="name of the use case: lower case letters, digits and _")
    parser.add_argument("--from", dest="data", type=Path, required=True, metavar="FILE", help="a CSV or Parquet file")
    parser.add_argument("--target", metavar="COLUMN", help="the column to be predicted, where the guess is wrong")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write; NAME.toml by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an expected error")


@dataclass(frozen=True)
class _Look:
    """A table that was looked at: where it is, what it suggests, its first rows."""

    raw: Raw
    found: FirstFile
    head: pd.DataFrame

    @property
    def needs_copy(self) -> bool:
        """Whether no source could read the table as it is."""
        from flows.sources.foreign_table import told

        used = [c for c in self.found.columns if c.type != "ignored"]
        return self.found.made_id or self.raw.encoding == "cp1252" or any(told(c.reading) for c in used)


def run(args: argparse.Namespace) -> Reply:
    """Look at the table, write the file and its companions, say what comes next."""
    _require_name(args.name)
    out: Path = args.out or Path(f"{args.name}.toml")
    files = {kind: out.with_suffix(end) for kind, end in _ENDINGS.items()}
    for file in files.values():
        if file.exists():
            raise UsageRefused(f"{file} exists; nothing is overwritten, choose another --out")
    look = _look(args.data, args.target)
    text = _text(args, look, files)
    if look.needs_copy:
        _copy(look, files["copy"])
    _write(args.name, look, text, files)
    return _reply(args, look, files)


_ENDINGS = {"usecase": ".toml", "profile": ".html", "event": ".event.json", "copy": ".parquet"}


def _require_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        example = plain if plain[:1].isalpha() else "my_case"
        raise UsageRefused(f"{name!r}: lower case letters, digits and _, for example {example}")


def _look(data: Path, target: str | None) -> _Look:
    import pandas as pd

    from flows.sources.foreign_table import chunks, open_raw
    from flows.steps.onboarding.profile_table import guess

    try:
        raw = open_raw(data)
        head = next(chunks(raw), pd.DataFrame())
        if target is not None and target.strip() not in head:
            raise UsageRefused(f"--target {target}: no such column; there are {', '.join(map(str, head))}")
        return _Look(raw, guess(chunks(raw), target.strip() if target else None), head)
    except FileNotFoundError as exc:
        raise UsageRefused(f"{data}: there is no such file") from exc
    except (OSError, ValueError) as exc:
        raise UsageRefused(f"{data}: {exc}") from exc


def _text(args: argparse.Namespace, look: _Look, files: dict[str, Path]) -> str:
    """The use-case file, which is known to load: a wrong name must not leave half of it behind."""
    from bentos.usecase.loading import parse_usecase
    from flows.steps.onboarding.write_toml import write_toml

    source, original = str(args.data.absolute()), ""
    kind = look.raw.kind
    if look.needs_copy:
        source, original, kind = str(files["copy"].absolute()), str(args.data), "parquet"
    text = write_toml(args.name, look.found, kind, source, original)
    loaded = tomllib.loads(text)
    if look.found.kind != "binary":
        loaded["label"].pop("kind")
    parse_usecase(loaded, files["usecase"])
    return text


def _copy(look: _Look, out: Path) -> None:
    from flows.sources.foreign_table import write_copy

    keep = [c.source for c in look.found.columns if c.type != "ignored"] + [look.found.target]
    readings = {c.source: c.reading for c in look.found.columns} | {look.found.target: "text"}
    write_copy(look.raw, readings, keep, look.found.made_id, out)


def _write(name: str, look: _Look, text: str, files: dict[str, Path]) -> None:
    from flows.steps.onboarding.profile_page import write_profile
    from flows.steps.onboarding.write_toml import sample_event
    from monitoring.reports.html import write_text

    event = json.dumps(sample_event(look.found, look.head), ensure_ascii=False, indent=1)
    write_text(files["event"], event + "\n")
    write_profile(files["profile"], name, look.found, look.head, _notes(look.found))
    write_text(files["usecase"], text)


def _notes(found: FirstFile) -> list[str]:
    from flows.steps.onboarding.profile_table import ENOUGH_ROWS
    from flows.steps.onboarding.write_toml import suspects

    notes = [suspects(found)]
    if found.kind != "binary":
        notes.append(
            f"{found.target} is a {found.kind} target, and only a binary one can be trained: incumbent check refuses "
            "the file. Add a column that says yes or no to your question, and name it with --target"
        )
    if found.rows < ENOUGH_ROWS:
        notes.append(f"{found.rows} rows are too few to train and to judge a model; some thousands are a beginning")
    return [note for note in notes if note]


def _reply(args: argparse.Namespace, look: _Look, files: dict[str, Path]) -> Reply:
    found, quoted = look.found, {kind: shlex.quote(str(file)) for kind, file in files.items()}
    usecase = quoted["usecase"]
    following = [
        f"incumbent check {usecase}",
        f"incumbent train --usecase {usecase}",
        f"incumbent serve --usecase {usecase}",
    ]
    ask = f"curl -s http://127.0.0.1:3000/score -H 'content-type: application/json' -d @{quoted['event']}"
    rows = [(c.source, c.name, c.type, c.detail) for c in found.columns[:_SHOWN]]
    more = (
        [f"... and {len(found.columns) - _SHOWN} more, see {files['profile']}"] if len(found.columns) > _SHOWN else []
    )
    time = found.event_time if found.timed else "none, so cross-validation"
    share = f"{found.share:.1%} positive" if found.kind == "binary" else found.kind
    written = [f"{files['usecase']} is written; every guess is marked in it. {files['profile']} shows the table."]
    if look.needs_copy:
        written.append(f"{files['copy']} is a copy that can be read: the table as it is cannot.")
    text = [
        table(rows, ("column", "name", "type", "seen")), *more, "",
        f"target: {found.target} ({share}), id: {found.event_id}, time: {time}",
        *(f"look: {note}" for note in _notes(found)), "", *written, "Next:", "", *following,
        "", "and, once it serves, in another terminal:", "", ask,
    ]  # fmt: skip
    data: dict[str, Any] = {"file": str(files["usecase"]), "target": found.target, "kind": found.kind}
    data |= {"event_id": found.event_id, "next": following, "ask": ask, "profile": str(files["profile"])}
    data |= {"event": str(files["event"]), "copy": str(files["copy"]) if look.needs_copy else None}
    return Reply(data | {"notes": _notes(found)}, "\n".join(text))
