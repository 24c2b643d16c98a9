"""Where the time of the serving process goes, by stage: ``python -m tests.bench serving --profile``.

A service of its own is sampled under load (:mod:`tests.bench.sampler`), so that no other figure of the
bench is touched by it. Shares are of the process's own processor time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from flows.drills.load.bodies import BodySpec, Kind
from flows.drills.load.homes import BenchHome
from flows.drills.load.load_generator import LoadRound
from flows.drills.load.run_load import run_load
from flows.errors import StackError
from flows.workspace.processes import free_port, stop_all

if TYPE_CHECKING:
    from tests.bench.serving.servers import Field, Group

Notice = Callable[[str], None]
_SECONDS: Final = 5.0
_PATIENCE: Final = 120.0
_WRITING: Final = 10.0
HTTP: Final = "HTTP, sockets, event loop"
"""Time inside the loop's own C code is noticed in the first function that it calls, which reads a request."""
STAGES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("read and check JSON", ("bentos/schema/json_decoder.py", "bentos/schema/event_schema.py")),
    ("windows and features", (
        "bentos/windows/memory.py", "bentos/windows/entity_series.py", "bentos/windows/series.py",
        "bentos/windows/aggregates.py",
        "bentos/features/online.py", "bentos/features/plan.py",
        "bentos/usecase/calendar_parts.py", "bentos/windows/label_spans.py")),
    ("trees", ("bentos/model/xgboost_booster.py",)),
    ("calibration", ("bentos/model/calibration.py", "bentos/scoring/active_models.py", "bentos/scoring/arms.py")),
    ("log", ("bentos/spool/writer.py", "bentos/spool/segments.py")),
    ("canonical body and its hash", ("bentos/schema/event.py", "monitoring/core/hashing.py")),
    ("answers and records", ("bentos/scoring/answers.py", "bentos/scoring/scorer.py")),
    (HTTP, (
        "bentos/api/uvicorn_shortcut.py", "bentos/api/front_door.py",
        "bentos/http_errors.py", "bentos/scoring/batcher.py", "/uvicorn/")),
    ("counting", ("monitoring/metrics/serving.py", "/prometheus_client/")),
)  # fmt: skip


def profiled(root: Path, field: Field, notice: Notice) -> dict[str, dict[str, float]]:
    """Share of the serving process's time by stage, for each of ours that takes part."""
    found = {}
    kinds: Mapping[str, Kind] = {"ours_vector": "row", "ours_event": "event"}
    for name, kind in kinds.items():
        if field.server(name) is not None:
            notice(f"profile of {name}")
            found[name] = _profile(root, field, name, kind)
    return found


def _profile(root: Path, field: Field, name: str, kind: Kind) -> dict[str, float]:
    from tests.bench.serving.servers import Group, descendants

    place = root / "homes" / f"profile-{name}"
    shutil.rmtree(place, ignore_errors=True)
    models = field.models
    home = BenchHome(root / "base").copy(place, str(models.vector_usecase) if kind == "row" else None)
    samples, port = place / "samples.txt", free_port()
    changes = {"INCUMBENT_BENCH_SAMPLES": str(samples), "PYTHONPATH": str(Path(__file__).parent / "sampler")}
    group = Group(name, [home.service(port, changes), home.scribe()], home)
    try:
        _wait(group)
        body = BodySpec(kind, 100_000, 0, features=str(models.features), names=models.names)
        load = LoadRound(port, "/score", body, 32, _SECONDS, 0.5, None, "p-")
        run_load(load)  # what is loaded late is loaded now
        workers = [pid for pid in descendants(group.children[0].pid) if _is_worker(pid)]
        _tell(workers)
        run_load(msgspec.structs.replace(load, ids="q-"))
        _tell(workers)
        deadline = time.monotonic() + _WRITING
        while not samples.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        stop_all(group.children)
    if not samples.is_file():
        raise StackError("the serving process wrote no samples; only Linux can tell which process serves")
    return shares(samples.read_text().splitlines())


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"_bentoml_impl" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _tell(pids: Iterable[int]) -> None:
    """Begin, or end, sampling."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)


def _wait(group: Group) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not all(child.ready() for child in group.children):
        if time.monotonic() > deadline:
            raise StackError(f"{group.name} was not ready within {_PATIENCE:.0f} s")
        time.sleep(0.1)


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Share of each stage; a line is a count and a stack, innermost function first."""
    counted: Counter[str] = Counter()
    for line in lines:
        count, _, stack = line.partition(" ")
        counted[stage_of(stack.split("|"))] += int(count)
    total = counted.total()
    return {stage: round(count / total, 4) for stage, count in counted.most_common()} if total else {}


def stage_of(stack: Iterable[str]) -> str:
    """The stage of the innermost function that belongs to one; whatever is left is the loop."""
    for place in stack:
        for stage, files in STAGES:
            if any(file in place for file in files):
                return stage
    return HTTP
