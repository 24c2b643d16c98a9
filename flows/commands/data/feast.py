"""``feast``: the window features as a Feast repository, offline and online; and a view of another one, taken in."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.commands.common import CommandResult, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.snapshots.store import SnapshotRef
    from flows.workspace.workspace import Workspace

_FAR_FUTURE = datetime(2200, 1, 1, tzinfo=UTC)


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    generate = actions.add_parser("generate", help="write a Feast repository over a snapshot's window features")
    online = actions.add_parser("online", help="write what the window state says now, for its push.py")
    for sub in (generate, online):
        common_arguments(sub)
        sub.add_argument("--out", required=True, metavar="FOLDER", help="folder of the Feast repository")
    pull_parser = actions.add_parser("pull", help="fill a look-up table with the history of a Feast view")
    common_arguments(pull_parser)
    pull_parser.add_argument("--repo", required=True, metavar="FOLDER", help="an applied Feast repository")
    pull_parser.add_argument("--view", required=True, metavar="NAME", help="a feature view of it, with one join key")
    pull_parser.add_argument(
        "--lookup", metavar="NAME", help="the table to fill: that named like the view, or the only one"
    )
    pull_parser.add_argument("--python", metavar="PATH", help="a Python that has feast; the one beside feast on PATH")
    generate.add_argument("--data", metavar="DIGEST", help="a snapshot; the champion's by default")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen action."""
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if args.action == "pull":
        return _pull(workspace, args)
    folder = Path(args.out).absolute()
    return _generate(workspace, folder, args.data) if args.action == "generate" else _online(workspace, folder)


def _generate(workspace: Workspace, folder: Path, prefix: str | None) -> CommandResult:
    from dataclasses import asdict

    from flows.steps.data.feast_repository import window_plan, write_repository

    ref = _snapshot(workspace, prefix)
    snapshot, plan = workspace.snapshots.load(ref.digest), window_plan(workspace.usecase)
    features = plan.build(snapshot.events, snapshot.revisions, ref.as_of or _FAR_FUTURE)
    views = write_repository(folder, workspace.usecase.name, plan, snapshot.events, features, ref.digest)
    rows = [(v.name, v.entity, len(v.features), v.rows, v.ambiguous) for v in views]
    text = table(rows, ("view", "entity", "features", "rows", "ambiguous"))
    data = {"folder": str(folder), "data": ref.digest, "views": [asdict(v) for v in views]}
    return CommandResult(data, f"{text}\n\nnext, where feast is installed: cd {folder} && feast apply")


def _online(workspace: Workspace, folder: Path) -> CommandResult:
    from flows.steps.data.feast_repository import newest_window, window_plan, write_online

    plan = window_plan(workspace.usecase)
    window = newest_window(workspace.store, workspace.usecase)
    columns = {c.name: c.type for c in workspace.usecase.columns if c.name in {plan.event_id, plan.event_time}}
    columns |= {spec.entity: workspace.usecase.column(spec.entity).type for spec in plan.specs}
    events = workspace.store.log.events(workspace.usecase.name, window, columns)
    _, served = workspace.store.log.features(workspace.usecase.name, window)
    counts = write_online(folder, plan, events, served)
    text = table(list(counts.items()), ("view", "entities"))
    return CommandResult(
        {"folder": str(folder), "entities": dict(counts)}, f"{text}\n\nnext: python {folder / 'push.py'}"
    )


def _pull(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from dataclasses import asdict

    from flows.commands.data.lookups import format_lookups
    from flows.steps.data.lookup_tables import choose_lookup, feast_python, pull_view
    from monitoring.core.durations import format_duration

    usecase = workspace.usecase
    name, folder = choose_lookup(usecase, args.lookup, args.view), workspace.settings.lookups(usecase.name)
    result = pull_view(usecase, name, Path(args.repo).absolute(), args.view, feast_python(args.python), folder)
    text, max_age = format_lookups([result.facts]), usecase.lookup(name).max_age
    if result.superseded:
        text += f"\n\n{result.superseded} rows were left out: a later one of the same entity and time was created"
    if result.ttl != max_age:
        durations = ["without end" if age is None else format_duration(age) for age in (result.ttl, max_age)]
        text += f"\n\nin Feast a row of the view counts {durations[0]}, here {durations[1]}: see max_age of the lookup"
    ttl = None if result.ttl is None else result.ttl.total_seconds()
    data = {"lookup": asdict(result.facts), "ttl_seconds": ttl, "superseded": result.superseded}
    return CommandResult(data, text)


def _snapshot(workspace: Workspace, prefix: str | None) -> SnapshotRef:
    from flows.snapshots.versions import find_snapshot

    if prefix is None:
        prefix = workspace.load(workspace.champion()).metadata.data_digest
    return find_snapshot((workspace.snapshots,), prefix)[1]
