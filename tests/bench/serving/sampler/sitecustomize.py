"""Samples the main thread of the process that imports it, by its processor time; see ``tests.bench.serving.profiling``.

Python imports a module of this name at its start. Only the worker that serves is sampled. A sample is
taken by a signal handler between two byte codes of the main thread, so the sampled code needs no lock
and is not held up; time inside a C call counts for the function that made the call.
"""

import collections
import os
import signal
import sys
from types import FrameType

_EVERY = 0.001
_DEPTH = 40


def _begin(file: str) -> None:
    stacks: collections.Counter[str] = collections.Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        places: list[str] = []
        while frame is not None and len(places) < _DEPTH:
            places.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            frame = frame.f_back
        stacks["|".join(places)] += 1

    def turn(number: int, frame: FrameType | None) -> None:
        """Begin, or end and write."""
        if signal.getitimer(signal.ITIMER_PROF)[1] == 0:
            signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(f"{file}.part", "w") as out:
            out.writelines(f"{count} {stack}\n" for stack, count in stacks.items())
        os.replace(f"{file}.part", file)

    signal.signal(signal.SIGPROF, sample)
    # Loading is not what is asked about: the bench says when to begin and when to end.
    signal.signal(signal.SIGUSR2, turn)


if "INCUMBENT_BENCH_SAMPLES" in os.environ and any("_bentoml_impl" in word for word in sys.orig_argv):
    _begin(os.environ["INCUMBENT_BENCH_SAMPLES"])
