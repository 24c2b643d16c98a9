"""What a search remembers: an Optuna journal file that one process at a time may write.

``optuna.load_study(study_name="tuning", storage=...)`` opens it, and so does Optuna's dashboard.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from flows.errors import FlowRefused, TrainingError

STUDY = "tuning"
_SECONDS = "seconds"


class SearchLog:
    """The trials of one search, in order, and notes beside them. Opened by :func:`search_log`."""

    def __init__(self, study: optuna.Study, path: Path) -> None:
        self._study = study
        self._path = path

    @property
    def trials(self) -> list[FrozenTrial]:
        """Finished trials; none is ever unfinished here."""
        return self._study.get_trials(deepcopy=False)

    def add(self, trial: FrozenTrial) -> None:
        """Keep a finished trial; it is on the disk when this returns."""
        with _disk_errors(self._path):
            self._study.add_trial(trial)

    @property
    def seconds(self) -> float:
        """How long was searched, without the time between a crash and the next start."""
        return float(self.note(_SECONDS) or 0.0)

    @seconds.setter
    def seconds(self, value: float) -> None:
        self.keep_note(_SECONDS, str(value))

    def note(self, name: str) -> str | None:
        """A note, or none."""
        text = self._study.user_attrs.get(name)
        return None if text is None else str(text)

    def keep_note(self, name: str, text: str) -> None:
        """Keep a note."""
        with _disk_errors(self._path):
            self._study.set_user_attr(name, text)


@contextmanager
def search_log(path: Path) -> Iterator[SearchLog]:
    """Open a log, or begin one; no other process may have it open.

    Raises:
        FlowRefused: another process has it open.
        TrainingError: the file is not a log of a search, or cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.with_suffix(".lock").open("a")
    with lock_file as lock:
        try:
            # It ends with the process, however that ends; Optuna's own lock files outlive a kill.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FlowRefused(
                "the same search (data, settings, [tuning]) is under way in another process; wait for it"
            ) from None
        with _disk_errors(path):
            _cut_torn_line(path)
            study = _open(path)
        yield SearchLog(study, path)


def _open(path: Path) -> optuna.Study:
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(path))))
        return optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise TrainingError(
            f"{path} cannot be read as the log of a search ({type(exc).__name__}); delete it to search anew"
        ) from exc


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise TrainingError(
            f"{path} cannot be written ({exc.strerror or type(exc).__name__}); mend that and begin again, "
            "the search goes on"
        ) from exc


def _cut_torn_line(path: Path) -> None:
    """Cut off what a crash left of an unfinished write: the next line would be glued to it."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


class _NoLock(JournalFileOpenLock):
    """Nothing to do: whoever opened the log holds the lock of the whole search."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass
