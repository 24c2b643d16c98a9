"""The site that ``make docs`` builds with its own command line: strict, and with a place for each link of an alert."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    line = re.search(
        r"^\t\$\(BIN\)/python (-m sphinx .+) docs build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert line is not None
    return subprocess.run(
        [sys.executable, *shlex.split(line[1]), str(docs), str(site)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_a_dead_link_and_a_dead_anchor_fail_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs" / "_static", docs / "_static")
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    (docs / "index.md").write_text("# One\n\n[sound](#one) [gone](gone.md) [nowhere](#nowhere)\n")
    done = build(docs, tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "nowhere" in done.stderr
    (docs / "index.md").write_text("# One\n\n[sound](#one)\n")
    done = build(docs, tmp_path / "sound")
    assert done.returncode == 0, done.stderr


def test_the_site_is_built_and_holds_the_section_that_each_alert_links_to(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    rules = (ROOT / "monitoring" / "prometheus" / "rules.yml").read_text()
    address = re.search(
        r"runbook: https://\S+?/(how-to/\S+)$", (ROOT / "monitoring/prometheus/prometheus.yml").read_text(), re.M
    )
    assert address is not None
    page = (tmp_path / address[1]).read_text()
    wanted = set(re.findall(r"runbook: \'\{\{ .+ \}\}#(\w+)\'", rules))
    assert len(wanted) > 30
    assert wanted <= set(re.findall(r'id="(\w+)"', page))
    assert "Client.score" in (tmp_path / "reference" / "python" / "client.html").read_text()
