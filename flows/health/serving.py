"""Who answers: the service, the registry's champion, the journal's, and what the replicas say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Final

import httpx

from flows.health.look import HealthContext, HealthFinding, http_get, not_checked, ok, wrong
from flows.health.parts import NO_STACK
from flows.health.registry_facts import RegistryUnread, read_registry

_SHARDS: Final = ("counter_", "gauge_", "histogram_", "summary_")
_NO_DATABASE: Final = "the database does not answer"


def service(context: HealthContext) -> HealthFinding:
    """Whether the service is ready."""
    url, part = context.service_url, context.part("service")
    if not url:
        if context.stack is not None and context.stack.urls:
            return wrong(f"the stack is up without a part {part}", "Look at logs/supervisor.log; then: incumbent up.")
        return not_checked(NO_STACK)
    try:
        answer = http_get(context, f"{url}/readyz")
    except httpx.HTTPError as exc:
        return wrong(f"{url} does not answer ({type(exc).__name__})", f"Look at logs/{part}.log of the home.")
    if answer.is_success:
        return ok(f"{url} is ready")
    if context.store is not None and not context.store.decisions.terms(context.model, "champion"):
        return ok(f"{url} lives; nobody is in charge yet, so nothing is scored: incumbent train")
    return wrong(
        f"{url} is not ready ({answer.status_code}): {answer.text[:200].strip()}", "See the runbook, NotReady."
    )


def champion(context: HealthContext) -> HealthFinding:
    """Whether journal, registry and service name the same version, and that version is there."""
    if context.store is None:
        return not_checked(_NO_DATABASE)
    terms = context.store.decisions.terms(context.model, "champion")
    journal = terms[-1][0] if terms else None
    try:
        facts = read_registry(context.settings.registry_uri, context.model, context.timeout_s)
    except RegistryUnread as exc:
        return wrong(f"by the journal version {journal}; the registry: {exc}", "See the line mlflow.")
    alias = facts.aliases.get("champion")
    pin = context.store.orders.standing(context.model).pin
    if journal is None and alias is None:
        return ok("nobody is in charge yet")
    if alias is None and pin is None:
        todo = "incumbent status names the repair; find out who changed the registry by hand."
        return wrong(f"by the journal version {journal} is in charge, and the registry has no champion", todo)
    if alias is not None and alias not in facts.versions:
        return wrong(
            f"the registry's champion is version {alias}, which is deleted", "incumbent status names the repair."
        )
    if alias != journal and pin is None:
        return wrong(f"the registry says version {alias}, the journal {journal}", "See the runbook, AliasUnexplained.")
    answering = sorted(
        {
            str(replica.version)
            for replica in context.store.serving.live(context.usecase)
            if replica.model == context.model
        }
    )
    if answering and answering != [str(journal)]:
        return wrong(f"version {journal} is in charge, and {', '.join(answering)} answers", "See AliasServedMismatch.")
    pinned = " (pinned until the registry follows)" if pin is not None else ""
    return ok(f"version {journal}{pinned} by journal and registry{', and it answers' if answering else ''}")


def replicas(context: HealthContext) -> HealthFinding:
    """Signs of life of the replicas."""
    if context.store is None:
        return not_checked(_NO_DATABASE)
    living = context.store.serving.live(context.usecase)
    if not living:
        if context.service_url:
            return wrong(
                "the stack is up, but no replica has given a sign of life for 15 s",
                f"Look at logs/{context.part('service')}.log.",
            )
        return not_checked("none gave a sign of life in the last 15 s, and no stack is up")
    unreachable = [replica.replica for replica in living if not json.loads(replica.detail).get("reachable", True)]
    if unreachable:
        return wrong(
            f"{len(unreachable)} of {len(living)} do not reach the registry", "See the runbook, RegistryUnreachable."
        )
    return ok(f"{len(living)} live, the newest sign of life is {min(replica.age for replica in living):.0f} s old")


def metrics(context: HealthContext) -> HealthFinding:
    """Whether service and exporter tell metrics, with the labels usecase and env."""
    notes, unlabelled = [], []
    for part in (context.part("service"), "exporter"):
        url = context.url(part)
        if not url:
            return not_checked(NO_STACK)
        try:
            answer = http_get(context, f"{url}/metrics")
        except httpx.HTTPError as exc:
            return wrong(f"the {part} gives no metrics ({type(exc).__name__})", f"Look at logs/{part}.log.")
        if answer.status_code in (401, 403):
            notes.append(f"{part} asks for a key")
            continue
        if not answer.is_success:
            return wrong(f"the {part} answers /metrics with {answer.status_code}", f"Look at logs/{part}.log.")
        samples = re.findall(r"^(\w+)(\{[^}]*\})? ", answer.text, flags=re.MULTILINE)
        unlabelled += [name for name, labels in samples if not ("usecase=" in labels and "env=" in labels)]
        notes.append(f"{part} {len(samples)} samples")
    if unlabelled:
        return wrong(
            f"{len(unlabelled)} samples lack usecase or env: {unlabelled[0]}",
            "This is a defect; rules miss these samples.",
        )
    return ok(f"{', '.join(notes)}, each with usecase and env")


def metrics_folder(context: HealthContext) -> HealthFinding:
    """Whether the service counts into files on another disk than the home's: a full one would end it."""
    state = context.stack
    part = None if state is None else state.parts.get(context.part("service"))
    if part is None or part.pid is None:
        return not_checked(NO_STACK)
    folders = {folder for pid in _process_tree(part.pid) for folder in _counter_folders(pid)}
    if not folders:
        return not_checked("no process of the service has a file of counters open, as far as can be seen from here")
    home = os.stat(context.settings.root).st_dev
    same_disk = sorted(folder for folder in folders if os.stat(folder).st_dev == home)
    if same_disk:
        todo = "A full disk would end the service: set INCUMBENT_METRICS_PLACE to a folder in memory."
        return wrong(f"the service counts into {same_disk[0]}, on the disk of the home", todo)
    return ok(f"the service counts into {', '.join(sorted(folders))}")


def _process_tree(pid: int) -> list[int]:
    """A process and everything below it."""
    pids, children = [pid], _children()
    for parent in pids:
        pids += children.get(parent, [])
    return pids


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    return children


def _counter_folders(pid: int) -> set[str]:
    """Folders of the files of counters that a process has mapped into its memory."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    files = (line.partition("/")[2] for line in lines if line.endswith(".db"))
    return {str(Path("/" + file).parent) for file in files if Path(file).name.startswith(_SHARDS)}
