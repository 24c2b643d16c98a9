"""Lineage: from a model version to data, code, parameters, parent and decisions, and back.

There is no table of edges: tags, runs and decisions already name what they rest on, so old decisions are found as
well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bentos.errors import VersionMissing
from bentos.promotion.evidence import TRAINING
from bentos.registry.ports import ModelRef, ModelRegistry, VersionInfo
from flows.errors import FlowRefused, SnapshotMissing
from flows.snapshots.store import SnapshotRef, SnapshotStore
from flows.steps.tracking.mlflow_run import Tracker
from flows.steps.tracking.version_tags import SEMANTIC_VERSION
from monitoring.store.decisions.decisions import Decision, Decisions

CODE = ("git_commit", "environment_digest", "booster_library")
_NUMBERS = ("version", "from_version", "to_version", "champion", "challenger", "candidate", "parent")
_DATA = ("data_digest", "evidence_snapshot")


@dataclass(frozen=True)
class Ancestry:
    """Everything that one version comes from, and what came of it.

    Attributes:
        version: ``dev-fraud/3``.
        semantic_version: ``major.minor.patch``; none for a version that no training made.
        created_at: machine time, ISO 8601 UTC.
        run_id: the MLflow run.
        data: digest, whether the snapshot is still here, and what it is.
        code: commit, digest of the environment, booster library; none where the run is gone.
        parameters: of the booster and the training, with the seed, as the run has them.
        tags: what the registry says of it.
        ancestors: the parent, its parent, and so on; a parent that is gone ends the line.
        children: versions that name it as their parent.
        roles: what it holds now.
        decisions: every decision that names it, oldest first.
    """

    version: str
    semantic_version: str | None
    created_at: str
    run_id: str | None
    data: Mapping[str, Any]
    code: Mapping[str, str] | None
    parameters: Mapping[str, str] | None
    tags: Mapping[str, str]
    ancestors: tuple[str, ...]
    children: tuple[str, ...]
    roles: tuple[str, ...]
    decisions: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, one key for each attribute; ``parent`` is the first ancestor."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"parent": self.ancestors[0] if self.ancestors else None}


def ancestry(
    ref: ModelRef, registry: ModelRegistry, tracker: Tracker, stores: Sequence[SnapshotStore], decisions: Decisions
) -> Ancestry:
    """Where a version comes from and what came of it.

    Raises:
        VersionMissing: the registry has no such version.
        RegistryUnavailable: it does not answer.
    """
    info = registry.describe(ref)
    versions = {version_info.ref.label: version_info for version_info in registry.versions(ref.name)}
    run_params = _params(tracker, info.run_id)
    return Ancestry(
        version=ref.label,
        semantic_version=info.tags.get(SEMANTIC_VERSION),
        created_at=info.created_at.isoformat(),
        run_id=info.run_id,
        data=_data(info.tags.get("data_digest"), stores),
        code=None if run_params is None else {name: run_params.get(name, "none") for name in CODE},
        parameters=None if run_params is None else {k: v for k, v in run_params.items() if not _is_context(k)},
        tags=dict(info.tags),
        ancestors=tuple(_ancestors(info, versions)),
        children=tuple(
            label for label, version_info in versions.items() if version_info.tags.get("parent") == ref.label
        ),
        roles=tuple(role for role, holder in registry.roles(ref.name).items() if holder == ref),
        decisions=tuple(decision_summary(d) for d in decisions.list(limit=None) if ref in versions_in(d, ref.name)),
    )


def users_of(digest: str, registry: ModelRegistry, model: str, decisions: Decisions) -> dict[str, Any]:
    """Versions that were made of a snapshot, and decisions that rest on it or name one of these versions."""
    refs = [v.ref for v in registry.versions(model) if v.tags.get("data_digest") == digest]
    briefs = [
        decision_summary(d)
        for d in decisions.list(limit=None)
        if digest in _digests_in(d.payload) or versions_in(d, model).intersection(refs)
    ]
    return {"versions": [ref.label for ref in refs], "decisions": briefs}


def users_by_digest(registry: ModelRegistry, model: str, decisions: Decisions) -> dict[str, list[str]]:
    """Digest to the versions made of it and the decisions (``#seq kind``) that rest on it, in one pass.

    The line of a training is not told beside the version that it made; it is where that version is gone.
    """
    users: dict[str, list[str]] = {}
    versions = registry.versions(model)
    for version in versions:
        if digest := version.tags.get("data_digest"):
            users.setdefault(digest, []).append(version.ref.label)
    refs = frozenset(version.ref for version in versions)
    for decision in decisions.list(limit=None):
        payload = decision.payload
        if decision.kind == TRAINING and ModelRef(payload["model"], payload["version"]) in refs:
            continue
        for digest in sorted(_digests_in(decision.payload)):
            users.setdefault(digest, []).append(f"#{decision.seq} {decision.kind}")
    return users


def find_decision(decisions: Decisions, name: str) -> Decision:
    """A decision by its number, or by the beginning (six digits or more) of its id.

    Raises:
        FlowRefused: none or several are named so.
    """
    rows = decisions.list(limit=None)
    by_number = [d for d in rows if name.lstrip("#") == str(d.seq)]
    matches = by_number or [d for d in rows if len(name) >= 6 and d.hash.startswith(name)]
    if len(matches) != 1:
        raise FlowRefused(f"{len(matches)} decisions are named {name!r}; see: audit show")
    return matches[0]


def decision_lineage(decision: Decision, registry: ModelRegistry, model: str) -> dict[str, Any]:
    """A decision with the versions that it names, each with its data, and the rows that it rests on."""
    tags = {v.ref: v.tags for v in registry.versions(model)}
    refs = sorted(versions_in(decision, model), key=lambda ref: int(ref.version))
    versions = [{"version": ref.label, "data_digest": tags.get(ref, {}).get("data_digest")} for ref in refs]
    return {"decision": decision_summary(decision), "versions": versions, "data": sorted(_digests_in(decision.payload))}


def versions_in(decision: Decision, model: str) -> frozenset[ModelRef]:
    """The versions of a model that a decision names, as label or as number, anywhere in its payload.

    A bare number counts where its object, or an object around it, names the model.
    """
    return frozenset(ModelRef(model, v) for v in _versions(decision.payload, model, about=False))


def decision_summary(decision: Decision) -> dict[str, Any]:
    """A decision in one line: ``seq id kind actor at reason``."""
    return {
        "seq": decision.seq,
        "id": decision.id,
        "kind": decision.kind,
        "actor": decision.actor,
        "at": decision.at.isoformat(),
        "reason": decision.payload.get("reason"),
    }


def snapshot_summary(ref: SnapshotRef) -> dict[str, Any]:
    """What a snapshot says of itself, as JSON."""
    return {
        "digest": ref.digest,
        "path": str(ref.path),
        "rows": ref.rows,
        "positives": ref.positives,
        "file_digest": ref.file_digest,
        "usecase": ref.usecase,
        "window": [ref.window.start.isoformat(), ref.window.end.isoformat()],
        "source": ref.source,
        "as_of": ref.as_of.isoformat() if ref.as_of else None,
    }


def _params(tracker: Tracker, run_id: str | None) -> Mapping[str, str] | None:
    if run_id is None:
        return None
    try:
        return tracker.params(run_id)
    except VersionMissing:
        return None


def _is_context(name: str) -> bool:
    return name in (*CODE, "data_digest", "data_source") or name.startswith("window_")


def _data(digest: str | None, stores: Sequence[SnapshotStore]) -> dict[str, Any]:
    for store in stores if digest else ():
        try:
            ref = store.describe(str(digest))
            return snapshot_summary(ref) | {"here": ref.path.is_file()}
        except SnapshotMissing:
            continue
    return {"digest": digest, "here": False}


def _ancestors(info: VersionInfo, versions: Mapping[str, VersionInfo]) -> Iterator[str]:
    labels = {info.ref.label}
    parent = info.tags.get("parent", "none")
    while parent != "none" and parent not in labels:
        labels.add(parent)
        yield parent
        parent = versions[parent].tags.get("parent", "none") if parent in versions else "none"


def _versions(value: Any, model: str, about: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        about = value["model"] == model if "model" in value else about
        for name, inner in value.items():
            if about and name in _NUMBERS and re.fullmatch(r"\d+", str(inner)):
                yield str(inner)
            yield from _versions(inner, model, about)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _versions(inner, model, about)
    elif isinstance(value, str) and (match := re.fullmatch(re.escape(model) + r"/(\d+)", value)):
        yield match[1]


def _digests_in(payload: Mapping[str, Any]) -> set[str]:
    return {str(payload[name]) for name in _DATA if payload.get(name)}
