"""``lookups``: the tables that fill columns of the event by an entity."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import Reply, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.steps.data.lookup_tables import LookupFacts

_SHOWN = 12


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="every declared table: rows, entities, newest row, digest")
    load = actions.add_parser("load", help="check a Parquet file and put it in the place of a table")
    for sub in (show, load):
        common_arguments(sub)
    load.add_argument("name", help="the lookup")
    load.add_argument("file", metavar="FILE", help="Parquet: the entity, valid_from (with a zone), and the columns")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen action."""
    if args.action == "load":
        args.file = str(Path(args.file).absolute())
    enter_home(args)
    from dataclasses import asdict

    from flows.steps.data.lookup_tables import chosen, load, show
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    usecase, folder = house.usecase, house.settings.lookups(house.usecase.name)
    if args.action == "load":
        facts = load(usecase, chosen(usecase, args.name), Path(args.file), folder)
        return Reply({"lookup": asdict(facts)}, described([facts]))
    found, wrong = show(usecase, folder)
    text = "\n\n".join([described(found)] * bool(found) + wrong) or f"{usecase.name} declares no [[lookups]]"
    data = {"lookups": [asdict(facts) for facts in found], "problems": wrong}
    return Reply(data, text, 1 if wrong else 0)


def described(found: Sequence[LookupFacts]) -> str:
    """Tables as lines of text."""
    rows = [
        (f.name, f.entity, ", ".join(f.columns), f.rows, f.entities, _time(f), f.digest[:_SHOWN], f.path)
        for f in found
    ]  # fmt: skip
    return table(rows, ("lookup", "entity", "columns", "rows", "entities", "newest valid_from", "digest", "file"))


def _time(facts: LookupFacts) -> str | None:
    return None if facts.newest is None else facts.newest.isoformat()
