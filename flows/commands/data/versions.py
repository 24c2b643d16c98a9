"""``data``: the versions of the training data, kept by content."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.snapshots.store import Snapshot
    from flows.snapshots.versions import SnapshotDiff
    from flows.workspace.workspace import Workspace

_DIGEST_LENGTH = 12


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    lines = {
        "list": "every snapshot, and what uses it",
        "show": "one snapshot: rows, columns, digests, what uses it",
        "diff": "what changed between two snapshots, and how far their columns drifted",
        "restore": "write the exact rows of a snapshot to a file that train reads",
        "track": "write the DVC file of every training snapshot and fill DVC's cache, ready for dvc push",
    }
    subs = {action: actions.add_parser(action, help=line) for action, line in lines.items()}
    for sub in subs.values():
        common_arguments(sub)
    subs["show"].add_argument("digest", help="its first digits, six or more")
    subs["diff"].add_argument("first", help="digest of the reference")
    subs["diff"].add_argument("second", help="digest of what is compared with it")
    subs["restore"].add_argument("digest", help="its first digits, six or more")
    subs["restore"].add_argument("--out", required=True, metavar="FILE", help="a .parquet or .csv file to write")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen action."""
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    actions: dict[str, Callable[[Workspace, argparse.Namespace], CommandResult]] = {
        "list": _list, "show": _show, "diff": _diff, "restore": _restore, "track": _track,
    }  # fmt: skip
    return actions[args.action](open_workspace(args.usecase), args)


def _list(workspace: Workspace, _: argparse.Namespace) -> CommandResult:
    from flows.steps.tracking.lineage import snapshot_summary, users_by_digest

    users = users_by_digest(workspace.registry, workspace.model, workspace.store.decisions)
    kinds = {"training": workspace.snapshots, "evidence": workspace.evidence}
    data = [
        snapshot_summary(ref) | {"kind": kind, "here": ref.path.is_file(), "used_by": users.get(ref.digest, [])}
        for kind, store in kinds.items()
        for ref in store.find()
        if ref.usecase == workspace.usecase.name
    ]
    data.sort(key=lambda d: (d["kind"] == "evidence", d["as_of"] or "", d["digest"]))
    rows = [
        (d["digest"][:_DIGEST_LENGTH], d["kind"], d["rows"], d["positives"], d["window"][0][:10], d["window"][1][:10],
         "" if d["here"] else "gone", ", ".join(d["used_by"]) or "-")
        for d in data
    ]  # fmt: skip
    headers = ("digest", "kind", "rows", "positives", "from", "to", "file", "used by")
    return CommandResult({"snapshots": data}, table(rows, headers) if rows else "none yet")


def _show(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from dataclasses import asdict

    from flows.snapshots.versions import columns_of
    from flows.steps.tracking.lineage import snapshot_summary, users_of

    snapshot = _load(workspace, args.digest)
    columns = [asdict(c) for c in columns_of(snapshot.events)]
    users = users_of(snapshot.ref.digest, workspace.registry, workspace.model, workspace.store.decisions)
    data = snapshot_summary(snapshot.ref) | {"columns": columns, "labels": len(snapshot.labels), "used_by": users}
    head = [(name, value) for name, value in data.items() if name not in ("columns", "used_by", "window")]
    head += [("from", data["window"][0]), ("to", data["window"][1])]
    head += [("used by", ", ".join(users["versions"]) or "no version")]
    head += [("decision", f"#{d['seq']} {d['kind']}") for d in users["decisions"]]
    rows = [(c["name"], c["type"], c["missing_share"], c["distinct"], c["digest"][:_DIGEST_LENGTH]) for c in columns]
    return CommandResult(data, f"{table(head)}\n\n{table(rows, ('column', 'type', 'missing', 'distinct', 'digest'))}")


def _diff(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.snapshots.versions import compare
    from flows.steps.tracking.lineage import users_by_digest

    diff = compare(_load(workspace, args.first), _load(workspace, args.second), workspace.usecase)
    users = users_by_digest(workspace.registry, workspace.model, workspace.store.decisions)
    data = diff.to_json() | {"used_by": {digest: users.get(digest, []) for digest in (diff.first, diff.second)}}
    return CommandResult(data, _diff_text(diff, data["used_by"]))


def _diff_text(diff: SnapshotDiff, users: dict[str, list[str]]) -> str:
    labels = diff.labels
    head: list[tuple[str, Any]] = [
        ("first", f"{diff.first[:_DIGEST_LENGTH]}  {', '.join(users[diff.first])}"),
        ("second", f"{diff.second[:_DIGEST_LENGTH]}  {', '.join(users[diff.second])}"),
        ("events", f"{diff.added} added, {diff.removed} removed, {diff.changed} of {diff.common} common changed"),
        ("labels of common events", f"{labels.gained} gained, {labels.lost} lost, {labels.changed} changed"),
        ("positive rate", " -> ".join("-" if r is None else f"{r:.4%}" for r in diff.positive_rate)),
        ("columns added", ", ".join(diff.added_columns) or "none"),
        ("columns removed", ", ".join(diff.removed_columns) or "none"),
        ("columns of another type", ", ".join(diff.retyped_columns) or "none"),
    ]
    if diff.drift is None or diff.drift.status != "ok":
        return f"{table(head)}\n\ntoo few rows or no column to compare"
    rows = [(f.name, f.band, f.psi, f.excess, f.ks, f.missing_share, f.unseen_share) for f in diff.drift.ranked]
    return f"{table(head)}\n\n{table(rows, ('column', 'band', 'psi', 'excess', 'ks', 'missing', 'unseen'))}"


def _restore(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.snapshots.versions import write_table

    snapshot, out = _load(workspace, args.digest), Path(args.out).absolute()
    rows = write_table(snapshot, workspace.usecase, out)
    window = snapshot.ref.window
    data = {"digest": snapshot.ref.digest, "file": str(out), "rows": rows, "start": window.start, "end": window.end}
    return CommandResult(data, f"{rows} events of {snapshot.ref.digest[:_DIGEST_LENGTH]} in {out}")


def _track(workspace: Workspace, _: argparse.Namespace) -> CommandResult:
    from flows.snapshots import dvc

    refs = [ref for ref in workspace.snapshots.find() if ref.path.is_file()]
    dvc_files = [dvc.track(ref.path) for ref in refs]
    cached = sum(d.cached for d in dvc_files)
    text = f"{len(dvc_files)} DVC files, {cached} of their contents in a DVC cache"
    if cached < len(dvc_files):
        text += f"; make a repository first: cd {workspace.snapshots.folder} && dvc init --no-scm, and call this again"
    return CommandResult({"files": [str(d.file) for d in dvc_files], "cached": cached}, text)


def _load(workspace: Workspace, prefix: str) -> Snapshot:
    from flows.snapshots.versions import find_snapshot

    store, ref = find_snapshot((workspace.snapshots, workspace.evidence), prefix)
    return store.load(ref.digest)
