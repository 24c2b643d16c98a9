"""Links of the documents: each leads to a file, and to a heading where it names one; each page is reached."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCS = ROOT / "docs"
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|:::).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TEXT = {".py", ".toml", ".yml", ".yaml", ".md", ".html", ".json", ".cfg", ".sql", ".template", ".Dockerfile", ""}


def tracked_files() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


FILES = tracked_files()
PAGES = [path for path in FILES if path.suffix == ".md" and "data" not in path.relative_to(ROOT).parts]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#{1,6} +(.+?)\s*$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


def children(page: Path) -> set[Path]:
    """Pages that the tables of contents of a page name."""
    entries = [
        line.strip()
        for block in _TOCTREE.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.strip() and not line.startswith(":")
    ]
    return {found for entry in entries for found in page.parent.glob(f"{entry}.md")}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_a_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert not dead


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    queue = [DOCS / "index.md"]
    while queue:
        page = queue.pop()
        if page not in reached:
            reached.add(page)
            queue += children(page)
    assert {page for page in PAGES if page.is_relative_to(DOCS)} == reached


def test_every_page_that_a_file_names_exists() -> None:
    missing = [
        f"{label(path)}: {name}"
        for path in FILES
        if path.suffix in _TEXT and path.name != "requirements.lock"
        for name in re.findall(r"(?<![\w/.-])(?:docs|deploy)/[\w./-]*\.md\b", path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert not missing


def test_no_page_leads_to_an_address_of_this_repository_on_one_host() -> None:
    """Pages are read in a checkout and on the site, so they lead to each other by relative links."""
    hosts = {
        address
        for page in PAGES
        for address in re.findall(r"\]\((https?://[^)\s]+)\)", page.read_text(encoding="utf-8"))
        if "/incumbent/" in address
    }
    assert not hosts


def test_every_path_of_the_repository_that_a_page_names_exists() -> None:
    missing = [
        f"{label(page)}: {name}"
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for name in re.findall(
            r"`((?:bentos|flows|monitoring|tests|deploy|docs)/[\w./-]*\w)/?`", page.read_text(encoding="utf-8")
        )
        if not (ROOT / name).exists() and not list(ROOT.glob(f"{name}*"))
    ]
    assert not missing


def test_the_two_readmes_lead_to_the_same_pages_and_show_the_same_commands() -> None:
    english, korean = (ROOT / name for name in ("README.md", "README.ko.md"))
    texts = [page.read_text(encoding="utf-8") for page in (english, korean)]
    links = [{link for link in _LINK.findall(text) if not link.startswith("README")} for text in texts]
    commands = [re.findall(r"^\$ (.+?)(?: +#.*)?$", text, re.MULTILINE) for text in texts]
    assert links[0] == links[1]
    assert commands[0] == commands[1]
    assert max(len(text.splitlines()) for text in texts) <= 150
