"""``python -m flows.deployments``: make the work pool and deploy everything in ``prefect.yaml``, then end.

Run by the stack as a job of its own, so that a deployment that fails is said and tried again beside a service
that goes on answering.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from flows.home import PROJECT
from flows.parts import POOL, program

TEMPLATE = Path(__file__).with_name("prefect-pool.json")
"""What a run may ask of the worker: nothing. Prefect's own template lets it name a command and an environment."""


def commands() -> list[list[str]]:
    """The commands of Prefect, in order."""
    return [
        ["work-pool", "create", POOL, "--type", "process", "--base-job-template", str(TEMPLATE), "--overwrite"],
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml")],
    ]


def main() -> int:
    """Run them; the code of the first that fails, else 0."""
    for words in commands():
        done = subprocess.run([program("prefect"), *words], stdin=subprocess.DEVNULL, check=False, timeout=600)
        if done.returncode != 0:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
