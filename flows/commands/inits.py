"""``init``: a first use-case file from a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.commands.common import Reply, UsageRefused, table

_ROWS = 200_000


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="name of the use case: lower case letters, digits and _")
    parser.add_argument("--from", dest="data", type=Path, required=True, metavar="FILE", help="a CSV or Parquet file")
    parser.add_argument("--target", metavar="COLUMN", help="the column to be predicted, where the guess is wrong")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write; NAME.toml by default")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an expected error")


def run(args: argparse.Namespace) -> Reply:
    """Look at the table, write the file, say what comes next."""
    import pandas as pd

    from bentos.usecase import load_usecase
    from flows.steps.firstfile import guess, write_toml

    out: Path = args.out or Path(f"{args.name}.toml")
    if out.exists():
        raise UsageRefused(f"{out} exists; nothing is overwritten, choose another --out")
    kind = "parquet" if args.data.suffix in (".parquet", ".pq") else "csv"
    try:
        if kind == "parquet":
            read = pd.read_parquet(args.data).head(_ROWS)
            cells = read.astype(object).where(read.notna(), "").astype(str)
        else:
            cells = pd.read_csv(args.data, dtype=str, keep_default_na=False, nrows=_ROWS, sep=None, engine="python")
        if args.target is not None and args.target not in cells:
            raise UsageRefused(f"--target {args.target}: no such column; there are {', '.join(map(str, cells))}")
        found = guess(cells, args.target)
    except (OSError, ValueError) as exc:
        raise UsageRefused(f"{args.data}: {exc}") from exc
    out.write_text(write_toml(args.name, found, kind, str(args.data)), encoding="utf-8")
    try:
        load_usecase(out)
    except Exception:
        out.unlink()
        raise
    following = [f"incumbent check {out}", f"incumbent train --usecase {out}", f"incumbent serve --usecase {out}"]
    rows = [(c.source, c.name, c.type, c.detail) for c in found.columns]
    target = f"target: {found.target} ({found.share:.1%} positive), id: {found.event_id}, time: {found.event_time}"
    text = "\n".join(
        [table(rows, ("column", "name", "type", "seen")), "", target, "", f"{out} is written. Next:", *following]
    )
    return Reply({"file": str(out), "target": found.target, "event_id": found.event_id, "next": following}, text)
