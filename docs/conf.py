"""How ``make docs`` builds the site; a warning is an error, so a dead link or a dead anchor fails."""

from __future__ import annotations

from importlib.metadata import version as installed_version

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
html_static_path: list[str] = []
html_copy_source = False
html_show_copyright = False
# Without an address of other sites: the pages open from a folder, and ask nobody.
html_theme_options = {"top_of_page_buttons": []}

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
