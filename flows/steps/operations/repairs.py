"""Make parts of different age agree after a restore: each disagreement has a name and one repair.

The journal is the truth about roles, the ledger about what was stored, the registry about which versions
exist. ``spool_already_stored`` and ``log_older_than_spool`` need no repair, only a name: the scribe skips what
the ledger holds, and numbers that are nowhere count as quarantined, so the accounting stays exact.

Where the champion's files are gone, ``@previous`` becomes champion as in a rollback; the missing version is not barred.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bentos.errors import ModelError, RegistryUnavailable
from bentos.model.scoring_model import ScoringModel
from bentos.promotion.promote import reconcile
from bentos.registry.ports import ROLES, ModelRef, Role
from bentos.spool.segments import read_segment, segment_path, segments_of, writers_of
from flows.steps.tracking.version_tags import content_tags
from monitoring.store import RoleChange
from monitoring.store.predictions.spool_ledger import WriterState

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_REASON = "registry and journal disagree"


@dataclass(frozen=True)
class Disagreement:
    """One disagreement.

    Attributes:
        name: ``version_missing``, ``artifact_missing``, ``content_differs``, ``experiment_deleted``,
            ``roles_not_in_journal``, ``spool_already_stored``, ``log_older_than_spool`` or ``journal_damaged``.
        subject: the role, the model or the writer of the spool.
        text: what disagrees, and what the repair is.
        repaired: whether it was done; false in a dry run and where people must decide.
    """

    name: str
    subject: str
    text: str
    repaired: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def repair_disagreements(workspace: Workspace, dry_run: bool = False) -> list[Disagreement]:
    """Find what disagrees and, unless it is a dry run, repair it; repeating it finds nothing to repair.

    Raises:
        RegistryUnavailable: the registry cannot be asked.
        ReleaseError: a release is under way.
        StoreUnavailable: the database cannot be used.
    """
    findings = [Disagreement("journal_damaged", "decisions", problem) for problem in workspace.store.decisions.verify()]
    findings += _restore_experiment(workspace, dry_run)
    # In the order of their numbers: MLflow counts on, and a lower one cannot come back after a higher one.
    role_versions = sorted(
        (int(version), role) for role in ROLES if (version := journal_version(workspace, role)) is not None
    )
    findings += [
        finding
        for number, role in role_versions
        if (finding := _recover_version(workspace, role, str(number), dry_run))
    ]
    findings += _follow_journal(workspace, dry_run)
    findings += _check_spool(workspace)
    return findings


def journal_version(workspace: Workspace, role: Role) -> str | None:
    """The version that holds the role by the journal."""
    terms = workspace.store.decisions.terms(workspace.model, role)
    return terms[-1][0] if terms else None


def _restore_experiment(workspace: Workspace, dry_run: bool) -> Iterator[Disagreement]:
    """An experiment that was deleted in MLflow comes back: without it nothing can be trained or registered."""
    if workspace.registry.experiment_deleted(workspace.model):
        if not dry_run:
            workspace.registry.bring_back_experiment(workspace.model)
        text = "the MLflow experiment of that name was deleted: it is brought back"
        yield Disagreement("experiment_deleted", workspace.model, text, repaired=not dry_run)


def _recover_version(workspace: Workspace, role: Role, version: str, dry_run: bool) -> Disagreement | None:
    """A version that the journal has in a role and the registry has lost: again from a verified copy, or it leaves."""
    ref = ModelRef(workspace.model, version)
    contract = workspace.store.decisions.contract_of(workspace.model, version)
    name, problem = _problem(workspace, ref, contract)
    if not name:
        return None
    text = f"the journal has version {version} as @{role}, but {problem}"
    if name == "content_differs":
        return Disagreement(name, f"@{role}", f"{text}; look whether INCUMBENT_MLFLOW_URI names the right registry")
    copy = None if contract is None else workspace.verified_copy(ref, contract)
    if copy is not None:
        after = _register_again(workspace, role, ref, str(contract), copy, name, dry_run)
        return Disagreement(name, f"@{role}", f"{text}: {after}", repaired=not dry_run)
    live = workspace.store.serving.live(workspace.usecase.name)
    serving = [replica.replica for replica in live if replica.version == version]
    if serving and role == "champion":
        return Disagreement(name, f"@{role}", f"{text}; {serving[0]} serves it from its verified copy: repair there")
    return Disagreement(
        name, f"@{role}", f"{text}: {_vacate(workspace, role, version, name, dry_run)}", repaired=not dry_run
    )


def _register_again(
    workspace: Workspace, role: Role, ref: ModelRef, contract: str, copy: Path, name: str, dry_run: bool
) -> str:
    """Give the registry the version back; what was done, in words."""
    if dry_run:
        return "it is registered again from the verified copy"
    new_ref = workspace.registry.restore(ref, copy, content_tags(ScoringModel.load(copy, contract)))
    workspace.registry.point(new_ref.name, role, new_ref.version)
    changes = [] if new_ref == ref else [RoleChange(workspace.model, role, new_ref.version, contract)]
    payload = {"model": workspace.model, "repair": name, "reason": _REASON, "contract": contract, "role": role}
    payload |= {"from_version": ref.version, "to_version": new_ref.version}
    workspace.store.decisions.append(
        workspace.usecase.name, "repair", payload, workspace.actor, datetime.now(UTC), changes
    )
    number = "" if new_ref == ref else f", as version {new_ref.version} since MLflow gives no number twice"
    return f"registered again from the verified copy{number}"


def _vacate(workspace: Workspace, role: Role, version: str, name: str, dry_run: bool) -> str:
    """Let a version leave its role; what becomes of the role, in words."""
    successor = _find_successor(workspace, role, version)
    if not dry_run:
        contract = workspace.store.decisions.contract_of(workspace.model, successor) if successor else None
        changes = [RoleChange(workspace.model, role, successor, contract)]
        if successor is not None and journal_version(workspace, "previous") == successor:
            changes.append(RoleChange(workspace.model, "previous", None))  # nobody is the way back from itself
        payload = {"model": workspace.model, "repair": name, "reason": _REASON, "from_version": version}
        workspace.store.decisions.append(
            workspace.usecase.name, "repair", payload, workspace.actor, datetime.now(UTC), changes
        )
        if successor is None and role in workspace.registry.roles(workspace.model):
            workspace.registry.clear(workspace.model, role)
    return f"version {successor} takes its place" if successor else f"@{role} is vacant now"


def _find_successor(workspace: Workspace, role: Role, missing: str) -> str | None:
    """Who becomes champion instead: whom the older registry has, else the way back; known to the journal, whole."""
    if role != "champion":
        return None
    registry_ref = workspace.registry.roles(workspace.model).get(role)
    for version in (None if registry_ref is None else registry_ref.version, journal_version(workspace, "previous")):
        if (
            version is None
            or version == missing
            or workspace.store.decisions.contract_of(workspace.model, version) is None
        ):
            continue
        ref, contract = (
            ModelRef(workspace.model, version),
            workspace.store.decisions.contract_of(workspace.model, version),
        )
        if not _problem(workspace, ref, contract)[0]:
            return version
    return None


def _problem(workspace: Workspace, ref: ModelRef, contract: str | None) -> tuple[str, str]:
    """Why a version cannot be had with the journal's content: a name and words; two empty texts when it can."""
    try:
        workspace.registry.describe(ref)
    except RegistryUnavailable:
        raise
    except ModelError:
        return "version_missing", "the registry has no such version"
    try:
        with TemporaryDirectory(prefix="incumbent-repair-") as scratch:
            digest = ScoringModel.load(workspace.registry.fetch(ref, Path(scratch))).contract_digest
    except (ModelError, RegistryUnavailable, OSError):
        return "artifact_missing", "its files are gone or damaged"
    if contract not in (None, digest):
        return "content_differs", "the registry holds another model under that number"
    return "", ""


