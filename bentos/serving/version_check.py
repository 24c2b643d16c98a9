"""Whether a version may serve here: fetch it, compare digests, ask the journal, try it apart, load it.

Everything that a version can get wrong ends as a :class:`Refusal`, is counted by reason, and is
looked at again later, because files may be repaired. Good ones stay loaded for a while, so that a
rollback needs no loading.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bentos.errors import ContractMismatch, IncumbentError, NotPermitted, RegistryUnavailable, VersionMissing
from bentos.features.plan import FeaturePlan
from bentos.model.isolated_check import Verifier
from bentos.model.scoring_model import ScoringModel
from bentos.registry.cache import ModelCache, Note, read_plan
from bentos.registry.ports import ModelRef, ModelRegistry, Role
from bentos.scoring.active_models import ModelHolder
from monitoring.errors import MonitoringError
from monitoring.metrics import serving as metrics
from monitoring.store import Store

log = logging.getLogger("incumbent.examiner")

_RETRY_SECONDS: Final = 30.0
_KEPT_MODELS: Final = 4


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served: a word, a sentence, since when, and when it is looked at again."""

    reason: str
    message: str
    at: datetime
    retry_at: float


class Examiner:
    """Examines versions of one registered model.

    Args:
        name: the registered model.
        schema: fingerprint of the input schema.
        registry: where the files come from.
        cache: local copies, and the note of the last good ones.
        verifier: the process apart.
        permit: raises for a content that the journal does not know; see :class:`Permission`.

    Attributes:
        refused: versions that were refused, and why.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        registry: ModelRegistry,
        cache: ModelCache,
        verifier: Verifier,
        permit: Callable[[ModelRef, str], None],
    ) -> None:
        self.refused: Mapping[ModelRef, Refusal] = {}
        self._name = name
        self._schema = schema
        self._registry = registry
        self._cache = cache
        self._verifier = verifier
        self._permit = permit
        self._holders: dict[ModelRef, ModelHolder] = {}
        self._plans: dict[ModelRef, tuple[FeaturePlan, str]] = {}

    def warm_up(self) -> None:
        """Start the process apart."""
        self._verifier.warm_up()

    def holder(self, ref: ModelRef) -> ModelHolder | None:
        """The version, loaded and warm, or none if it is refused or cannot be had now."""
        if ref not in self._holders and not self._retry_pending(ref):
            try:
                self._holders[ref] = self._load(ref)
            except (IncumbentError, OSError) as exc:
                self._refuse(ref, exc)
            else:
                self._accept(ref)
        return self._holders.get(ref)

    def plan(self, ref: ModelRef) -> FeaturePlan | None:
        """The features of a version in another role; only its contract is read, so its booster may be bad."""
        if ref not in self._plans and not self._retry_pending(ref):
            try:
                folder, digest = self._fetch(ref)
                plan, schema = read_plan(folder, digest)
                if schema != self._schema:
                    raise ContractMismatch("the version was trained for another input schema")
            except (IncumbentError, OSError) as exc:
                self._refuse(ref, exc)
            else:
                self._plans[ref] = (plan, digest)
                self._accept(ref)
        entry = self._plans.get(ref)
        return None if entry is None else entry[0]

    def digests(self) -> Mapping[ModelRef, str]:
        """Contract digest of each accepted version."""
        return {ref: digest for ref, (_, digest) in list(self._plans.items())}

    def remembered(self) -> Mapping[Role, ModelRef]:
        """Roles of the last good time."""
        note = self._cache.recall()
        return {} if note is None else {role: ref for role, ref in note.roles.items() if ref.name == self._name}

    def remember(self, roles: Mapping[Role, ModelRef]) -> None:
        """Note the roles whose versions were accepted, for a start without a registry."""
        accepted_roles = {role: ref for role, ref in roles.items() if ref in self._plans}
        digests = {ref: self._plans[ref][1] for ref in accepted_roles.values()}
        try:
            self._cache.remember(Note(accepted_roles, digests))
        except OSError as exc:
            log.warning("the note of the last good version was not written: %s", exc.strerror)

    def forget(self, keep: Iterable[ModelRef]) -> None:
        """Drop loaded models, plans and copies that no role needs, but the latest few models."""
        needed_refs = set(keep)
        self.refused = {ref: refusal for ref, refusal in self.refused.items() if ref in needed_refs}
        for ref in list(self._holders)[:-_KEPT_MODELS]:
            if ref not in needed_refs:
                del self._holders[ref]
        needed_refs |= self._holders.keys()
        self._plans = {ref: entry for ref, entry in self._plans.items() if ref in needed_refs}
        self._cache.prune(self._name, needed_refs)

    def _load(self, ref: ModelRef) -> ModelHolder:
        folder, digest = self._fetch(ref)
        self._permit(ref, digest)
        self._verifier.check(folder, self._schema)
        model = ScoringModel.load(folder, digest)
        model.check_schema(self._schema)
        model.check_golden()
        holder = ModelHolder(ref, model, digest)
        holder.warm_up()
        self._plans[ref] = (model.plan, digest)
        return holder

    def _fetch(self, ref: ModelRef) -> tuple[Path, str]:
        note = self._cache.recall()
        return self._cache.fetch(self._registry, ref, None if note is None else note.digests.get(ref))

    def _retry_pending(self, ref: ModelRef) -> bool:
        return ref in self.refused and time.monotonic() < self.refused[ref].retry_at

    def _accept(self, ref: ModelRef) -> None:
        self.refused = {other: refusal for other, refusal in self.refused.items() if other != ref}

    def _refuse(self, ref: ModelRef, error: Exception) -> None:
        reason = reason_of(error)
        if reason == "unavailable":  # says nothing about the version: ask again at the next look
            metrics.REGISTRY_POLL_FAILURES.inc()
            return
        message = str(error)
        if ref not in self.refused or self.refused[ref].message != message:
            log.error("%s is refused (%s): %s", ref.label, reason, message)
            metrics.MODEL_REJECTIONS.labels(ref.version, reason).inc()
        refusal = Refusal(reason, message, datetime.now(UTC), time.monotonic() + _RETRY_SECONDS)
        self.refused = {**self.refused, ref: refusal}


class Permission:
    """Whether the journal knows a version's content. What was permitted once stays permitted here.

    A digest beside a file proves that the file is whole, not who wrote it; the journal is written by
    a release only.

    Args:
        model: registered model.
        store: gives the journal; while it is away only known digests pass.
        cache: its note holds the digests that were permitted before a restart.
    """

    def __init__(self, model: str, store: Callable[[], Store], cache: ModelCache) -> None:
        self._model = model
        self._store = store
        self._cache = cache

    def __call__(self, ref: ModelRef, digest: str) -> None:
        """Return for a known content.

        Raises:
            NotPermitted: the journal was read and does not hold the digest.
            RegistryUnavailable: the journal cannot be read; ask again.
        """
        try:
            is_known = digest in self._store().decisions.contracts(self._model)
        except MonitoringError as exc:
            note = self._cache.recall()
            if note is not None and note.digests.get(ref) == digest:
                return
            raise RegistryUnavailable("the journal of decisions cannot be read") from exc
        if not is_known:
            raise NotPermitted(
                f"the journal holds no decision about the content of {ref.label}; "
                "give it the role by a promotion, not by moving the alias"
            )


def reason_of(error: Exception) -> str:
    """One word for why a version cannot serve: unavailable, schema, journal, missing, corrupt."""
    if isinstance(error, RegistryUnavailable | OSError):
        return "unavailable"
    if isinstance(error, ContractMismatch):
        return "schema"
    if isinstance(error, NotPermitted):
        return "journal"
    return "missing" if isinstance(error, VersionMissing) else "corrupt"
