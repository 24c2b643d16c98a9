"""A Dask cluster as the place of heavy work. Nothing of Dask is imported before it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bentos.errors import IncumbentError
from flows.errors import ClusterFailed, ClusterUnreachable, EngineMissing, FlowError

if TYPE_CHECKING:
    from distributed import Client

ANSWER_SECONDS = 10
"""How long a scheduler may take to answer, and how long it may take until a first worker is there."""
RETRIES = 2
"""How often a task is tried again after its worker died; parts are written whole, so that is safe."""

T = TypeVar("T")
Out = TypeVar("Out")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Cluster:
    """A scheduler with workers, and a folder that all of them see.

    Attributes:
        client: connected.
        folder: for what passes between stages.
        progress: told ``(stage, parts done, parts in all)``.
    """

    client: Client
    folder: Path
    progress: Progress

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self.client.nthreads())

    def run(self, stage: str, task: Callable[[T], Out], items: Sequence[T]) -> list[Out]:
        """One task for each item, spread over the workers; what they return, in the order of the items.

        Raises:
            ClusterFailed: a worker died again and again.
            FlowError: whatever the tasks raise on purpose.
        """
        from distributed import as_completed

        self.progress(stage, 0, len(items))
        with self.translate_errors(stage):
            futures = self.client.map(task, list(items), pure=False, retries=RETRIES)
            try:
                for count, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    self.progress(stage, count, len(items))
                return list(self.client.gather(futures))
            finally:
                self.client.cancel(futures)

    @contextmanager
    def translate_errors(self, stage: str) -> Iterator[None]:
        """Turn what a failing cluster raises into an error of ours."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            yield
        except (FlowError, IncumbentError):
            raise
        except KilledWorker as exc:
            raise ClusterFailed(
                f"{stage}: workers died on one part {exc.allowed_failures + 1} times, most often because their memory "
                "ran out; give workers more memory or one thread each (--nthreads 1)"
            ) from exc
        except (FutureCancelledError, OSError, TimeoutError) as exc:
            # A connection that broke is an OSError too.
            raise ClusterFailed(f"{stage}: the cluster or the shared folder failed ({exc}); try again") from exc


@contextmanager
def open_cluster(scheduler: str, shared: Path, progress: Progress) -> Iterator[Cluster]:
    """The cluster behind a scheduler's address, checked before any work; its folder is removed at the end.

    Args:
        scheduler: such as ``tcp://10.0.0.5:8786``.
        shared: a folder that this process and every worker see under the same path.
        progress: of the stages.

    Raises:
        EngineMissing: the extra ``dask`` is not installed.
        ClusterUnreachable: no scheduler, no worker, other versions, or a folder that is not shared.
    """
    client_class = require_dask()
    if not scheduler:
        raise ClusterUnreachable(
            "the engine dask needs the address of a scheduler: --scheduler tcp://HOST:8786, or INCUMBENT_SCHEDULER"
        )
    try:
        client = client_class(scheduler, timeout=ANSWER_SECONDS)
    except (OSError, TimeoutError, ValueError) as exc:
        raise ClusterUnreachable(
            f"no Dask scheduler answers at {scheduler} ({type(exc).__name__}); start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS --nthreads 1`, or name another with --scheduler"
        ) from exc
    folder = shared / "cluster" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        _check_workers(client, scheduler, folder)
        yield Cluster(client, folder, progress)
    finally:
        _remove(folder)
        client.close()


def require_dask() -> Any:
    """The class that connects; raises ``EngineMissing`` without the extra."""
    try:
        import dask.dataframe  # noqa: F401  # it may be missing on its own
        from distributed import Client
    except ImportError as exc:
        raise EngineMissing(f"the engine dask needs {exc.name or 'dask'}: pip install 'incumbent[dask]'") from exc
    return Client


def _check_workers(client: Client, scheduler: str, folder: Path) -> None:
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except TimeoutError as exc:
        raise ClusterUnreachable(
            f"the scheduler at {scheduler} has no worker; start some with `dask worker {scheduler} --nthreads 1`"
        ) from exc
    (folder / "here").touch()
    try:
        visibility = client.run(_look, str(folder / "here"))
    except ImportError as exc:
        raise ClusterUnreachable(
            f"a worker of {scheduler} cannot import {exc.name}; install the same incumbent[dask] on every worker"
        ) from exc
    blind = sorted(address for address, visible in visibility.items() if not visible)
    if blind:
        raise ClusterUnreachable(
            f"worker {blind[0]} does not see {folder.parent}; INCUMBENT_HOME must be a folder that this process and "
            "all workers share under the same path"
        )


def _look(path: str) -> bool:
    """Run on a worker: the rooms import there, and the folder is the same."""
    import xgboost.dask  # noqa: F401  # half of what a worker needs

    import flows.steps.training.train  # noqa: F401  # the other half

    return Path(path).exists()


def _remove(folder: Path) -> None:
    import shutil
    from contextlib import suppress

    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
