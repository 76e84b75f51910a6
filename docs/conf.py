"""The documentation: ``sphinx-build -W -n docs docs/_build`` (needs the extra ``docs``)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import jupyter_teleportal

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

project = "jupyter_teleportal"
author = copyright = "jupyter_teleportal contributors"
release = version = jupyter_teleportal.__version__
home = "https://github.com/jupyter-teleportal/jupyter_teleportal"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "teleportal_reference",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
smartquotes = False
nitpicky = True
# Nothing is fetched while this is built, so what other packages document is not linked.
nitpick_ignore_regex = [("py:.*", r"(?!jupyter_teleportal\.).*")]
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
napoleon_use_ivar = True
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "jupyter_teleportal"
html_theme_options = {
    "github_url": home,
    "use_edit_page_button": True,
    "navbar_align": "left",
    "show_toc_level": 2,
}
html_context = {
    "github_user": "jupyter-teleportal",
    "github_repo": "jupyter_teleportal",
    "github_version": "main",
    "doc_path": "docs",
}


def lead_to_repository(app: Any, page: str, source: list[str]) -> None:
    """Pages link to files of the repository relatively, which works where they are read there;
    in what is built the links lead to the repository."""

    def lead(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        kind = "tree" if (REPOSITORY / path).is_dir() else "blob"
        return f"]({home}/{kind}/main/{path}{anchor})"

    source[0] = re.sub(r"\]\(\.\./(?P<path>[^)#]+)(?P<anchor>#[^)]+)?\)", lead, source[0])


def setup(app: Any) -> None:
    app.connect("source-read", lead_to_repository)
