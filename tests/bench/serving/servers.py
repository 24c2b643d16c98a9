"""The servers of the bench: how each is started, what it is sent, and how it is kept still.

All run at once but only one is awake: the others are stopped by SIGSTOP, so that rounds can take
turns without paying for a start each time, and nobody's idle work disturbs the one that is measured.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.drills.load.bodies import BodySpec, Kind
from flows.drills.load.homes import BenchHome
from flows.errors import StackError
from flows.stack.local_stack import program
from flows.workspace.installation import PROJECT, QUIET
from flows.workspace.processes import Child, Command, free_port, stop_all
from tests.bench.serving.mlserver import mlserver_program, write_model
from tests.bench.serving.models import BenchModels, bench_models

Notice = Callable[[str], None]
_RIVALS = "tests.bench.serving.rivals"
_START_SECONDS = 240.0


@dataclass
class Group:
    """Processes that serve together.

    Attributes:
        name: for people.
        children: what was started.
        home: where ours log; none for other people's servers.
        since: when it was started.
    """

    name: str
    children: Sequence[Child]
    home: BenchHome | None = None
    since: float = field(default_factory=time.monotonic)

    def freeze(self) -> None:
        """Stop every process where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def cpu_seconds(self) -> list[float]:
        """Processor time so far of each child with its descendants; zeros where the system does not tell."""
        return [cpu_seconds(descendants(child.pid)) for child in self.children]

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            for pid in descendants(child.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


def descendants(root: int) -> list[int]:
    """A process and everything that it, or its children, started; parents first. Only itself without ``/proc``.

    BentoML gives its workers process groups of their own, so a group would not do.
    """
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = file.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(file.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time so far of living processes; 0 without ``/proc``."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """One line of the table.

    Attributes:
        name: as in the JSON.
        group: the processes behind it.
        port, path, kind: where requests go and what they hold.
        echo_ids: whether answers must name the event.
        holds: text that every answer must hold.
    """

    name: str
    group: Group
    port: int
    path: str
    kind: Kind
    echo_ids: bool = True
    holds: str = ""


@dataclass
class Field:
    """Everybody who takes part.

    Attributes:
        servers: in the order of the table.
        skipped: name and reason of those who could not be started.
        started: every group that must be stopped in the end.
        models: what is served.
    """

    models: BenchModels
    servers: list[Server] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    started: list[Group] = field(default_factory=list)

    @property
    def groups(self) -> list[Group]:
        """The processes, each group once."""
        return list({id(server.group): server.group for server in self.servers}.values())

    def server(self, name: str) -> Server | None:
        """The server of that name, if it takes part."""
        return next((server for server in self.servers if server.name == name), None)

    def body(self, server: Server, count: int, first: int) -> BodySpec:
        """What a server is sent."""
        return BodySpec(server.kind, count, first, features=str(self.models.features), names=self.models.names)

    @contextlib.contextmanager
    def awake(self, group: Group) -> Iterator[None]:
        """Only this group runs while the block does."""
        group.thaw()
        time.sleep(0.2)  # threads that were stopped look at their clocks first
        try:
            yield
        finally:
            group.freeze()


@contextlib.contextmanager
def running_field(root: Path, notice: Notice, wanted: Sequence[str] = ()) -> Iterator[Field]:
    """Start everybody (or those ``wanted``), wait until all are ready, keep them still; stop them afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    notice("model")
    found = Field(bench_models(root / "model"))
    shutil.rmtree(root / "homes", ignore_errors=True)
    base = base_home(root / "base", found.models)
    try:
        for start, names in _STARTS:
            if wanted and not set(wanted) & set(names):
                continue
            notice(f"start {names[0]}")
            try:
                new = start(root, base, found.models)
                found.servers += new
                found.started = found.groups
            except StackError as exc:
                found.skipped |= dict.fromkeys(names, exc.message)
        found.servers.sort(key=lambda server: ORDER.index(server.name))
        notice("wait until all are ready")
        _wait_all(found)
        yield found
    finally:
        for group in found.started:
            group.thaw()
        stop_all([child for group in found.started for child in group.children])


def _wait_all(found: Field) -> None:
    """Keep each group still as soon as it is ready, so that the rest starts faster."""
    waiting = list(found.started)
    while waiting:
        time.sleep(0.1)
        for group in list(waiting):
            try:
                if not all(child.ready() for child in group.children):
                    if time.monotonic() - group.since < _START_SECONDS:
                        continue
                    raise StackError(f"{group.name} was not ready within {_START_SECONDS:.0f} s")
            except StackError as exc:
                lost = [server for server in found.servers if server.group is group]
                found.skipped |= {server.name: exc.message for server in lost}
                found.servers = [server for server in found.servers if server.group is not group]
            group.freeze()
            waiting = [other for other in waiting if other is not group]


def base_home(folder: Path, models: BenchModels) -> BenchHome:
    """A home with every version in its role, from which the others are copied; an earlier run's is used again."""
    base, vector = BenchHome(folder), BenchHome(folder, str(models.vector_usecase))
    mark = folder / "seated"
    wanted = "\n".join(model.contract_digest for model in (*models.events, *models.vectors))
    if mark.is_file() and mark.read_text() == wanted:
        return base
    shutil.rmtree(folder, ignore_errors=True)
    base.home.make()
    base.seat(models.events)
    vector.seat(models.vectors)
    mark.write_text(wanted)
    return base


def _ours(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    """Three services: raw events with shadow, raw events without, precomputed features with shadow."""
    homes = (
        base.copy(root / "homes" / "event"),
        base.copy(root / "homes" / "event-no-shadow"),
        base.copy(root / "homes" / "vector", str(models.vector_usecase)),
    )
    homes[1].registry.clear(homes[1].model, "challenger")
    ports = [free_port() for _ in homes]
    event, still, precomputed = (
        Group(home.root.name, [home.service(port), home.scribe(shadow=home is not homes[1])], home)
        for home, port in zip(homes, ports, strict=True)
    )
    return [
        Server("ours_vector", precomputed, ports[2], "/score", "row"),
        Server("ours_event", event, ports[0], "/score", "event"),
        Server("ours_batch100", event, ports[0], "/score/batch", "batch"),
        Server("ours_explain", event, ports[0], "/score?explain=true", "event", holds='"reasons"'),
        Server("ours_no_shadow", still, ports[1], "/score", "event"),
    ]


def _uvicorn(module: str, port: int, root: Path, environment: dict[str, str], health: str) -> Child:
    argv = [
        sys.executable, "-m", "uvicorn", f"{_RIVALS}.{module}:app", "--host", "127.0.0.1", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}{health}"
    return Child(Command(module, argv, environment, root / "logs" / f"{module}.log", url))


def _environment(models: BenchModels, **changes: str) -> dict[str, str]:
    foreign = ("INCUMBENT_", "BENTOML_", "MLFLOW_", "PROMETHEUS_MULTIPROC_DIR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # One thread for the trees, as in ours: more only add waiting at one row a request.
    ours = {"INCUMBENT_BENCH_MODEL": str(models.booster), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    return kept | QUIET | ours | changes


def _echo(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    port = free_port()
    group = Group("asgi_echo", [_uvicorn("echo", port, root, _environment(models), "/")])
    return [Server("asgi_echo", group, port, "/score", "event")]


def _fastapi(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    port = free_port()
    group = Group("fastapi", [_uvicorn("fastapi_app", port, root, _environment(models), "/openapi.json")])
    return [Server("fastapi", group, port, "/score", "row")]


def _bento(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    port = free_port()
    argv = [program("bentoml"), "serve", f"{_RIVALS}.bento_default:Scorer", "--host", "127.0.0.1", "--port", str(port)]
    environment = _environment(models, BENTOML_HOME=str(root / "bento"))
    command = Command(
        "bento_default", [*argv, "--working-dir", str(PROJECT)], environment, root / "logs" / "bento_default.log",
        f"http://127.0.0.1:{port}/readyz",
    )  # fmt: skip
    (root / "bento").mkdir(exist_ok=True)
    group = Group("bento_default", [Child(command)])
    return [Server("bento_default", group, port, "/score", "rows")]


def _mlserver(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    found = mlserver_program(root.parent / "mlserver")
    ports = (free_port(), free_port(), free_port())
    folder = write_model(root / "mlserver-model", models.booster, ports)
    kept = {k: v for k, v in _environment(models).items() if not k.startswith("PYTHON")}
    command = Command(
        "mlserver", [str(found), "start", str(folder)], kept, root / "logs" / "mlserver.log",
        f"http://127.0.0.1:{ports[0]}/v2/models/fraud/ready",
    )  # fmt: skip
    group = Group("mlserver", [Child(command)])
    return [Server("mlserver", group, ports[0], "/v2/models/fraud/infer", "v2", echo_ids=False)]


def _mlflow(root: Path, base: BenchHome, models: BenchModels) -> list[Server]:
    """The registered version itself, as ``mlflow models serve`` finds it."""
    port = free_port()
    # A home of its own: what is kept still may hold a lock.
    own = base.copy(root / "homes" / "mlflow")
    argv = [program("mlflow"), "models", "serve", "-m", f"models:/{own.model}/1", "--env-manager", "local"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = _environment(models) | own.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    command = Command(
        "mlflow_serve", argv, environment, root / "logs" / "mlflow_serve.log", f"http://127.0.0.1:{port}/ping"
    )
    group = Group("mlflow_serve", [Child(command)])
    return [Server("mlflow_serve", group, port, "/invocations", "split", echo_ids=False)]


_STARTS: tuple[tuple[Callable[[Path, BenchHome, BenchModels], list[Server]], tuple[str, ...]], ...] = (
    (_mlserver, ("mlserver",)),  # first, because it may have to be installed
    (_ours, ("ours_vector", "ours_event", "ours_batch100", "ours_explain", "ours_no_shadow")),
    (_echo, ("asgi_echo",)),
    (_fastapi, ("fastapi",)),
    (_bento, ("bento_default",)),
    (_mlflow, ("mlflow_serve",)),
)
ORDER = (
    "fastapi", "bento_default", "mlserver", "mlflow_serve", "asgi_echo", "ours_vector", "ours_event",
    "ours_batch100", "ours_explain", "ours_no_shadow",
)  # fmt: skip
