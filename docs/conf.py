"""How ``make docs`` builds the site; a warning is an error, so a dead link or a dead anchor fails."""

from __future__ import annotations

import pydoc
from datetime import timedelta
from importlib.metadata import version as installed_version
from typing import Any

from pydantic import BaseModel

from monitoring.core.durations import format_duration

project = "Incumbent"
author = "the Incumbent contributors"
version = release = installed_version("incumbent")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
# Anchors are those that a reader of the repository sees.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# Shell sessions and TOML with "..." in them are shown as they are.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"Incumbent {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
# Without an address of other sites: the pages open from a folder, and ask nobody.
html_theme_options = {"top_of_page_buttons": []}

autodoc_default_options = {"exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False


def describe_field(_app: Any, kind: str, name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keep the sentence of a field whole, and add its default.

    Napoleon would take what stands before the first colon of a sentence for a type; a comment in front stops that.
    """
    if kind != "attribute" or not lines:
        return
    lines[:0] = ["..", ""]
    owner, _, field_name = name.rpartition(".")
    model = pydoc.locate(owner)
    if isinstance(model, type) and issubclass(model, BaseModel) and field_name in model.model_fields:
        field = model.model_fields[field_name]
        if not field.is_required():
            lines += ["", f"Default: ``{in_words(field.get_default(call_default_factory=True))}``."]


def in_words(default: Any) -> str:
    """A default as a use-case file or a variable would say it; a whole table is named alone."""
    match default:
        case timedelta():
            return format_duration(default)
        case BaseModel():
            return type(default).__name__
        case bool():
            return str(default).lower()
        case tuple():
            return str([in_words(value) for value in default])
        case int() | float():
            return str(default)
        case _:
            return str(default or "none")


def hide_signature(_app: Any, kind: str, _name: str, subject: Any, *_rest: Any) -> tuple[str, str] | None:
    """Leave the signature of a model out: its fields follow, each with its default."""
    return ("", "") if kind == "class" and isinstance(subject, type) and issubclass(subject, BaseModel) else None


def setup(app: Any) -> None:
    """Called by Sphinx; the number lets the hook run before napoleon's."""
    app.connect("autodoc-process-docstring", describe_field, priority=400)
    app.connect("autodoc-process-signature", hide_signature)
