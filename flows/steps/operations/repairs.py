"""Make parts of different age agree after a restore: each disagreement has a name and one repair.

The journal is the truth about roles, the ledger about what was stored, the registry about which versions
exist. ``spool_already_stored`` and ``log_older_than_spool`` need no repair, only a name: the scribe skips what
the ledger holds, and numbers that are nowhere count as quarantined, so the accounting stays exact.

Where the champion's files are gone, ``@previous`` takes office as in a rollback; the missing version is not barred.
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
    from flows.workspace.workspace import House

_REASON = "registry and journal disagree"


@dataclass(frozen=True)
class Finding:
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


def repair(house: House, dry_run: bool = False) -> list[Finding]:
    """Find what disagrees and, unless it is a dry run, repair it; repeating it finds nothing to repair.

    Raises:
        RegistryUnavailable: the registry cannot be asked.
        ReleaseError: a release is under way.
        StoreUnavailable: the database cannot be used.
    """
    found = [Finding("journal_damaged", "decisions", problem) for problem in house.store.decisions.verify()]
    found += _experiment(house, dry_run)
    # In the order of their numbers: MLflow counts on, and a lower one cannot come back after a higher one.
    held = sorted((int(version), role) for role in ROLES if (version := journalled(house, role)) is not None)
    found += [finding for number, role in held if (finding := _recover(house, role, str(number), dry_run))]
    found += _follow_journal(house, dry_run)
    found += _spool(house)
    return found


def journalled(house: House, role: Role) -> str | None:
    """The version that holds the role by the journal."""
    terms = house.store.decisions.terms(house.model, role)
    return terms[-1][0] if terms else None


def _experiment(house: House, dry_run: bool) -> Iterator[Finding]:
    """An experiment that was deleted in MLflow comes back: without it nothing can be trained or registered."""
    if house.registry.experiment_deleted(house.model):
        if not dry_run:
            house.registry.bring_back_experiment(house.model)
        text = "the MLflow experiment of that name was deleted: it is brought back"
        yield Finding("experiment_deleted", house.model, text, repaired=not dry_run)


def _recover(house: House, role: Role, version: str, dry_run: bool) -> Finding | None:
    """A version that the journal has in a role and the registry has lost: again from a verified copy, or it leaves."""
    ref = ModelRef(house.model, version)
    contract = house.store.decisions.contract_of(house.model, version)
    name, problem = _problem(house, ref, contract)
    if not name:
        return None
    text = f"the journal has version {version} as @{role}, but {problem}"
    if name == "content_differs":
        return Finding(name, f"@{role}", f"{text}; look whether INCUMBENT_MLFLOW_URI names the right registry")
    copy = None if contract is None else house.verified_copy(ref, contract)
    if copy is not None:
        after = _register_again(house, role, ref, str(contract), copy, name, dry_run)
        return Finding(name, f"@{role}", f"{text}: {after}", repaired=not dry_run)
    live = house.store.serving.live(house.usecase.name)
    serving = [replica.replica for replica in live if replica.version == version]
    if serving and role == "champion":
        return Finding(name, f"@{role}", f"{text}; {serving[0]} serves it from its verified copy: repair there")
    return Finding(name, f"@{role}", f"{text}: {_vacate(house, role, version, name, dry_run)}", repaired=not dry_run)


def _register_again(
    house: House, role: Role, ref: ModelRef, contract: str, copy: Path, name: str, dry_run: bool
) -> str:
    """Give the registry the version back; what was done, in words."""
    if dry_run:
        return "it is registered again from the verified copy"
    made = house.registry.restore(ref, copy, content_tags(ScoringModel.load(copy, contract)))
    house.registry.point(made.name, role, made.version)
    changes = [] if made == ref else [RoleChange(house.model, role, made.version, contract)]
    payload = {"model": house.model, "repair": name, "reason": _REASON, "contract": contract, "role": role}
    payload |= {"from_version": ref.version, "to_version": made.version}
    house.store.decisions.append(house.usecase.name, "repair", payload, house.actor, datetime.now(UTC), changes)
    number = "" if made == ref else f", as version {made.version} since MLflow gives no number twice"
    return f"registered again from the verified copy{number}"


def _vacate(house: House, role: Role, version: str, name: str, dry_run: bool) -> str:
    """Let a version leave its role; what becomes of the role, in words."""
    heir = _heir(house, role, version)
    if not dry_run:
        contract = house.store.decisions.contract_of(house.model, heir) if heir else None
        changes = [RoleChange(house.model, role, heir, contract)]
        if heir is not None and journalled(house, "previous") == heir:
            changes.append(RoleChange(house.model, "previous", None))  # nobody is the way back from itself
        payload = {"model": house.model, "repair": name, "reason": _REASON, "from_version": version}
        house.store.decisions.append(house.usecase.name, "repair", payload, house.actor, datetime.now(UTC), changes)
        if heir is None and role in house.registry.roles(house.model):
            house.registry.clear(house.model, role)
    return f"version {heir} takes its place" if heir else f"@{role} is vacant now"


def _heir(house: House, role: Role, missing: str) -> str | None:
    """Who takes office instead: whom the older registry has there, else the way back; known to the journal, whole."""
    if role != "champion":
        return None
    held = house.registry.roles(house.model).get(role)
    for version in (None if held is None else held.version, journalled(house, "previous")):
        if version is None or version == missing or house.store.decisions.contract_of(house.model, version) is None:
            continue
        ref, contract = ModelRef(house.model, version), house.store.decisions.contract_of(house.model, version)
        if not _problem(house, ref, contract)[0]:
            return version
    return None


def _problem(house: House, ref: ModelRef, contract: str | None) -> tuple[str, str]:
    """Why a version cannot be had with the journal's content: a name and words; two empty texts when it can."""
    try:
        house.registry.describe(ref)
    except RegistryUnavailable:
        raise
    except ModelError:
        return "version_missing", "the registry has no such version"
    try:
        with TemporaryDirectory(prefix="incumbent-repair-") as scratch:
            found = ScoringModel.load(house.registry.fetch(ref, Path(scratch))).contract_digest
    except (ModelError, RegistryUnavailable, OSError):
        return "artifact_missing", "its files are gone or damaged"
    if contract not in (None, found):
        return "content_differs", "the registry holds another model under that number"
    return "", ""


