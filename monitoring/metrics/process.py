"""CPU, memory and disk of a serving process, against what it may use.

BentoML merges the metrics of processes through files, and prometheus_client then leaves its own process
metrics out; these take their place. They are read when somebody asks for ``/metrics``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge

from monitoring.metrics.serving import NAMESPACE

_CGROUP: Final = Path("/sys/fs/cgroup")


def _gauge(name: str, text: str) -> Gauge:
    return Gauge(name, text, namespace=NAMESPACE, multiprocess_mode="livemostrecent")


CPU: Final = Counter("process_cpu_seconds", "CPU time of the serving process, user and system", namespace=NAMESPACE)
CPU_LIMIT: Final = _gauge("process_cpu_limit_cores", "Cores that the serving process may use; it scores on one")
MEMORY: Final = _gauge("process_resident_memory_bytes", "Resident memory of the serving process")
MEMORY_LIMIT: Final = _gauge("process_memory_limit_bytes", "Memory that the container or the machine allows")
SPOOL_OLDEST: Final = _gauge("spool_oldest_seconds", "Age of the oldest spool segment not yet shipped; 0 when empty")
SPOOL_CAP: Final = _gauge("spool_limit_bytes", "Size of the spool at which the log mode decides")
DISK_FREE: Final = _gauge("spool_disk_free_bytes", "Free space where the spool lies")


class ProcessLoad:
    """Sets the gauges of this process.

    Args:
        spool: folder of the spool.
        spool_limit: its cap, in bytes.
    """

    def __init__(self, spool: Path, spool_limit: int) -> None:
        self._spool = spool
        self._limit = spool_limit
        self._counted = 0.0
        self._cores = usable_cores()
        self._memory = memory_limit()

    def observe(self) -> None:
        """Bring everything up to date."""
        cpu_seconds = time.process_time()
        CPU.inc(cpu_seconds - self._counted)
        self._counted = cpu_seconds
        CPU_LIMIT.set(self._cores)
        MEMORY.set(resident_bytes())
        MEMORY_LIMIT.set(self._memory)
        SPOOL_CAP.set(self._limit)
        SPOOL_OLDEST.set(oldest_seconds(self._spool, time.time()))
        with contextlib.suppress(OSError):
            DISK_FREE.set(shutil.disk_usage(self._spool).free)


def oldest_seconds(folder: Path, now: float) -> float:
    """How long ago the least recently written segment was written; 0 where there is none."""
    written_times = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".seg"):
                with contextlib.suppress(OSError):
                    written_times.append(entry.stat().st_mtime)
    return max(0.0, now - min(written_times, default=now))


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Cores by affinity and by the container's quota, whichever is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            return min(float(cores), int(quota) / int(period))
    return float(cores)


def memory_limit(cgroup: Path = _CGROUP) -> int:
    """Memory that the container, else the machine, allows; 0 where neither says."""
    with contextlib.suppress(OSError, ValueError):
        text = (cgroup / "memory.max").read_text().strip()
        if text != "max":
            return int(text)
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
