"""``bench``: claims that are measured. Standard output carries the result and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import (
    CommandResult,
    UsageRefused,
    common_arguments,
    enter_home,
    expected_errors,
    print_reply,
)
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.installation import Home

TRANSACTIONS = "card_transactions.parquet"
"""The handbook's transactions in the folder that ``INCUMBENT_BENCH_DATA`` names."""

STREAM = "electricity"
"""The use case of ``bench stream`` where no other is named."""


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each benchmark."""
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    handbook = names.add_parser("handbook", help="the published protocol of the Fraud Detection Handbook")
    handbook.add_argument("--prequential", action="store_true", help="also the four weekly folds")
    features = names.add_parser("features", help="our feature build against pandas group-and-roll")
    serving = names.add_parser("serving", help="the service beside other ways to serve the same model")
    serving.add_argument("--quick", action="store_true", help="32 connections only, in under five minutes")
    serving.add_argument("--servers", metavar="NAMES", help="only these, by comma; for experiments")
    serving.add_argument(
        "--soak", type=_seconds, metavar="TIME", help="how long to send 1,000 events a second, e.g. 10m (--quick: 0)"
    )
    serving.add_argument("--profile", action="store_true", help="also where the processor time of ours goes")
    common_arguments(serving)
    windows = names.add_parser("windows", help="rebuild of the windows, their memory, the trip to Redis")
    windows.add_argument("--events", type=int, default=1_000_000, metavar="N", help="events in the log (1,000,000)")
    windows.add_argument("--customers", type=int, default=100_000, metavar="N", help="who make them (100,000)")
    common_arguments(windows)
    log = names.add_parser("log", help="rows a second into the log, on SQLite and on PostgreSQL")
    log.add_argument("--rows", type=int, default=60_000, metavar="N", help="rows of each measurement (default 60,000)")
    common_arguments(log)
    decisions = names.add_parser("decisions", help="false promotions and power under daily looks; speed")
    decisions.add_argument("--trials", type=int, default=4000, metavar="N", help="simulated comparisons of each case")
    decisions.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="paired rows that are timed")
    decisions.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the markers of a page")
    common_arguments(decisions)
    drift = names.add_parser("drift", help="a window against the frozen reference, beside Evidently's preset")
    drift.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="rows of the window (1,000,000)")
    drift.add_argument("--columns", type=int, default=20, metavar="N", help="features (20)")
    drift.add_argument("--reference", type=int, default=100_000, metavar="N", help="reference rows (100,000)")
    common_arguments(drift)
    check = names.add_parser("drift-check", help="a drift check over a week of the log: time, memory, rows")
    check.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="answers of the week (1,000,000)")
    common_arguments(check)
    batch = names.add_parser("batch", help="a table scored in chunks, beside a bare loop over the same file")
    batch.add_argument("--rows", type=int, default=2_000_000, metavar="N", help="rows of the table (2,000,000)")
    common_arguments(batch)
    scale = names.add_parser("scale", help="training and scoring on a local Dask cluster beside one process")
    scale.add_argument("--rows", type=int, default=2_000_000, metavar="N", help="rows of a simulated set (2,000,000)")
    scale.add_argument("--data", type=Path, metavar="FILE", help=f"{TRANSACTIONS} of the handbook instead")
    scale.add_argument("--memory-mb", type=int, default=1500, metavar="MB", help="limit of each worker (1,500)")
    common_arguments(scale)
    usecase = names.add_parser("usecase", help="what the model of a use case is worth on a file")
    usecase.add_argument("subject", metavar="NAME", help="built-in use case, or the path of a file")
    usecase.add_argument("--data", type=Path, metavar="FILE", required=True, help="CSV or Parquet")
    common_arguments(usecase)
    stream = names.add_parser("stream", help="retraining by itself on a drifting file: never, by itself, by schedule")
    stream.add_argument("--data", type=Path, metavar="FILE", required=True, help="CSV or Parquet")
    common_arguments(stream)
    stream.set_defaults(usecase=STREAM)
    alarms = names.add_parser("alarms", help="alarms a year without drift, days to notice, of several rules")
    alarms.add_argument("--years", type=int, default=20, metavar="N", help="simulated years without drift (20)")
    alarms.add_argument("--trials", type=int, default=200, metavar="N", help="shifts of each size (200)")
    alarms.add_argument("--checks", type=int, default=1, metavar="N", help="days that Evidently itself looks at (1)")
    alarms.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of a page")
    common_arguments(alarms)
    tuning = names.add_parser("tuning", help="a search on weeks before the test weeks, beside untuned settings")
    tuning.add_argument("--trials", type=int, default=18, metavar="N", help="settings to try (18, as the book's grid)")
    for parser_of_one in (handbook, features, tuning):
        parser_of_one.add_argument("--data", type=Path, metavar="FILE", help=f"{TRANSACTIONS} of the handbook")
        common_arguments(parser_of_one)


def _seconds(text: str) -> float:
    """``10m`` as seconds; ``0`` is none."""
    from monitoring.core.durations import parse_duration

    try:
        return 0.0 if text == "0" else parse_duration(text).total_seconds()
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def run(args: argparse.Namespace) -> CommandResult:
    """Measure one claim; whatever libraries print goes to standard error."""
    from flows.workspace.progress import progress

    if args.name == "decisions":
        return _decisions(args)
    if args.name == "drift":
        return _drift(args)
    if args.name == "alarms":
        return _alarms(args)
    if args.name == "usecase":
        return _usecase(args)
    if args.name == "stream":
        return _stream(args)
    home = enter_home(args)
    if args.name == "serving":
        return _serving(args, home)
    if args.name == "log":
        return _log(args, home)
    if args.name == "windows":
        return _windows(args, home)
    if args.name == "batch":
        return _batch(args, home)
    if args.name == "drift-check":
        return _drift_check(args, home)
    if args.name == "scale":
        return _scale(args, home)
    measured = {"handbook": _handbook, "features": _features, "tuning": _tuning}[args.name]
    with contextlib.redirect_stdout(sys.stderr), progress(f"bench {args.name}"):
        return CommandResult(measured(args))


def _decisions(args: argparse.Namespace) -> CommandResult:
    """Needs no home: everything is simulated."""
    # One thread, so that the timing is of the work and not of threads that wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from flows.commands.common import usecase_of
    from flows.workspace.progress import progress
    from tests.bench.quality.decisions import bench_decisions, tables, write_tables

    if args.trials < 1 or args.rows < 0:
        raise UsageRefused("bench decisions needs at least one trial, and no negative number of rows")
    with contextlib.redirect_stdout(sys.stderr), progress("bench decisions") as bar:
        found = bench_decisions(usecase_of(args), trials=args.trials, rows=args.rows, told=bar.tell)
    if args.write is not None:
        try:
            write_tables(found, args.write)
        except (OSError, ValueError) as exc:
            raise UsageRefused(str(exc)) from exc
    names = ("paired_rows", "paired_s", "read_s", "decode_s", "paired_over_read")
    timed = [(name, found[name]) for name in names if name in found]
    return CommandResult(found, "\n\n".join([tables(found), table(timed)]))


def _drift(args: argparse.Namespace) -> CommandResult:
    """Needs no home: the frames are made."""
    from flows.workspace.progress import progress
    from tests.bench.speed.drift import bench_drift

    if min(args.rows, args.columns, args.reference) < 1:
        raise UsageRefused("bench drift needs at least one row, one column and one reference row")
    with contextlib.redirect_stdout(sys.stderr), progress("bench drift") as bar:
        found = bench_drift(args.rows, args.columns, args.reference, told=bar.tell).to_json()
    return CommandResult(found, table(list(found.items())))


def _batch(args: argparse.Namespace, home: Home) -> CommandResult:
    from flows.workspace.progress import progress
    from tests.bench.speed.batch import bench_batch

    if args.rows < 2:
        raise UsageRefused("bench batch needs at least two rows")
    with contextlib.redirect_stdout(sys.stderr), progress("bench batch") as bar:
        found = bench_batch(home.root / "bench", args.rows, bar.tell).to_json()
    return CommandResult(found, table(list(found.items())))


def _drift_check(args: argparse.Namespace, home: Home) -> CommandResult:
    from flows.workspace.progress import progress
    from tests.bench.speed.drift_check import bench_drift_check

    if args.rows < 7:
        raise UsageRefused("bench drift-check needs --rows 7 or more: one answer a day")
    with contextlib.redirect_stdout(sys.stderr), progress("bench drift-check") as bar:
        found = bench_drift_check(home.root / "bench" / "drift", args.rows, bar.tell).to_json()
    lines = [(f"{kind}.{name}", value) for kind in ("figures", "whole") for name, value in found[kind].items()]
    return CommandResult(found, table([("rows", found["rows"]), *lines]))


def _scale(args: argparse.Namespace, home: Home) -> CommandResult:
    from flows.workspace.progress import progress
    from tests.bench.speed.scale import bench_scale

    if args.data is None and args.rows < 100_000:
        raise UsageRefused("bench scale needs 100,000 rows or more, or else a test fold holds no fraud")
    if args.memory_mb < 500:
        raise UsageRefused("bench scale needs --memory-mb 500 or more: a worker has 300 MB before its first row")
    if args.data is not None and not args.data.exists():
        raise UsageRefused(f"{args.data}: no such file or folder")
    data = args.data and args.data.absolute()
    with contextlib.redirect_stdout(sys.stderr), progress("bench scale") as bar:
        found = bench_scale(home.root / "bench" / "scale", data, args.rows, args.memory_mb, bar.tell)
    return CommandResult(found)


def _usecase(args: argparse.Namespace) -> CommandResult:
    """Needs no home: nothing is kept."""
    from bentos.usecase.loading import load_usecase
    from tests.bench.quality.usecase import bench_usecase

    if not args.data.is_file():
        raise UsageRefused(f"{args.data}: no such file")
    with contextlib.redirect_stdout(sys.stderr):
        found = bench_usecase(load_usecase(args.subject), args.data)
    return CommandResult(found, table(list(found.items())))


def _stream(args: argparse.Namespace) -> CommandResult:
    """Has a home of its own: whatever the caller's home or database holds is neither read nor written."""
    from flows.workspace.progress import progress
    from tests.bench.quality.simulated_time import own_house
    from tests.bench.quality.stream import bench_stream, lines
    from tests.bench.quality.usecase import source_of

    if not args.data.is_file():
        raise UsageRefused(f"{args.data}: no such file")
    data = args.data.absolute()
    with contextlib.redirect_stdout(sys.stderr), own_house(args.usecase) as workspace, progress("bench stream") as bar:
        found = bench_stream(workspace, source_of(workspace.usecase, data), bar)
    return CommandResult(found, table(lines(found)))


