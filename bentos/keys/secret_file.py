"""A secret in a file of its own: made once, whole or not at all, and for its owner alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from bentos.errors import SecretFileError


def make_secret(path: Path, text: str) -> bool:
    """Write a secret with mode 0600 unless the file exists; whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text + "\n")
            out.flush()
            os.fsync(out.fileno())
        # A link fails where the file exists: of two processes at once, the first one's secret stays.
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
            return True
        return False
    finally:
        os.unlink(scratch)


def read_secret(path: Path) -> str:
    """The text of a secret's file, without the white space around it.

    Raises:
        SecretFileError: there is no such file, others may read it, or it is empty.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SecretFileError(f"{path}: others may read it; chmod 600 it")
        text = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise SecretFileError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SecretFileError(f"{path} is no text; delete it, and a new one is made") from exc
    if not text:
        raise SecretFileError(f"{path} is empty; delete it, and a new one is made")
    return text
