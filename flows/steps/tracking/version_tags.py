"""Where a model comes from: code, environment, parent, and the next semantic version.

The parent is the newest registered version, whatever its role: counting from the champion would give two candidates
one number.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import ModelRegistry, VersionInfo
from monitoring.core.hashing import canonical_json, sha256_file, sha256_hex
from monitoring.core.verdict import Evidence, Verdict

PROJECT = Path(__file__).resolve().parents[3]
FIRST_VERSION = "1.0.0"
_SHOWN = ("average_precision", "auc_roc", "recall", "precision", "cost", "calibration_error")

# Tags of a version that later code reads; version_tags() writes these and more.
SEMANTIC_VERSION = "semantic_version"
SCHEMA = "schema_fingerprint"
PLAN = "plan_fingerprint"
PARAMETERS = "parameters_digest"


@dataclass(frozen=True)
class VersionDigests:
    """What decides the semantic version: input schema, features, parameters, each as a digest."""

    schema_fingerprint: str
    plan_fingerprint: str
    parameters_digest: str


def parameters_digest(parameters: Mapping[str, Any], seed: int) -> str:
    """SHA-256 of the training settings and the seed."""
    return sha256_hex(canonical_json(dict(parameters) | {"seed": seed}))


def version_tags(
    model: ScoringModel, parent: VersionInfo | None, verdict: Verdict, evidence: Evidence
) -> dict[str, str]:
    """What the registry says of a version. Gate figures are those of the evaluated twin."""
    gates = {f"gate_{name}": f"{value:.6g}" for name in _SHOWN if (value := evidence.value(name)) is not None}
    relations = {"parent": parent_label(parent) or "none", "champion": verdict.champion or "none"}
    relations["gates"] = verdict.outcome
    return content_tags(model) | relations | gates


def content_tags(model: ScoringModel) -> dict[str, str]:
    """What the registry says of a version that its own files tell."""
    metadata = model.metadata
    return {
        SEMANTIC_VERSION: metadata.semantic_version,
        SCHEMA: model.schema_fingerprint,
        PLAN: model.plan.fingerprint,
        PARAMETERS: parameters_digest(metadata.parameters, metadata.seed),
        "usecase": metadata.usecase,
        "data_digest": metadata.data_digest,
        "training_start": metadata.training_start,
        "training_end": metadata.training_end,
        "as_of": metadata.as_of,
        "rows": str(metadata.rows),
        "positives": str(metadata.positives),
        "seed": str(metadata.seed),
        "threshold": f"{model.threshold.value:.6g}" if model.threshold.amount is None else "by amount",
        "contract_digest": model.contract_digest,
        "booster_digest": model.booster_digest,
        "twin_digest": metadata.twin_digest or "none",
    }


def newest_version(registry: ModelRegistry, name: str) -> VersionInfo | None:
    """The version registered last, whatever its role: the parent of the next one."""
    versions = registry.versions(name)
    return versions[-1] if versions else None


def next_version(parent: VersionInfo | None, own: VersionDigests) -> str:
    """Major: the input schema changed. Minor: features or parameters did. Patch: trained again."""
    if parent is None or SEMANTIC_VERSION not in parent.tags:
        return FIRST_VERSION
    major, minor, patch = (int(part) for part in parent.tags[SEMANTIC_VERSION].split("."))
    if parent.tags.get(SCHEMA) != own.schema_fingerprint:
        return f"{major + 1}.0.0"
    if _is_changed(parent.tags, own):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def parent_label(parent: VersionInfo | None) -> str | None:
    """``dev-fraud/3``, or none for the first version."""
    return None if parent is None else parent.ref.label


def git_commit(folder: Path = PROJECT) -> str | None:
    """The commit of the running code, with ``+changes`` when files differ from it; none outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}+changes" if _git(folder, "status", "--porcelain") else commit


def environment_digest(folder: Path = PROJECT) -> str:
    """SHA-256 of ``requirements.lock``, or of the installed distributions where there is none."""
    lock = folder / "requirements.lock"
    if lock.is_file():
        return sha256_file(lock)
    distributions = sorted({f"{d.name.lower()}=={d.version}" for d in metadata.distributions()})
    return sha256_hex("\n".join(distributions).encode())


def _is_changed(tags: Mapping[str, str], own: VersionDigests) -> bool:
    return tags.get(PLAN) != own.plan_fingerprint or tags.get(PARAMETERS) != own.parameters_digest


def _git(folder: Path, *words: str) -> str | None:
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() if process.returncode == 0 else None