def _alarms(args: argparse.Namespace) -> CommandResult:
    """Needs no home: everything is simulated."""
    from flows.workspace.progress import progress
    from tests.bench.quality.drift_alarms import bench_alarms, table_of, write_table

    if min(args.years, args.trials) < 1 or args.checks < 0:
        raise UsageRefused("bench alarms needs at least one year and one trial, and no negative number of checks")
    with contextlib.redirect_stdout(sys.stderr), progress("bench alarms") as bar:
        found = bench_alarms(years=args.years, trials=args.trials, checks=args.checks, told=bar.tell)
    if args.write is not None:
        try:
            write_table(found, args.write)
        except (OSError, ValueError) as exc:
            raise UsageRefused(str(exc)) from exc
    return CommandResult(found, table_of(found))


def _windows(args: argparse.Namespace, home: Home) -> CommandResult:
    from flows.workspace.progress import progress
    from tests.bench.speed.windows import bench_windows

    if min(args.events, args.customers) < 1:
        raise UsageRefused("bench windows needs at least one event and one customer")
    with contextlib.redirect_stdout(sys.stderr), progress("bench windows") as bar:
        found = bench_windows(home.root / "bench" / "windows", args.events, args.customers, bar.tell).to_json()
    return CommandResult(found, table(list(found.items())))


