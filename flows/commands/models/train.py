"""``train``, ``tune``, ``evaluate``, ``score``, ``retrain``: what makes, judges and applies models."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import (
    CommandResult,
    UsageRefused,
    common_arguments,
    parse_instant,
    run_flow,
    source_arguments,
    usecase_of,
)

if TYPE_CHECKING:
    from flows.runs.parameters import EngineChoice, Kind, SourceChoice


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=name not in ("train", "tune"))
    if name in ("train", "tune", "score"):
        source_arguments(parser)
    if name in ("train", "score"):
        parser.add_argument(
            "--engine", choices=("single", "dask"), help="this process, or a cluster (INCUMBENT_ENGINE)"
        )
        parser.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster (INCUMBENT_SCHEDULER)")
    if name in ("train", "tune"):
        parser.add_argument(
            "--until", metavar="TIME", help="business time of the training; the source's end by default"
        )
        parser.add_argument("--reason", default="", help="why, for the record")
    if name == "tune":
        parser.add_argument(
            "--trials", type=int, metavar="N", help="how many settings are tried; as declared by default"
        )
        parser.add_argument("--minutes", type=float, metavar="M", help="how long is searched, alone or beside --trials")
    if name in ("evaluate", "score"):
        parser.add_argument("--version", help="number of a registered version")
    if name == "score":
        parser.add_argument("--start", metavar="TIME", help="first event time; the last whole day by default")
        parser.add_argument("--in", dest="table_in", metavar="PATH", help="score every row: CSV, Parquet, URL#table")
        parser.add_argument("--out", dest="table_out", metavar="PATH", help=".csv, .parquet, a folder, URL#table")
        parser.add_argument("--reasons", action="store_true", help="the strongest reasons of each score (--in)")
    if name == "retrain":
        parser.add_argument("--force", action="store_true", help="train whatever the policy says")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    handlers = {"train": _train, "tune": _tune, "evaluate": _evaluate, "score": _score, "retrain": _retrain}
    return handlers[args.command](args)


def _train(args: argparse.Namespace) -> CommandResult:
    until = parse_instant(args.until, usecase_of(args))
    source, engine = _source(args, args.source), _engine(args)
    return run_flow(args, "training", "training", until=until, reason=args.reason, source=source, engine=engine)


def _tune(args: argparse.Namespace) -> CommandResult:
    if (args.trials is not None and args.trials < 1) or (args.minutes is not None and args.minutes <= 0):
        raise UsageRefused("tune needs --trials of at least 1 and --minutes above 0")
    until, budget = parse_instant(args.until, usecase_of(args)), {"trials": args.trials, "minutes": args.minutes}
    reply = run_flow(
        args, "tuning", "tuning", until=until, reason=args.reason, source=_source(args, args.source), **budget
    )
    search = reply.data["tuning"]
    if reply.code or search["winner"] == 0:
        return reply
    advice = f"to keep these settings for later trainings, put them into the file:\n\n{search['training_lines']}"
    return replace(reply, text=f"{reply.text}\n\n{advice}")


def _evaluate(args: argparse.Namespace) -> CommandResult:
    as_of = parse_instant(args.as_of, usecase_of(args))
    return run_flow(args, "evaluation", "evaluation", version=args.version, as_of=as_of)


def _score(args: argparse.Namespace) -> CommandResult:
    usecase = usecase_of(args)
    window: dict[str, object] = {"start": parse_instant(args.start, usecase), "end": parse_instant(args.as_of, usecase)}
    if (args.table_in is None) != (args.table_out is None):
        raise UsageRefused("score needs --in and --out together")
    if args.table_in is not None and (args.start or args.source):
        raise UsageRefused("score --in takes every row of its table; --start and --source choose a window instead")
    if args.table_in is None and (args.engine or args.scheduler):
        raise UsageRefused("score --engine and --scheduler go with --in and --out")
    if args.table_in is None and args.reasons:
        raise UsageRefused("score --reasons goes with --in and --out")
    table = {"table_in": _absolute(args.table_in), "table_out": _absolute(args.table_out), "reasons": args.reasons}
    window |= table if args.table_in is not None else {}
    source = _source(args, args.source or "log")
    return run_flow(args, "scoring", "scoring", version=args.version, source=source, engine=_engine(args), **window)


def _absolute(path: str | None) -> str | None:
    """A local path as seen from here: the run moves into the home."""
    return path if path is None or "://" in path else str(Path(path).absolute())


def _retrain(args: argparse.Namespace) -> CommandResult:
    as_of = parse_instant(args.as_of, usecase_of(args))
    return run_flow(args, "retraining", "retraining", as_of=as_of, force=args.force)


def _engine(args: argparse.Namespace) -> EngineChoice:
    from flows.runs.parameters import EngineChoice

    return EngineChoice(engine=args.engine, scheduler=args.scheduler)


def _source(args: argparse.Namespace, kind: Kind | None) -> SourceChoice:
    from flows.runs.parameters import SourceChoice

    return SourceChoice(kind=kind, path=args.path, url=args.url, table=args.table)
