"""Load a use case: by the name of a built-in one or by the path of a TOML file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bentos.errors import UseCaseError
from bentos.usecase.definition import UseCase
from bentos.usecase.problems import explain, not_finite, problems


def builtin_usecases() -> dict[str, Path]:
    """Name and file of each use case that comes with the product."""
    return {p.parent.name: p for p in sorted((Path(__file__).parents[1] / "usecases").glob("*/usecase.toml"))}


def load_usecase(ref: str | Path) -> UseCase:
    """Load a use case by the name of a built-in one or by the path of a TOML file.

    Raises:
        UseCaseError: with the file, the key, what was found and what is allowed.
    """
    file = _locate(ref)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UseCaseError(file, "file", f"{type(exc).__name__}", "a readable UTF-8 TOML file") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UseCaseError(file, "syntax", str(exc), "valid TOML") from exc
    return parse_usecase(data, file)


def parse_usecase(data: dict[str, Any], file: Path | str = "<memory>") -> UseCase:
    """Validate the content of a use-case file; ``file`` is only named in errors."""
    for key, actual in not_finite(data):
        raise UseCaseError(file, key, actual, "a finite number")
    try:
        # JSON mode reads lists as tuples and text as dates while all else stays strict.
        usecase = UseCase.model_validate_json(json.dumps(data, default=str))
    except ValidationError as exc:
        raise explain(exc, file, UseCase) from exc
    for key, actual, allowed in problems(usecase):
        raise UseCaseError(file, key, actual, allowed)
    return usecase


def _locate(ref: str | Path) -> Path:
    builtin_files = builtin_usecases()
    if str(ref) in builtin_files:
        return builtin_files[str(ref)]
    file = Path(ref)
    if file.suffix == ".toml" and file.is_file():
        return file
    raise UseCaseError(
        ref, "use case", "no such name or file", f"{', '.join(builtin_files)}, or the path of a .toml file"
    )