def _follow_journal(workspace: Workspace, dry_run: bool) -> Iterator[Disagreement]:
    """Aliases that the journal does not explain become those of the journal."""
    roles = workspace.registry.roles(workspace.model)
    differences = [
        f"@{role} is {roles[role].version if role in roles else 'vacant'}, by the journal {version or 'vacant'}"
        for role in ROLES
        if (version := journal_version(workspace, role)) != (roles[role].version if role in roles else None)
    ]
    # A champion that was there before any journal stays: an installation may begin with it.
    if not differences or not workspace.store.decisions.terms(workspace.model, "champion"):
        return
    was_reconciled = False
    if not dry_run:
        reconcile(workspace.release_context(), workspace.request(_REASON, datetime.now(UTC)))
        was_reconciled = True
    yield Disagreement(
        "roles_not_in_journal",
        workspace.model,
        f"{'; '.join(differences)}: the aliases follow the journal",
        was_reconciled,
    )


def _check_spool(workspace: Workspace) -> Iterator[Disagreement]:
    folder = workspace.settings.spool(workspace.usecase.name)
    for writer in writers_of(folder):
        state = workspace.store.ledger.state(workspace.usecase.name, writer)
        numbers = segments_of(folder, writer)
        stored_segments = [number for number in numbers if _is_stored(folder, state, number)]
        if stored_segments:
            text = f"{len(stored_segments)} segments are in the log already: the scribe removes them"
            yield Disagreement("spool_already_stored", writer, text)
        missing = _missing(folder, state, [number for number in numbers if number not in stored_segments])
        if missing:
            text = f"{missing} records were stored after this log was backed up and are in neither: they count as lost"
            yield Disagreement("log_older_than_spool", writer, text)


def _is_stored(folder: Path, state: WriterState, number: int) -> bool:
    if number != state.segment:
        return number < state.segment
    return segment_path(folder, state.writer, number).stat().st_size <= state.position


def _missing(folder: Path, state: WriterState, numbers: list[int]) -> int:
    """Numbers between the ledger's last and the first that lies in the spool."""
    for number in numbers:
        position = state.position if number == state.segment else 0
        items = read_segment(segment_path(folder, state.writer, number), position, 1000, final=True).items
        first = next((item.seq for item in items if item.seq > 0), None)
        if first is not None:
            return max(0, first - state.last_seq - 1)
    return 0
