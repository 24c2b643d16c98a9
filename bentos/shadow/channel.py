"""The wire to a process that scores in shadow: what is said over it, and the end that we hold."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray


class LoadModel(msgspec.Struct, tag=True, array_like=True):
    """Load the model in ``folder``, whose contract digest must be ``digest``."""

    folder: str
    digest: str


class Score(msgspec.Struct, tag=True, array_like=True):
    """Score rows of float32 features, ``width`` columns in the model's own order."""

    width: int
    features: bytes


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The model is loaded; it wants these features and alerts at or above ``threshold``."""

    names: tuple[str, ...]
    threshold: float


class Scored(msgspec.Struct, tag=True, array_like=True):
    """Booster outputs (float32), calibrated scores (float64) and alerts (one byte each), row by row.

    ``cuts`` are the thresholds of the rows (float64) where they go by the amount; empty where one holds for all.
    """

    raw: bytes
    calibrated: bytes
    flags: bytes
    cuts: bytes = b""


class Failed(msgspec.Struct, tag=True, array_like=True):
    """The request raised an error of this kind; its text could hold data, so it stays here."""

    kind: str


Request = LoadModel | Score
Reply = Ready | Scored | Failed
encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


class ChildFailed(Exception):
    """The child is gone or useless; ``kind`` is ``crashed``, ``timeout`` or ``refused``."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class ModelChild:
    """A process that holds one model. One request at a time.

    Args:
        folder, digest: the model's files and their contract digest.
        loader: ``module:function`` that loads them there.
        load_seconds, score_seconds: longest waits.

    Raises:
        ChildFailed: the model could not be loaded.
    """

    def __init__(
        self, folder: Path, digest: str, loader: str, load_seconds: float = 60.0, score_seconds: float = 5.0
    ) -> None:
        parent_socket, child_socket = socket.socketpair()
        with child_socket:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bentos.shadow.worker", str(child_socket.fileno()), loader],
                pass_fds=[child_socket.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parents[2],
            )
        self._connection = Connection(parent_socket.detach())
        self._score_seconds = score_seconds
        try:
            reply = self._ask(LoadModel(str(folder), digest), load_seconds)
        except ChildFailed:
            self.close()
            raise
        if not isinstance(reply, Ready):
            self.close()
            raise ChildFailed("refused")
        self.names = reply.names
        self.threshold = reply.threshold

    def score(self, features: NDArray[np.float32]) -> Scored | Failed:
        """Scores of the rows, or the kind of error that the model raised.

        Raises:
            ChildFailed: the process crashed or gave no answer in time; it has been ended.
        """
        reply = self._ask(Score(features.shape[1], features.tobytes()), self._score_seconds)
        if isinstance(reply, Ready):
            raise ChildFailed("crashed")
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._connection.close()

    def _ask(self, request: Request, seconds: float) -> Reply:
        try:
            self._connection.send_bytes(encode(request))
            if not self._connection.poll(seconds):
                raise ChildFailed("timeout")
            reply: Reply = decode_reply(self._connection.recv_bytes())
        except (EOFError, OSError, msgspec.MsgspecError) as exc:
            raise ChildFailed("crashed") from exc
        return reply
