"""A seeded sample of rows that arrive part by part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RowSample:
    """At most ``size`` of all rows added, each as likely as any other, in the order of their arrival.

    The same seed and rows give the same sample, however the rows are cut into parts.

    Args:
        size: rows that are kept.
        seed: of the draw.
    """

    def __init__(self, size: int, seed: int = 7) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys: NDArray[np.float64] = np.empty(0)
        self._rows: NDArray[np.float32] | None = None

    def add(self, rows: NDArray[np.float32]) -> None:
        """Consider some rows."""
        keys = np.concatenate([self._keys, self._random.random(len(rows))])
        both = rows if self._rows is None else np.concatenate([self._rows, rows])
        if len(keys) > self._size:
            # Those with the smallest keys stay, so nothing depends on how many rows there will be.
            kept = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, both = keys[kept], both[kept]
        self._keys, self._rows = keys, np.array(both, dtype=np.float32)  # a copy: the part may go

    def rows(self, width: int) -> NDArray[np.float32]:
        """The sample; ``width`` columns where nothing was added."""
        return np.empty((0, width), dtype=np.float32) if self._rows is None else self._rows
