"""``lookups``: the tables that fill columns of the event by an entity."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import CommandResult, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.steps.data.lookup_tables import LookupFacts

_DIGEST_LENGTH = 12


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show_parser = actions.add_parser("show", help="every declared table: rows, entities, newest row, digest")
    load_parser = actions.add_parser("load", help="check a Parquet file and put it in the place of a table")
    for sub in (show_parser, load_parser):
        common_arguments(sub)
    load_parser.add_argument("name", help="the lookup")
    load_parser.add_argument(
        "file", metavar="FILE", help="Parquet: the entity, valid_from (with a zone), and the columns"
    )


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen action."""
    if args.action == "load":
        args.file = str(Path(args.file).absolute())
    enter_home(args)
    from dataclasses import asdict

    from flows.steps.data.lookup_tables import choose_lookup, list_lookups, load_lookup
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    usecase, folder = workspace.usecase, workspace.settings.lookups(workspace.usecase.name)
    if args.action == "load":
        facts = load_lookup(usecase, choose_lookup(usecase, args.name), Path(args.file), folder)
        return CommandResult({"lookup": asdict(facts)}, format_lookups([facts]))
    tables, problems = list_lookups(usecase, folder)
    text = "\n\n".join([format_lookups(tables)] * bool(tables) + problems) or f"{usecase.name} declares no [[lookups]]"
    data = {"lookups": [asdict(facts) for facts in tables], "problems": problems}
    return CommandResult(data, text, 1 if problems else 0)


def format_lookups(tables: Sequence[LookupFacts]) -> str:
    """Tables as lines of text."""
    rows = [
        (f.name, f.entity, ", ".join(f.columns), f.rows, f.entities, _time(f), f.digest[:_DIGEST_LENGTH], f.path)
        for f in tables
    ]  # fmt: skip
    return table(rows, ("lookup", "entity", "columns", "rows", "entities", "newest valid_from", "digest", "file"))


def _time(facts: LookupFacts) -> str | None:
    return None if facts.newest is None else facts.newest.isoformat()
