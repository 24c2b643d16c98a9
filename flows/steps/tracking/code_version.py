"""What computes verdicts here: the product's version, its source, and the packages that do the arithmetic.

The digest covers all three rooms: a list of modules that compute a verdict would have to be kept, and a forgotten one
would say "same code" wrongly.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

from flows.workspace.installation import PROJECT
from monitoring.core.hashing import canonical_json, sha256_file, sha256_hex

SOURCE_FOLDERS: Final = ("flows", "bentos", "monitoring")
PACKAGES: Final = ("numpy", "pandas", "scipy", "pyarrow")
"""Those whose arithmetic or reading of files is in a verdict."""


@dataclass(frozen=True)
class CodeVersion:
    """Code and environment of a computation.

    Attributes:
        product: version of this product.
        code: SHA-256 over the Python files of the three rooms, by name and content.
        versions: of Python and of :data:`PACKAGES`.
    """

    product: str
    code: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"product": self.product, "code": self.code, "versions": dict(self.versions)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Self | None:
        """The reverse of :meth:`to_json`; none for a decision that was written before this was kept."""
        return None if data is None else cls(str(data["product"]), str(data["code"]), dict(data["versions"]))

    def lines(self) -> dict[str, str]:
        """For people: name to value."""
        return {"incumbent": self.product, "source": self.code[:16], **dict(sorted(self.versions.items()))}

    def differences_from(self, other: CodeVersion) -> tuple[str, ...]:
        """What is not the same as it was ``other``, each in words; empty where all is."""
        current, earlier = self.lines(), other.lines()
        names = dict.fromkeys([*earlier, *current])
        changes = [(name, earlier.get(name, "none"), current.get(name, "none")) for name in names]
        return tuple(f"{name} ({before} then, {after} now)" for name, before, after in changes if before != after)


@cache
def current_code_version() -> CodeVersion:
    """What runs in this process, as its files are at the first call."""
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
    return CodeVersion(_product(), code_digest(PROJECT), versions)


def code_digest(folder: Path) -> str:
    """SHA-256 over the Python files of the three rooms below a folder; moved, renamed and changed files change it."""
    files = sorted(file for room in SOURCE_FOLDERS for file in (folder / room).rglob("*.py"))
    return sha256_hex(canonical_json([[file.relative_to(folder).as_posix(), sha256_file(file)] for file in files]))


def _product() -> str:
    try:
        return metadata.version("incumbent")
    except metadata.PackageNotFoundError:
        return "not installed"