def _follow_journal(house: House, dry_run: bool) -> Iterator[Finding]:
    """Aliases that the journal does not explain become those of the journal."""
    held = house.registry.roles(house.model)
    moved = [
        f"@{role} is {held[role].version if role in held else 'vacant'}, by the journal {wanted or 'vacant'}"
        for role in ROLES
        if (wanted := journalled(house, role)) != (held[role].version if role in held else None)
    ]
    # A champion that was there before any journal stays: an installation may begin with it.
    if not moved or not house.store.decisions.terms(house.model, "champion"):
        return
    done = False
    if not dry_run:
        reconcile(
            house.registry, house.store, house.model, usecase=house.usecase, actor=house.actor,
            now=datetime.now(UTC), reason=_REASON,
        )  # fmt: skip
        done = True
    yield Finding("roles_not_in_journal", house.model, f"{'; '.join(moved)}: the aliases follow the journal", done)


def _spool(house: House) -> Iterator[Finding]:
    folder = house.settings.spool(house.usecase.name)
    for writer in writers_of(folder):
        state = house.store.ledger.state(house.usecase.name, writer)
        numbers = segments_of(folder, writer)
        stored = [number for number in numbers if _is_stored(folder, state, number)]
        if stored:
            text = f"{len(stored)} segments are in the log already: the scribe removes them"
            yield Finding("spool_already_stored", writer, text)
        missing = _missing(folder, state, [number for number in numbers if number not in stored])
        if missing:
            text = f"{missing} records were stored after this log was backed up and are in neither: they count as lost"
            yield Finding("log_older_than_spool", writer, text)


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
