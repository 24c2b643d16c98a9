"""``lineage``: from a version to what it comes from, and back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRef
    from flows.steps.tracking.lineage import Ancestry
    from flows.workspace.workspace import House


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="a number, a label such as dev-fraud/3, or a role such as champion")
    what.add_argument("--data", metavar="DIGEST", help="back from a snapshot to versions and decisions")
    what.add_argument("--decision", metavar="ID", help="back from a decision to versions and data")


def run(args: argparse.Namespace) -> Reply:
    """Run the command."""
    enter_home(args)
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    if args.data:
        return _of_data(house, args.data)
    return _of_decision(house, args.decision) if args.decision else _of_version(house, args.version)


def _of_version(house: House, name: str) -> Reply:
    from flows.steps.tracking.lineage import ancestry
    from flows.steps.tracking.mlflow_run import tracker_of

    places = (house.snapshots, house.evidence)
    found = ancestry(_ref(house, name), house.registry, tracker_of(house.registry), places, house.store.decisions)
    return Reply(found.to_json(), _text(found))


def _of_data(house: House, digest: str) -> Reply:
    from flows.snapshots.versions import find_one
    from flows.steps.tracking.lineage import described, users_of

    _, ref = find_one((house.snapshots, house.evidence), digest)
    users = users_of(ref.digest, house.registry, house.model, house.store.decisions)
    head = [("data", ref.digest), ("rows", ref.rows), ("source", ref.source)]
    head += [("version", label) for label in users["versions"]]
    return Reply({"data": described(ref), **users}, f"{table(head)}\n\n{_decisions(users['decisions'])}")


def _of_decision(house: House, name: str) -> Reply:
    from flows.steps.tracking.lineage import decision_lineage, find_decision

    found = decision_lineage(find_decision(house.store.decisions, name), house.registry, house.model)
    head = [("version", f"{v['version']}  data {(v['data_digest'] or '-')[:12]}") for v in found["versions"]]
    head += [("rests on", digest) for digest in found["data"]]
    return Reply(found, f"{_decisions([found['decision']])}\n\n{table(head)}")


def _ref(house: House, name: str) -> ModelRef:
    from bentos.registry.ports import ROLES, ModelRef

    if name in ROLES:
        return house.registry.resolve(house.model, name)
    if name.isdigit():
        return ModelRef(house.model, name)
    try:
        return ModelRef.parse(name)
    except ValueError as exc:
        raise UsageRefused(f"{exc}; or give a number or one of {', '.join(ROLES)}") from exc


def _text(found: Ancestry) -> str:
    data, code = found.data, found.code or {}
    head: list[tuple[str, Any]] = [
        ("version", f"{found.version}  {found.semantic_version or ''}  {' '.join(f'@{r}' for r in found.roles)}"),
        ("made", found.created_at),
        ("run", found.run_id),
        ("data", f"{data['digest'] or '-'}{'' if data['here'] else '  (not here)'}"),
        ("rows", data.get("rows")),
        ("source", data.get("source")),
        *code.items(),
        ("ancestors", " <- ".join(found.ancestors) or "none"),
        ("children", ", ".join(found.children) or "none"),
    ]
    parameters = table(sorted((found.parameters or {}).items())) or "the run is gone, and its parameters with it"
    return f"{table(head)}\n\nparameters\n{parameters}\n\n{_decisions(found.decisions)}"


def _decisions(rows: Any) -> str:
    lines: list[Mapping[str, Any]] = list(rows)
    shown = [(d["seq"], d["id"], d["at"][:16], d["kind"], d["actor"], d["reason"] or "") for d in lines]
    return table(shown, ("seq", "id", "business time", "kind", "actor", "reason")) if shown else "no decision names it"
