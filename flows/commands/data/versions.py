"""``data``: the versions of the training data, kept by content."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.snapshots.store import Snapshot
    from flows.snapshots.versions import SnapshotDiff
    from flows.workspace.workspace import House

_SHOWN = 12


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


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen action."""
    enter_home(args)
    from flows.workspace.workspace import open_house

    actions: dict[str, Callable[[House, argparse.Namespace], Reply]] = {
        "list": _list, "show": _show, "diff": _diff, "restore": _restore, "track": _track,
    }  # fmt: skip
    return actions[args.action](open_house(args.usecase), args)


def _list(house: House, _: argparse.Namespace) -> Reply:
    from flows.steps.tracking.lineage import described, usage

    used = usage(house.registry, house.model, house.store.decisions)
    kinds = {"training": house.snapshots, "evidence": house.evidence}
    data = [
        described(ref) | {"kind": kind, "here": ref.path.is_file(), "used_by": used.get(ref.digest, [])}
        for kind, store in kinds.items()
        for ref in store.find()
        if ref.usecase == house.usecase.name
    ]
    data.sort(key=lambda d: (d["kind"] == "evidence", d["as_of"] or "", d["digest"]))
    rows = [
        (d["digest"][:_SHOWN], d["kind"], d["rows"], d["positives"], d["window"][0][:10], d["window"][1][:10],
         "" if d["here"] else "gone", ", ".join(d["used_by"]) or "-")
        for d in data
    ]  # fmt: skip
    headers = ("digest", "kind", "rows", "positives", "from", "to", "file", "used by")
    return Reply({"snapshots": data}, table(rows, headers) if rows else "none yet")


def _show(house: House, args: argparse.Namespace) -> Reply:
    from dataclasses import asdict

    from flows.snapshots.versions import columns_of
    from flows.steps.tracking.lineage import described, users_of

    snapshot = _load(house, args.digest)
    columns = [asdict(c) for c in columns_of(snapshot.events)]
    users = users_of(snapshot.ref.digest, house.registry, house.model, house.store.decisions)
    data = described(snapshot.ref) | {"columns": columns, "labels": len(snapshot.labels), "used_by": users}
    head = [(name, value) for name, value in data.items() if name not in ("columns", "used_by", "window")]
    head += [("from", data["window"][0]), ("to", data["window"][1])]
    head += [("used by", ", ".join(users["versions"]) or "no version")]
    head += [("decision", f"#{d['seq']} {d['kind']}") for d in users["decisions"]]
    rows = [(c["name"], c["type"], c["missing_share"], c["distinct"], c["digest"][:_SHOWN]) for c in columns]
    return Reply(data, f"{table(head)}\n\n{table(rows, ('column', 'type', 'missing', 'distinct', 'digest'))}")


def _diff(house: House, args: argparse.Namespace) -> Reply:
    from flows.snapshots.versions import compare
    from flows.steps.tracking.lineage import usage

    found = compare(_load(house, args.first), _load(house, args.second), house.usecase)
    used = usage(house.registry, house.model, house.store.decisions)
    data = found.to_json() | {"used_by": {digest: used.get(digest, []) for digest in (found.first, found.second)}}
    return Reply(data, _diff_text(found, data["used_by"]))


def _diff_text(found: SnapshotDiff, used: dict[str, list[str]]) -> str:
    labels = found.labels
    head: list[tuple[str, Any]] = [
        ("first", f"{found.first[:_SHOWN]}  {', '.join(used[found.first])}"),
        ("second", f"{found.second[:_SHOWN]}  {', '.join(used[found.second])}"),
        ("events", f"{found.added} added, {found.removed} removed, {found.changed} of {found.common} common changed"),
        ("labels of common events", f"{labels.gained} gained, {labels.lost} lost, {labels.changed} changed"),
        ("positive rate", " -> ".join("-" if r is None else f"{r:.4%}" for r in found.positive_rate)),
        ("columns added", ", ".join(found.added_columns) or "none"),
        ("columns removed", ", ".join(found.removed_columns) or "none"),
        ("columns of another type", ", ".join(found.retyped_columns) or "none"),
    ]
    if found.drift is None or found.drift.status != "ok":
        return f"{table(head)}\n\ntoo few rows or no column to compare"
    rows = [(f.name, f.band, f.psi, f.excess, f.ks, f.missing_share, f.unseen_share) for f in found.drift.ranked]
    return f"{table(head)}\n\n{table(rows, ('column', 'band', 'psi', 'excess', 'ks', 'missing', 'unseen'))}"


def _restore(house: House, args: argparse.Namespace) -> Reply:
    from flows.snapshots.versions import write_table

    snapshot, out = _load(house, args.digest), Path(args.out).absolute()
    rows = write_table(snapshot, house.usecase, out)
    window = snapshot.ref.window
    data = {"digest": snapshot.ref.digest, "file": str(out), "rows": rows, "start": window.start, "end": window.end}
    return Reply(data, f"{rows} events of {snapshot.ref.digest[:_SHOWN]} in {out}")


def _track(house: House, _: argparse.Namespace) -> Reply:
    from flows.snapshots import dvc

    refs = [ref for ref in house.snapshots.find() if ref.path.is_file()]
    done = [dvc.track(ref.path) for ref in refs]
    cached = sum(d.cached for d in done)
    text = f"{len(done)} DVC files, {cached} of their contents in a DVC cache"
    if cached < len(done):
        text += f"; make a repository first: cd {house.snapshots.folder} && dvc init --no-scm, and call this again"
    return Reply({"files": [str(d.file) for d in done], "cached": cached}, text)


def _load(house: House, prefix: str) -> Snapshot:
    from flows.snapshots.versions import find_one

    store, ref = find_one((house.snapshots, house.evidence), prefix)
    return store.load(ref.digest)