def _serving(args: argparse.Namespace, home: Home) -> CommandResult:
    """The table goes to standard error, so that it is seen beside the JSON too."""
    from dataclasses import replace

    from flows.workspace.processes import end_by_exception
    from flows.workspace.progress import progress
    from tests.bench.serving.compare import QUICK, BenchPlan, bench_serving
    from tests.bench.serving.rounds import HEADERS, notes_for_people, rows_for_people

    plan = replace(QUICK if args.quick else BenchPlan(), profile=args.profile)
    if args.soak is not None:
        plan = replace(plan, soak=args.soak)
    if args.servers:
        plan = replace(plan, servers=tuple(args.servers.split(",")))
    with contextlib.redirect_stdout(sys.stderr), end_by_exception(), progress("bench serving") as bar:
        found = bench_serving(home.root / "bench" / "serving", plan, bar.tell)
    text = "\n".join([table(rows_for_people(found), HEADERS), "", *notes_for_people(found)])
    if args.json:
        sys.stderr.write(f"{text}\n")
    return CommandResult(found, text)


def _log(args: argparse.Namespace, home: Home) -> CommandResult:
    from flows.workspace.processes import end_by_exception
    from flows.workspace.progress import progress
    from tests.bench.speed.log import bench_log

    with contextlib.redirect_stdout(sys.stderr), end_by_exception(), progress("bench log") as bar:
        return CommandResult(bench_log(home.root / "bench" / "log", bar.tell, rows=args.rows))


