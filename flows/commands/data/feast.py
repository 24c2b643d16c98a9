"""``feast``: the window features as a Feast repository, offline and online; and a view of another one, taken in."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import Reply, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.snapshots.store import SnapshotRef
    from flows.workspace.workspace import House

_LAST = datetime(2200, 1, 1, tzinfo=UTC)


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    generate = actions.add_parser("generate", help="write a Feast repository over a snapshot's window features")
    online = actions.add_parser("online", help="write what the window state says now, for its push.py")
    for sub in (generate, online):
        common_arguments(sub)
        sub.add_argument("--out", required=True, metavar="FOLDER", help="folder of the Feast repository")
    pull = actions.add_parser("pull", help="fill a look-up table with the history of a Feast view")
    common_arguments(pull)
    pull.add_argument("--repo", required=True, metavar="FOLDER", help="an applied Feast repository")
    pull.add_argument("--view", required=True, metavar="NAME", help="a feature view of it, with one join key")
    pull.add_argument("--lookup", metavar="NAME", help="the table to fill: that named like the view, or the only one")
    pull.add_argument("--python", metavar="PATH", help="a Python that has feast; the one beside feast on PATH")
    generate.add_argument("--data", metavar="DIGEST", help="a snapshot; the champion's by default")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen action."""
    enter_home(args)
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    if args.action == "pull":
        return _pull(house, args)
    folder = Path(args.out).absolute()
    return _generate(house, folder, args.data) if args.action == "generate" else _online(house, folder)


def _generate(house: House, folder: Path, prefix: str | None) -> Reply:
    from dataclasses import asdict

    from flows.steps.data.feast_repository import windows_only, write_repository

    ref = _snapshot(house, prefix)
    snapshot, plan = house.snapshots.load(ref.digest), windows_only(house.usecase)
    features = plan.build(snapshot.events, snapshot.revisions, ref.as_of or _LAST)
    views = write_repository(folder, house.usecase.name, plan, snapshot.events, features, ref.digest)
    rows = [(v.name, v.entity, len(v.features), v.rows, v.ambiguous) for v in views]
    text = table(rows, ("view", "entity", "features", "rows", "ambiguous"))
    data = {"folder": str(folder), "data": ref.digest, "views": [asdict(v) for v in views]}
    return Reply(data, f"{text}\n\nnext, where feast is installed: cd {folder} && feast apply")


def _online(house: House, folder: Path) -> Reply:
    from flows.steps.data.feast_repository import newest_window, windows_only, write_online

    plan = windows_only(house.usecase)
    window = newest_window(house.store, house.usecase)
    columns = {c.name: c.type for c in house.usecase.columns if c.name in {plan.event_id, plan.event_time}}
    columns |= {spec.entity: house.usecase.column(spec.entity).type for spec in plan.specs}
    events = house.store.log.events(house.usecase.name, window, columns)
    _, served = house.store.log.features(house.usecase.name, window)
    counts = write_online(folder, plan, events, served)
    text = table(list(counts.items()), ("view", "entities"))
    return Reply({"folder": str(folder), "entities": dict(counts)}, f"{text}\n\nnext: python {folder / 'push.py'}")


def _pull(house: House, args: argparse.Namespace) -> Reply:
    from dataclasses import asdict

    from flows.commands.data.lookups import described
    from flows.steps.data.lookup_tables import chosen, feast_python, pull
    from monitoring.core.durations import format_duration

    usecase = house.usecase
    name, folder = chosen(usecase, args.lookup, args.view), house.settings.lookups(usecase.name)
    found = pull(usecase, name, Path(args.repo).absolute(), args.view, feast_python(args.python), folder)
    text, ages = described([found.facts]), usecase.lookup(name).max_age
    if found.superseded:
        text += f"\n\n{found.superseded} rows were left out: a later one of the same entity and time was created"
    if found.ttl != ages:
        said = ["without end" if age is None else format_duration(age) for age in (found.ttl, ages)]
        text += f"\n\nin Feast a row of the view counts {said[0]}, here {said[1]}: see max_age of the lookup"
    ttl = None if found.ttl is None else found.ttl.total_seconds()
    data = {"lookup": asdict(found.facts), "ttl_seconds": ttl, "superseded": found.superseded}
    return Reply(data, text)


def _snapshot(house: House, prefix: str | None) -> SnapshotRef:
    from flows.snapshots.versions import find_one

    if prefix is None:
        prefix = house.load(house.champion()).metadata.data_digest
    return find_one((house.snapshots,), prefix)[1]
