"""``train``, ``evaluate``, ``score``, ``retrain``: what makes, judges and applies models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.commands.common import Reply, common_arguments, instant, run_flow, source_arguments, usecase_of

if TYPE_CHECKING:
    from flows.forms import Kind, SourceChoice


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=name != "train")
    if name in ("train", "score"):
        source_arguments(parser)
    if name == "train":
        parser.add_argument(
            "--until", metavar="TIME", help="business time of the training; the source's end by default"
        )
        parser.add_argument("--reason", default="", help="why, for the record")
    if name in ("evaluate", "score"):
        parser.add_argument("--version", help="number of a registered version")
    if name == "score":
        parser.add_argument("--start", metavar="TIME", help="first event time; the last whole day by default")
    if name == "retrain":
        parser.add_argument("--force", action="store_true", help="train whatever the policy says")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen command."""
    return {"train": _train, "evaluate": _evaluate, "score": _score, "retrain": _retrain}[args.command](args)


def _train(args: argparse.Namespace) -> Reply:
    until = instant(args.until, usecase_of(args))
    return run_flow(args, "training", "training", until=until, reason=args.reason, source=_source(args, args.source))


def _evaluate(args: argparse.Namespace) -> Reply:
    as_of = instant(args.as_of, usecase_of(args))
    return run_flow(args, "evaluation", "evaluation", version=args.version, as_of=as_of)


def _score(args: argparse.Namespace) -> Reply:
    usecase = usecase_of(args)
    window = {"start": instant(args.start, usecase), "end": instant(args.as_of, usecase)}
    source = _source(args, args.source or "log")
    return run_flow(args, "scoring", "scoring", version=args.version, source=source, **window)


def _retrain(args: argparse.Namespace) -> Reply:
    as_of = instant(args.as_of, usecase_of(args))
    return run_flow(args, "retraining", "retraining", as_of=as_of, force=args.force)


def _source(args: argparse.Namespace, kind: Kind | None) -> SourceChoice:
    from flows.forms import SourceChoice

    return SourceChoice(kind=kind, path=args.path, url=args.url, table=args.table)