def _handbook(args: argparse.Namespace) -> dict[str, Any]:
    from flows.workspace.progress import report_step
    from tests.bench.quality.handbook import bench_handbook

    data = _data(args)
    if data is None:
        raise UsageRefused(f"bench handbook needs --data FILE, or {TRANSACTIONS} in the folder INCUMBENT_BENCH_DATA")
    return bench_handbook(data, args.prequential, report_step)


def _tuning(args: argparse.Namespace) -> dict[str, Any]:
    from flows.workspace.progress import report_step
    from tests.bench.quality.tuning import bench_tuning

    if args.trials < 1:
        raise UsageRefused("bench tuning needs at least one trial")
    data = _data(args)
    if data is None:
        raise UsageRefused(f"bench tuning needs --data FILE, or {TRANSACTIONS} in the folder INCUMBENT_BENCH_DATA")
    return bench_tuning(data, args.trials, report_step)


def _features(args: argparse.Namespace) -> dict[str, Any]:
    from tests.bench.speed.features import bench_features

    return bench_features(_data(args))


def _data(args: argparse.Namespace) -> Path | None:
    folder = os.environ.get("INCUMBENT_BENCH_DATA")
    path: Path | None = args.data or (Path(folder) / TRANSACTIONS if folder else None)
    if path is not None and not path.is_file():
        raise UsageRefused(f"{path}: no such file")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one claim; exit codes as those of ``incumbent``."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure a published claim.")
    configure("bench", parser)
    args = parser.parse_args(argv)
    try:
        reply = run(args)
    except expected_errors() as exc:
        if args.debug:
            raise
        print(" ".join([f"bench {args.name}: {exc}", *getattr(exc, "__notes__", ())]), file=sys.stderr)
        return 2 if isinstance(exc, UsageRefused) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print_reply(reply, as_json=args.json)
    return reply.code


if __name__ == "__main__":
    sys.exit(main())
