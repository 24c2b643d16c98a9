"""``bench``: claims that are measured. Standard output carries the result and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from flows.commands.common import Reply, common_arguments

BENCHES = ("handbook", "features")


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", choices=BENCHES, help="which claim")
    parser.add_argument("--data", type=Path, metavar="FILE", help="card transactions of the handbook, as Parquet")
    parser.add_argument("--prequential", action="store_true", help="handbook: also the four weekly folds")
    common_arguments(parser)


def run(args: argparse.Namespace) -> Reply:
    """Measure one claim; whatever libraries print goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        return Reply(_measure(args))
