"""``check`` and ``simulate``: what needs a use-case file and nothing else."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, common_arguments, ensure_hash_key
from monitoring.core.text_table import table


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser)
    if name == "check":
        parser.add_argument("file", nargs="?", help="a use-case file or a built-in name; INCUMBENT_USECASE by default")
        return
    parser.add_argument("--out", required=True, metavar="FILE", help="a .parquet or .csv file to write")
    parser.add_argument("--days", type=int, help="simulated days")
    parser.add_argument("--seed", type=int, help="seed of the world")
    parser.add_argument("--customers", type=int, help="card holders")
    parser.add_argument("--terminals", type=int, help="terminals")
    parser.add_argument("--start", metavar="DATE", help="first day")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    return _check(args) if args.command == "check" else _simulate(args)


def _check(args: argparse.Namespace) -> CommandResult:
    from bentos.check.usecase import check_usecase
    from bentos.settings import read_settings
    from bentos.usecase.loading import load_usecase

    report = check_usecase(load_usecase(args.file or args.usecase or read_settings().usecase))
    rows = [(finding.status, finding.name, finding.detail) for finding in report.findings]
    verdict = "this use case can be run" if report.passed else "this use case cannot be run yet"
    return CommandResult(report.to_json(), f"{table(rows)}\n\n{report.usecase}: {verdict}", 0 if report.passed else 1)


def _simulate(args: argparse.Namespace) -> CommandResult:
    from datetime import date
    from pathlib import Path

    from bentos.settings import read_settings
    from bentos.usecase.loading import load_usecase
    from flows.sources import open_source
    from flows.sources.labels import as_table

    reference = args.usecase or read_settings().usecase
    usecase = load_usecase(reference)
    ensure_hash_key(read_settings(usecase=reference))
    options = {k: getattr(args, k) for k in ("days", "seed", "customers", "terminals") if getattr(args, k) is not None}
    if args.start:
        options["start"] = date.fromisoformat(args.start)
    source = open_source(usecase, "simulator", **options)
    dataset = source.read(source.extent())
    frame, out = as_table(dataset, usecase), Path(args.out)
    frame.to_csv(out, index=False) if out.suffix == ".csv" else frame.to_parquet(out, index=False)
    data = {"file": str(out.absolute()), "rows": len(frame), "positives": int((dataset.labels["y"] == 1).sum())}
    return CommandResult(data, f"{data['rows']} events with {data['positives']} positives in {data['file']}")
