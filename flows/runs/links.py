"""Links that people follow: one place, so that each opens in a browser or is shown as a path instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from bentos.settings import Settings

_PAGES = {
    "prefect_ui": ("prefect", ""),
    "service": ("service", "/"),
    "reports": ("reports", ""),
    "metrics": ("service", "/metrics"),
    "exporter": ("exporter", "/metrics"),
}


def stack_pages(addresses: Mapping[str, str]) -> dict[str, str]:
    """What a browser opens of each part of a stack, by name.

    Args:
        addresses: where programs reach the parts, see :attr:`flows.stack.parts.Ports.urls`.
    """
    return {
        name: addresses[part].rstrip("/").removesuffix("/api") + page
        for name, (part, page) in _PAGES.items()
        if part in addresses
    }


def report_link(report: Path, settings: Settings) -> str | None:
    """Address of a report on the server of the reports folder; none where it is not served."""
    base = os.environ.get("INCUMBENT_REPORTS_URL", "").rstrip("/")
    if not (base and report.is_relative_to(settings.reports)):
        return None
    return f"{base}/{quote(report.relative_to(settings.reports).as_posix())}"


def mlflow_link(run_id: str, settings: Settings) -> str | None:
    """Address of a run on the MLflow server; none where the registry is a file, which serves no pages by itself."""
    parts = urlsplit(settings.registry_uri)
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]  # a login may stand before it
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/#/runs/{quote(run_id)}"


def report_place(report: Path, settings: Settings) -> str:
    """Where somebody finds a report, as Markdown: a link, or its path on the machine that wrote it."""
    link = report_link(report, settings)
    return f"`{report}`" if link is None else link
