"""Copies of model versions on this machine, and a note of the last one that was champion here.

With them a restart survives a registry that cannot be reached. The note pins the digest of what was
verified, so a copy that was damaged or changed afterwards is not served from.

    <folder>/<model>/<version>/   model.ubj, contract.json, digests.json
    <folder>/office.json          roles as last seen, with the digest of each verified version
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bentos.errors import ModelCorrupt
from bentos.features.plan import FeaturePlan
from bentos.model.scoring_model import CONTRACT_FILE, DIGESTS_FILE, verified_files
from bentos.registry.ports import ROLES, ModelRef, ModelRegistry, Role
from monitoring.core.hashing import canonical_json, sha256_hex

_NOTE: Final = "office.json"


@dataclass(frozen=True)
class Note:
    """What was active when all was well.

    Attributes:
        roles: the version of each role.
        digests: contract digest of each verified version among them.
    """

    roles: Mapping[Role, ModelRef]
    digests: Mapping[ModelRef, str]


class ModelCache:
    """Verified copies in one folder, which is made on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, ref: ModelRef) -> Path:
        """Where the copy of a version lies or would lie."""
        return self._folder / ref.name / ref.version

    def fetch(self, registry: ModelRegistry, ref: ModelRef, digest: str | None = None) -> tuple[Path, str]:
        """A copy whose files agree with their digests, and its contract digest.

        A good copy is used as it is; a bad one is replaced. A damaged download leaves nothing behind.

        Raises:
            ModelCorrupt: the registry's files differ from their digests, or from ``digest``.
            RegistryUnavailable, VersionMissing: from the registry.
        """
        folder = self.place(ref)
        if folder.is_dir():
            with contextlib.suppress(ModelCorrupt):
                return folder, _digest(folder, digest)
        scratch = folder.with_name(f".{ref.version}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            registry.fetch(ref, scratch)
            copy_digest = _digest(scratch, digest)
            shutil.rmtree(folder, ignore_errors=True)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder, copy_digest

    def kept(self, ref: ModelRef, digest: str) -> Path | None:
        """The copy of a version with exactly that content; none where there is none that is whole."""
        folder = self.place(ref)
        try:
            return folder if folder.is_dir() and _digest(folder, digest) else None
        except ModelCorrupt:
            return None

    def remember(self, note: Note) -> None:
        """Write the note; a crash leaves the old or the new one, never half of one."""
        content = {
            "roles": {role: ref.label for role, ref in note.roles.items()},
            "digests": {ref.label: digest for ref, digest in note.digests.items()},
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._folder / f".{_NOTE}.{os.getpid()}"
        scratch.write_bytes(canonical_json(content))
        scratch.replace(self._folder / _NOTE)

    def recall(self) -> Note | None:
        """The last note, or none where there is none that can be read."""
        try:
            content = json.loads((self._folder / _NOTE).read_bytes())
            roles = {role: ModelRef.parse(content["roles"][role]) for role in ROLES if role in content["roles"]}
            return Note(roles, {ModelRef.parse(label): str(d) for label, d in content["digests"].items()})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def prune(self, name: str, keep: Iterable[ModelRef]) -> None:
        """Delete the copies of a model's versions that are not to be kept."""
        kept_versions = {ref.version for ref in keep}
        with contextlib.suppress(OSError):
            for folder in (self._folder / name).iterdir():
                if folder.name not in kept_versions:
                    shutil.rmtree(folder, ignore_errors=True)


def read_plan(folder: Path, digest: str) -> tuple[FeaturePlan, str]:
    """The feature plan and the input schema's fingerprint of a copy; its booster is not parsed.

    Raises:
        ModelCorrupt: a file differs from its digest, or the contract cannot be read.
    """
    files = verified_files(folder, digest)
    try:
        contract = json.loads(files[CONTRACT_FILE])
        return FeaturePlan.from_json(contract["plan"]), str(contract["schema_fingerprint"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelCorrupt(f"{folder}: {CONTRACT_FILE} cannot be read: {type(exc).__name__}") from exc


def _digest(folder: Path, expected: str | None) -> str:
    return sha256_hex(verified_files(folder, expected)[DIGESTS_FILE])
