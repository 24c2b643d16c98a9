"""HTML from the templates beside this module; every value is escaped unless a template made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: object) -> Markup:
    """Fill a template.

    Args:
        template: name of a file in ``templates``.
        values: what it shows; plain text is escaped, ``Markup`` of another template is not.
    """
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704  # the template escaped it


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = (), classed: int | None = None
) -> Markup:
    """An HTML table; ``classed`` names the column whose text is also its style."""
    return _element("table", head, rows, numeric, classed)


def section(title: str, *blocks: str | Markup) -> Markup:
    """A section with its heading; a block of plain text becomes a paragraph."""
    return _element("section", title, blocks)


def subtitle(text: str) -> Markup:
    """A heading within a section."""
    return _element("subtitle", text)


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return _element("paragraph", text)


def note(text: str) -> Markup:
    """A paragraph in small print."""
    return _element("note", text)


def _element(name: str, *values: Any) -> Markup:
    return Markup(getattr(_environment().get_template("elements.html").module, name)(*values))  # noqa: S704  # as above


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("monitoring.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
