"""Human approval: who agreed to which verdict, by whose key. No Prefect needed.

A promotion asks (``approval.requested``), a person answers (``approval.granted`` or ``.rejected``) with
a personal key of scope ``approve``, and its owner enters the chain. Whoever trained, appointed or
proposed the version cannot approve it.

A key is never typed into a form: Prefect stores what forms are told, as it is. ``incumbent approve ID
--code`` checks the key on the person's own terminal and gives a code for that one request, good once
and for a quarter of an hour; the chain holds its SHA-256 only.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from bentos.errors import ReleaseError
from bentos.keys import Key
from bentos.promotion.evidence import TRAINING
from bentos.registry.ports import ModelRef
from monitoring.core.hashing import sha256_hex
from monitoring.core.verdict import Verdict
from monitoring.store import Decision, Store

Answer = Literal["approve", "reject"]
CODE_LIFE: Final = timedelta(minutes=15)
_ANSWER_KINDS: Final = ("approval.granted", "approval.rejected")


@dataclass(frozen=True)
class ApprovalRequest:
    """A promotion that waits for a person.

    Attributes:
        id: short name of the request.
        decision: seq of its line in the chain.
        verdict: what is to be approved.
        run_id: of the run that waits, or empty.
        proposer: who asked.
        due: machine time until which it can be answered.
        answer: ``granted`` or ``rejected``, once it was answered.
    """

    id: str
    decision: int
    model: str
    verdict: Verdict
    run_id: str
    proposer: str
    due: datetime
    answer: str | None = None

    def state(self, now: datetime) -> str:
        """``open``, ``expired``, ``granted`` or ``rejected``."""
        return self.answer or ("open" if now < self.due else "expired")


def open_request(
    store: Store, usecase: str, verdict: Verdict, run_id: str, proposer: str, now: datetime, due: datetime
) -> ApprovalRequest:
    """Ask for approval; a run that asked before gets its request back. Times are machine time."""
    model = ModelRef.parse(verdict.challenger).name
    for request in list_requests(store, usecase, model):
        if run_id and request.run_id == run_id:
            return request
        if not run_id and request.verdict.digest == verdict.digest and request.state(now) == "open":
            return request
    payload: dict[str, Any] = {"model": model, "verdict": verdict.to_json(), "digest": verdict.digest, "run_id": run_id}
    payload |= {"due": due.isoformat(), "challenger": verdict.challenger, "champion": verdict.champion}
    return _request(store.decisions.append(usecase, "approval.requested", payload, proposer, now), None)


def list_requests(store: Store, usecase: str, model: str) -> list[ApprovalRequest]:
    """Every request for a model, oldest first."""
    answers = {int(d.payload["request"]): d.kind.removeprefix("approval.") for d in _answers(store, usecase)}
    request_lines = store.decisions.list(usecase, ("approval.requested",), limit=None)
    return [_request(d, answers.get(d.seq)) for d in request_lines if d.payload["model"] == model]


def find_request(store: Store, usecase: str, model: str, name: str) -> ApprovalRequest:
    """The request of that id, or its beginning; an empty name takes the newest. ``ReleaseError`` without one."""
    for request in reversed(list_requests(store, usecase, model)):
        if request.id.startswith(name):
            return request
    raise ReleaseError(f"no promotion of {model} waits for approval under the name {name!r}")


def issue_code(store: Store, usecase: str, request: ApprovalRequest, key: Key, now: datetime) -> str:
    """A one-time code that stands for a key in the form of one request.

    Raises:
        ReleaseError: the request is not open, or the key's owner made or proposed what is to be approved.
    """
    _require_answerable(store, usecase, request, key.owner, now)
    code = secrets.token_hex(8)
    payload = {"model": request.model, "request": request.decision, "owner": key.owner, "key": key.id}
    payload |= {"code_sha256": sha256_hex(code.encode()), "expires": (now + CODE_LIFE).isoformat()}
    store.decisions.append(usecase, "approval.code", payload, key.owner, now)
    return code


@dataclass(frozen=True)
class FormAnswer:
    """What a person typed into the form of a request: the answer, their name, a note and a one-time code."""

    answer: Answer
    name: str
    note: str
    code: str


def redeem(store: Store, usecase: str, request: ApprovalRequest, form: FormAnswer, now: datetime) -> Decision:
    """Take the answer of a form.

    Raises:
        ReleaseError: the code is unknown, used, expired or for another request, or the name is not its owner's.
    """
    code_digest = sha256_hex(form.code.strip().encode())
    used_codes = {int(d.payload["code"]) for d in _answers(store, usecase) if d.payload.get("code") is not None}
    for code_line in store.decisions.list(usecase, ("approval.code",), limit=None):
        code_payload = code_line.payload
        if int(code_payload["request"]) != request.decision or not hmac.compare_digest(
            str(code_payload["code_sha256"]), code_digest
        ):
            continue
        if code_line.seq in used_codes or now >= datetime.fromisoformat(str(code_payload["expires"])):
            break
        if _person(form.name) != _person(str(code_payload["owner"])):
            raise ReleaseError("the name in the form is not that of the key's owner; ask again")
        key = (str(code_payload["owner"]), str(code_payload["key"]))
        return _answer(store, usecase, request, form.answer, key, form.note, now, code=code_line.seq)
    raise ReleaseError("the approval code is unknown, used, expired or for another request; make a new one")


def answer_directly(
    store: Store, usecase: str, request: ApprovalRequest, answer: Answer, key: Key, note: str, now: datetime
) -> Decision:
    """Answer with the key itself, on a terminal; the next run of the promotion finds the answer."""
    return _answer(store, usecase, request, answer, (key.owner, key.id), note, now)


def approved_by(store: Store, usecase: str, verdict: Verdict) -> str | None:
    """Who approved a verdict; ``None`` when nobody did, or somebody rejected it since."""
    approver = None
    for line in _answers(store, usecase):
        if line.payload["digest"] == verdict.digest:
            approver = str(line.payload["owner"]) if line.kind == "approval.granted" else None
    return approver


def rejected_by(store: Store, usecase: str, verdict: Verdict) -> str | None:
    """Who rejected a verdict; ``None`` when nobody did, or somebody approved it since."""
    rejecter = None
    for line in _answers(store, usecase):
        if line.payload["digest"] == verdict.digest:
            rejecter = str(line.payload["owner"]) if line.kind == "approval.rejected" else None
    return rejecter


def makers(store: Store, usecase: str, model: str, version: str) -> frozenset[str]:
    """Who brought a version up: trained, appointed or registered it, by the chain. Lower case."""
    owners = set()
    for line in store.decisions.list(usecase, ("appointment", TRAINING, "registration"), limit=None):
        if line.payload.get("model") == model and str(line.payload.get("version")) == version:
            owners |= {_person(line.actor), *(_person(str(name)) for name in line.payload.get("owners", ()))}
    return frozenset(owners)


def _require_answerable(store: Store, usecase: str, request: ApprovalRequest, owner: str, now: datetime) -> None:
    entries = [entry for entry in list_requests(store, usecase, request.model) if entry.decision == request.decision]
    state = entries[0].state(now) if entries else "unknown"
    if state != "open":
        raise ReleaseError(f"request {request.id} is {state}; the next run of the promotion asks again")
    version = ModelRef.parse(request.verdict.challenger).version
    if _person(owner) in makers(store, usecase, request.model, version) | {_person(request.proposer)}:
        raise ReleaseError(f"{owner} trained or proposed version {version}; somebody else must check it")


def _answer(
    store: Store,
    usecase: str,
    request: ApprovalRequest,
    answer: Answer,
    key: tuple[str, str],
    note: str,
    now: datetime,
    code: int | None = None,
) -> Decision:
    owner, key_id = key
    _require_answerable(store, usecase, request, owner, now)
    payload: dict[str, Any] = {"model": request.model, "request": request.decision, "digest": request.verdict.digest}
    payload |= {"owner": owner, "key": key_id, "note": note, "challenger": request.verdict.challenger, "code": code}
    kind = "approval.granted" if answer == "approve" else "approval.rejected"
    return store.decisions.append(usecase, kind, payload, owner, now)


def _answers(store: Store, usecase: str) -> list[Decision]:
    return store.decisions.list(usecase, _ANSWER_KINDS, limit=None)


def _request(line: Decision, answer: str | None) -> ApprovalRequest:
    payload = line.payload
    verdict, due = Verdict.from_json(payload["verdict"]), datetime.fromisoformat(str(payload["due"]))
    return ApprovalRequest(
        line.id, line.seq, str(payload["model"]), verdict, str(payload["run_id"]), line.actor, due, answer
    )


def _person(owner: str) -> str:
    return owner.strip().casefold()
