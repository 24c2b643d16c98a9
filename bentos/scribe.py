"""The scribe's process: ships the spool into the database and scores the shadow. It logs counts, never data.

Run as ``python -m bentos.scribe``, beside each serving process that shares its spool folder.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bentos.errors import IncumbentError
from bentos.settings import Settings, read_settings
from bentos.shadow.scorer import ShadowScorer
from bentos.spool.shipper import BATCH, Scribe, ShipResult, accounting
from bentos.spool.throttle import Idleness
from bentos.usecase.definition import UseCase, miss_cost_of
from bentos.usecase.loading import load_usecase
from monitoring.errors import MonitoringError
from monitoring.store import Store, open_store

if TYPE_CHECKING:
    from bentos.promotion.promote import ReleaseContext, ReleaseOutcome
    from bentos.shadow.external import ExternalShadow

__all__ = ["Scribe", "ScribeProcess", "ShipResult", "accounting", "main"]

log = logging.getLogger("incumbent.scribe")

POLL_SECONDS: Final = 0.2
_REPAIR_SECONDS: Final = 5.0
_WATCH_SECONDS: Final = 5.0
_LONGEST_BACKOFF: Final = 5.0
_REPORT_SECONDS: Final = 10.0
_BEAT_SECONDS: Final = 15.0


class ScribeProcess:
    """What ``python -m bentos.scribe`` runs: ships in the main thread, and does the rest beside it.

    Args:
        settings: folders and addresses.
        usecase: what is shipped.
        poll_seconds: pause when there is nothing to do.
        shadow: whether models in shadow are scored here too.
        watch: whether a new champion is watched here too, and rolled back if it harms.
    """

    def __init__(
        self,
        settings: Settings,
        usecase: UseCase,
        poll_seconds: float = POLL_SECONDS,
        shadow: bool = True,
        watch: bool = True,
    ) -> None:
        self._settings = settings
        self._usecase = usecase
        self._poll = poll_seconds
        self._with_shadow = shadow
        self._with_watch = watch
        self._folder = settings.spool(usecase.name)
        self._stop = threading.Event()

    def stop(self, *_: object) -> None:
        """Finish the batch and end."""
        self._stop.set()

    def run(self) -> None:
        """Work until :meth:`stop`."""
        store = self._open_store()
        if store is None:
            return
        self._store_miss_cost(store)
        threads = self._background_threads(store)
        for thread in threads:
            thread.start()
        try:
            with self._spool_lock():
                self._ship_forever(store)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=8.0)
            store.close()

    def _store_miss_cost(self, store: Store) -> None:
        """For the view of open alerts; a database that is busy now is told at the next start."""
        with contextlib.suppress(MonitoringError):
            store.alerts.price(self._usecase.name, *miss_cost_of(self._usecase))

    def _background_threads(self, store: Store) -> list[threading.Thread]:
        jobs = [
            ("shadow", self._score_forever, self._with_shadow),
            ("watch", self._watch_forever, self._with_watch),
            ("overdue", self._end_overdue_forever, True),
            ("heartbeat", self._send_heartbeats, True),
        ]
        return [threading.Thread(target=job, args=(store,), name=name, daemon=True) for name, job, on in jobs if on]

    def _open_store(self) -> Store | None:
        stores: list[Store] = []

        def round_() -> bool:
            stores.append(open_store(self._settings.log_url))
            return True

        self._repeat(round_, until=lambda: bool(stores))
        return stores[0] if stores else None

    def _ship_forever(self, store: Store) -> None:
        usecase = self._usecase
        scribe = Scribe(
            store, self._folder, usecase.name, usecase.label, stop=self._stop, filled=usecase.lookup_column_names
        )
        counter = _Counter("shipped")

        def round_() -> bool:
            result = scribe.run_once()
            counter.add(asdict(result))
            # A round costs the same for one record as for a thousand: rather few full ones than many small ones.
            return result.shipped >= BATCH

        self._repeat(round_)

    def _score_forever(self, store: Store) -> None:
        from bentos.registry.mlflow import open_registry

        name = self._usecase.name
        cache = self._settings.cache(name) / "shadow"
        scorer = ShadowScorer(store, open_registry(self._settings), name, self._settings.model_name(name), cache)
        external_shadow = self._external(store)
        counter = _Counter("scored in shadow")
        idleness = Idleness()

        def round_() -> bool:
            start = time.monotonic()
            result = scorer.run_once()
            if external_shadow is not None:
                result += external_shadow.run_once()
            counter.add({"rows": result.scored, "errors": result.errors, "processes lost": result.failures})
            # The shadow uses time that nobody else wants: at the machine's limit it falls behind and catches up later.
            self._stop.wait(idleness.rest_after(time.monotonic() - start))
            return result.full

        try:
            self._repeat(round_)
        finally:
            scorer.close()

    def _watch_forever(self, store: Store) -> None:
        from bentos.release.watch import Watch

        context = self._release_context(store)
        watch = Watch(context)

        def round_() -> bool:
            self._stop.wait(_WATCH_SECONDS)
            if not self._stop.is_set() and (result := watch.run_once(datetime.now(UTC))) is not None:
                self._list_affected(context, result, "watch")
            return False

        self._repeat(round_)

    def _end_overdue_forever(self, store: Store) -> None:
        """Mends what the registry missed, ends what has come to its time, writes the lists that others left unwritten.

        No option turns it off.
        """
        from bentos.promotion.reconcile import reconcile_quietly
        from bentos.release.expiry import ACTOR, end_overdue
        from bentos.release.missing_lists import write_missing_lists

        context = self._release_context(store)

        def round_() -> bool:
            self._stop.wait(_REPAIR_SECONDS)
            if self._stop.is_set():
                return False
            reconcile_quietly(context, datetime.now(UTC))
            result = end_overdue(context, datetime.now(UTC))
            if result is not None:
                self._list_affected(context, result, ACTOR)
            for affected in write_missing_lists(context, self._settings, datetime.now(UTC)):
                log.warning("the list of a rollback was missing and is written now: %s", affected.summary)
            return False

        self._repeat(round_)

    def _send_heartbeats(self, store: Store) -> None:
        """Say that this process lives: nobody can ask it."""

        def round_() -> bool:
            store.heartbeats.beat(self._usecase.name, "scribe")
            self._stop.wait(_BEAT_SECONDS)
            return False

        self._repeat(round_)

    def _release_context(self, store: Store) -> ReleaseContext:
        from bentos.promotion.context import ReleaseContext
        from bentos.registry.mlflow import open_registry

        model = self._settings.model_name(self._usecase.name)
        return ReleaseContext(open_registry(self._settings), store, self._usecase, model, wait_seconds=10.0)

    def _list_affected(self, context: ReleaseContext, result: ReleaseOutcome, actor: str) -> None:
        """The events that a rollback by itself changes, for those who call customers; the rollback stands anyway."""
        from bentos.release.affected_events import affected_by_rollback

        try:
            affected = affected_by_rollback(context, self._settings, result, actor, datetime.now(UTC))
        except (IncumbentError, MonitoringError, OSError) as exc:
            log.error("the events that this rollback changes could not be listed: %s", type(exc).__name__)
        else:
            log.warning("%s", "nobody is affected" if affected is None else affected.summary)

    def _external(self, store: Store) -> ExternalShadow | None:
        from bentos.shadow.external import ExternalShadow

        incumbent = self._usecase.incumbent
        return None if incumbent is None else ExternalShadow(store, self._usecase.name, incumbent)

    def _repeat(self, action: Callable[[], bool], until: Callable[[], bool] = lambda: False) -> None:
        """Act until stopped: at once after a busy round, after a pause else, ever later after failures."""
        failures = 0
        while not self._stop.is_set():
            try:
                busy, failures = action(), 0
            except (MonitoringError, IncumbentError, OSError) as exc:
                failures += 1
                busy = False
                log.warning("round failed, trying again: %s", type(exc).__name__ if isinstance(exc, OSError) else exc)
            except Exception as exc:  # the process must outlive any fault; the text could hold data
                failures += 1
                busy = False
                log.error("round failed, trying again: %s", type(exc).__name__)
            if until():
                return
            if not busy:
                self._stop.wait(min(_LONGEST_BACKOFF, self._poll * 2.0 ** min(failures, 10)))

    @contextlib.contextmanager
    def _spool_lock(self) -> Iterator[None]:
        """Hold the spool's lock; a second scribe waits here as a stand-by."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder / ".scribe.lock", os.O_CREAT | os.O_RDWR, 0o640)
        is_waiting = False
        try:
            while not self._stop.is_set():
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if not is_waiting:
                    log.info("another scribe ships this spool; standing by")
                is_waiting = True
                self._stop.wait(1.0)
            yield
        finally:
            os.close(fd)


