"""The scribe's place behind the process that answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")
def test_the_scribe_and_what_it_starts_leave_the_processor_to_whoever_answers() -> None:
    look = "import json, os; print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)]))"
    code = f"from bentos.scribe import lower_priority; lower_priority(); import subprocess, sys; {look}; "
    code += "sys.stdout.flush(); "
    code += f"subprocess.run([sys.executable, '-c', {look!r}])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert [json.loads(line) for line in said] == [[min(19, mine + 5), os.SCHED_BATCH]] * 2
