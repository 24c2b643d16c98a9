"""Look at a model where it cannot hurt: a process apart, warm before it is needed.

A damaged booster can crash the process that parses it. So a version that was never served here is
first loaded, and scored on its golden rows, in a child. The child has XGBoost imported already
(seconds) and forks for each model (milliseconds); whatever happens to the fork, the service reads a
line that says what was wrong.

Run as ``python -m bentos.model.isolated_check``: one JSON request a line on standard input, one JSON answer a
line on standard output. Each request names a folder and the input schema's fingerprint.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

from bentos.errors import ContractMismatch, ModelCorrupt, ModelError
from bentos.model.xgboost_booster import import_lean_xgboost

_MODULE: Final = "bentos.model.isolated_check"


class Verifier:
    """Owns the warm child. One model at a time; thread-safe.

    Args:
        timeout_s: longest time for one model, or for the child's start.
    """

    def __init__(self, timeout_s: float = 60.0) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def warm_up(self) -> None:
        """Start the child if none runs; it imports XGBoost while the caller goes on."""
        with self._lock:
            self._ensure()

    def check(self, folder: Path, schema_fingerprint: str) -> None:
        """Load the model in ``folder`` in the child and score its golden rows.

        Raises:
            ModelCorrupt: a digest or a golden row differs, or the child crashed or hung on it.
            ContractMismatch: the model wants another input schema.
        """
        with self._lock:
            child = self._ensure()
            request = json.dumps({"folder": str(folder), "schema": schema_fingerprint}) + "\n"
            try:
                _stdin(child).write(request.encode())
                _stdin(child).flush()
                answer = self._read(child)
            except (OSError, TimeoutError, ValueError) as exc:
                self._drop()
                raise ModelCorrupt(f"the verifier gave no answer about {folder.name}: {type(exc).__name__}") from exc
        _raise_for(answer)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._drop()

    def _ensure(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self._drop()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).resolve().parents[2],
            )
        return self._child

    def _read(self, child: subprocess.Popen[bytes]) -> dict[str, str]:
        stream = _stdout(child)
        deadline = time.monotonic() + self._timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                chunk = os.read(stream.fileno(), 65_536)
                if not chunk:
                    raise ValueError("the child ended")
                line += chunk
        answer: dict[str, str] = json.loads(line)
        return answer

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        child.wait()


def _stdin(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdin is not None
    return child.stdin


def _stdout(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdout is not None
    return child.stdout


def _raise_for(answer: dict[str, str]) -> None:
    kinds: dict[str, type[ModelError]] = {"corrupt": ModelCorrupt, "schema": ContractMismatch}
    kind = kinds.get(answer.get("refused", ""))
    if kind is not None:
        raise kind(answer["reason"])


def inspect(folder: Path, schema_fingerprint: str) -> dict[str, str]:
    """Load and check one model in this process; the answer is what the child prints."""
    from bentos.model.scoring_model import ScoringModel

    try:
        model = ScoringModel.load(folder)
        model.check_schema(schema_fingerprint)
        model.check_golden()
    except ContractMismatch as exc:
        return {"refused": "schema", "reason": str(exc)}
    except ModelError as exc:
        return {"refused": "corrupt", "reason": str(exc)}
    except Exception as exc:  # an artefact may break anything; the text could hold its content
        return {"refused": "corrupt", "reason": f"it cannot be read: {type(exc).__name__}"}
    return {"digest": model.contract_digest}


def inspect_in_fork(folder: Path, schema_fingerprint: str, timeout_s: float = 30.0) -> dict[str, str]:
    """Fork, inspect there, and say what became of the fork."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        # Even a fault in the interpreter's own shutdown must not reach the parent: leave at once.
        try:
            os.close(reader)
            signal.alarm(int(timeout_s))
            os.write(writer, json.dumps(inspect(folder, schema_fingerprint)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        reply = stream.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        cause = "took too long" if name == "SIGALRM" else f"crashed the process that read it ({name})"
        return {"refused": "corrupt", "reason": f"the model {cause}"}
    try:
        answer: dict[str, str] = json.loads(reply)
    except ValueError:
        return {"refused": "corrupt", "reason": "the model broke the process that read it"}
    return answer


def main() -> None:
    """Serve requests until standard input ends."""
    # The point of this process: imports are paid before a model comes.
    import_lean_xgboost()
    import bentos.features.plan
    import bentos.model.scoring_model  # noqa: F401
    import monitoring.drift.reference_profile  # noqa: F401

    # A Ctrl-C reaches the whole group; this process ends when its owner does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        answer = inspect_in_fork(Path(request["folder"]), request["schema"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
