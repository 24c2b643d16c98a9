"""``lineage``: from a version to what it comes from, and back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRef
    from flows.steps.tracking.lineage import Ancestry
    from flows.workspace.workspace import Workspace


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="a number, a label such as dev-fraud/3, or a role such as champion")
    what.add_argument("--data", metavar="DIGEST", help="back from a snapshot to versions and decisions")
    what.add_argument("--decision", metavar="ID", help="back from a decision to versions and data")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the command."""
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if args.data:
        return _data_lineage(workspace, args.data)
    return _decision_lineage(workspace, args.decision) if args.decision else _version_lineage(workspace, args.version)


def _version_lineage(workspace: Workspace, name: str) -> CommandResult:
    from flows.steps.tracking.lineage import ancestry
    from flows.steps.tracking.mlflow_run import tracker_of

    stores = (workspace.snapshots, workspace.evidence)
    lineage = ancestry(
        _ref(workspace, name), workspace.registry, tracker_of(workspace.registry), stores, workspace.store.decisions
    )
    return CommandResult(lineage.to_json(), _text(lineage))


def _data_lineage(workspace: Workspace, digest: str) -> CommandResult:
    from flows.snapshots.versions import find_snapshot
    from flows.steps.tracking.lineage import snapshot_summary, users_of

    _, ref = find_snapshot((workspace.snapshots, workspace.evidence), digest)
    users = users_of(ref.digest, workspace.registry, workspace.model, workspace.store.decisions)
    head = [("data", ref.digest), ("rows", ref.rows), ("source", ref.source)]
    head += [("version", label) for label in users["versions"]]
    return CommandResult({"data": snapshot_summary(ref), **users}, f"{table(head)}\n\n{_decisions(users['decisions'])}")


def _decision_lineage(workspace: Workspace, name: str) -> CommandResult:
    from flows.steps.tracking.lineage import decision_lineage, find_decision

    lineage = decision_lineage(find_decision(workspace.store.decisions, name), workspace.registry, workspace.model)
    head = [("version", f"{v['version']}  data {(v['data_digest'] or '-')[:12]}") for v in lineage["versions"]]
    head += [("rests on", digest) for digest in lineage["data"]]
    return CommandResult(lineage, f"{_decisions([lineage['decision']])}\n\n{table(head)}")


def _ref(workspace: Workspace, name: str) -> ModelRef:
    from bentos.registry.ports import ROLES, ModelRef

    if name in ROLES:
        return workspace.registry.resolve(workspace.model, name)
    if name.isdigit():
        return ModelRef(workspace.model, name)
    try:
        return ModelRef.parse(name)
    except ValueError as exc:
        raise UsageRefused(f"{exc}; or give a number or one of {', '.join(ROLES)}") from exc


def _text(lineage: Ancestry) -> str:
    data, code = lineage.data, lineage.code or {}
    head: list[tuple[str, Any]] = [
        ("version", f"{lineage.version}  {lineage.semantic_version or ''}  {' '.join(f'@{r}' for r in lineage.roles)}"),
        ("made", lineage.created_at),
        ("run", lineage.run_id),
        ("data", f"{data['digest'] or '-'}{'' if data['here'] else '  (not here)'}"),
        ("rows", data.get("rows")),
        ("source", data.get("source")),
        *code.items(),
        ("ancestors", " <- ".join(lineage.ancestors) or "none"),
        ("children", ", ".join(lineage.children) or "none"),
    ]
    parameters = table(sorted((lineage.parameters or {}).items())) or "the run is gone, and its parameters with it"
    return f"{table(head)}\n\nparameters\n{parameters}\n\n{_decisions(lineage.decisions)}"


def _decisions(rows: Any) -> str:
    lines: list[Mapping[str, Any]] = list(rows)
    cells = [(d["seq"], d["id"], d["at"][:16], d["kind"], d["actor"], d["reason"] or "") for d in lines]
    return table(cells, ("seq", "id", "business time", "kind", "actor", "reason")) if cells else "no decision names it"