class _Counter:
    """Adds up counts and logs them now and then."""

    def __init__(self, title: str) -> None:
        self._what = title
        self._sums: dict[str, int] = {}
        self._due = time.monotonic()

    def add(self, counts: dict[str, int]) -> None:
        for name, value in counts.items():
            self._sums[name] = self._sums.get(name, 0) + int(value)
        if any(self._sums.values()) and time.monotonic() >= self._due:
            text = ", ".join(f"{name} {value}" for name, value in self._sums.items() if value)
            log.info("%s: %s", self._what, text)
            self._sums.clear()
            self._due = time.monotonic() + _REPORT_SECONDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; ``--accounting`` prints the identity as JSON and ends."""
    parser = argparse.ArgumentParser(prog="python -m bentos.scribe", description=main.__doc__)
    parser.add_argument("--usecase", default="", help="name or TOML file; default INCUMBENT_USECASE")
    parser.add_argument("--poll", type=float, default=POLL_SECONDS, help="seconds between looks at an idle spool")
    parser.add_argument("--no-shadow", action="store_true", help="score no model in shadow")
    parser.add_argument("--no-watch", action="store_true", help="leave a new champion unwatched")
    parser.add_argument("--accounting", action="store_true", help="print where every accepted record is, and end")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = read_settings()
    usecase = load_usecase(options.usecase or settings.usecase)
    if options.accounting:
        return _print_accounting(settings, usecase)
    lower_priority()
    process = ScribeProcess(settings, usecase, options.poll, not options.no_shadow, not options.no_watch)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.stop)
    log.info("shipping %s", usecase.name)
    process.run()
    log.info("stopped in order")
    return 0


def lower_priority() -> None:
    """Let whoever answers have the processor first; the shadow's process inherits it.

    On two cores the records of 10,000 events a second take two thirds of one, in long stretches, and what
    is shipped may be seconds late while an answer may not.
    """
    os.nice(5)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # A batch process does not interrupt another one when it wakes up.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            # Where Linux groups processes by session, niceness counts within the session only.
            if os.getsid(0) == os.getpid():
                Path("/proc/self/autogroup").write_text("5")


def _print_accounting(settings: Settings, usecase: UseCase) -> int:
    store = open_store(settings.log_url)
    try:
        account = accounting(store, settings.spool(usecase.name), usecase.name)
    finally:
        store.close()
    print(json.dumps(asdict(account)))  # noqa: T201  # a command talks to people
    return 0 if account.is_balanced else 1


if __name__ == "__main__":
    raise SystemExit(main())
