"""The process in which a model in shadow scores. Whatever it does there, the champion does not feel it.

Run as ``python -m bentos.shadow.worker FD LOADER``: ``FD`` is an inherited socket that carries msgpack
messages, ``LOADER`` is ``module:function`` and turns a model folder into something that scores.
Standard output stays free for whatever libraries print.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bentos.model.xgboost_booster import import_lean_xgboost
from bentos.shadow.channel import Failed, LoadModel, Ready, Reply, Score, Scored, decode_request, encode

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel

Loader = Callable[[Path, str], "ScoringModel"]
_PR_SET_PDEATHSIG = 1


def load_model(folder: Path, digest: str) -> ScoringModel:
    """The real loader: digests, then golden rows, then warm."""
    from bentos.model.scoring_model import ScoringModel

    model = ScoringModel.load(folder, digest)
    model.check_golden()
    model.warm_up()
    return model


def serve(connection: Connection, loader: Loader) -> None:
    """Answer requests until the other side closes."""
    model: ScoringModel | None = None
    while True:
        try:
            request = decode_request(connection.recv_bytes())
        except EOFError:
            return
        reply: Reply
        try:
            if isinstance(request, LoadModel):
                model = loader(Path(request.folder), request.digest)
                reply = Ready(tuple(model.plan.names), float(model.threshold.value))
            else:
                assert model is not None
                reply = _score(model, request)
        except Exception as exc:  # a model may raise anything; it is the parent's to count
            reply = Failed(type(exc).__name__)
        connection.send_bytes(encode(reply))


def _score(model: ScoringModel, request: Score) -> Scored:
    rows = np.frombuffer(request.features, dtype=np.float32).reshape(-1, request.width)
    scores = model.score(rows)
    calibrated = np.asarray(scores.calibrated, dtype=np.float64)
    flags = np.asarray(model.decide(calibrated, scores.cuts), dtype=np.bool_)
    cuts = b"" if scores.cuts is None else np.asarray(scores.cuts, dtype=np.float64).tobytes()
    return Scored(np.asarray(scores.raw, dtype=np.float32).tobytes(), calibrated.tobytes(), flags.tobytes(), cuts)


def main() -> None:
    """Entry of the process."""
    # A Ctrl-C reaches the whole group; this process ends when its owner does, even in the middle of a score.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(5)  # the champion's process comes first
    import_lean_xgboost()
    module, _, function = sys.argv[2].partition(":")
    loader = getattr(importlib.import_module(module), function)
    serve(Connection(int(sys.argv[1])), loader)


if __name__ == "__main__":
    main()
