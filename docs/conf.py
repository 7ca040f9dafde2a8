"""How Sphinx makes the site of these pages: `scripts/docs` builds it into build/site.

Nothing is fetched while it is built, nor by the pages: fonts are the reader's own, and the search is a
script beside the pages, which works from files too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "Pipeline"
author = "The authors of Pipeline"
copyright = "the authors of Pipeline, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}

# Headings are link targets under the names that GitHub gives them, so that links work there and here.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Answers are shown with … where they differ from one time to the next, which is no JSON.
suppress_warnings = ["misc.highlighting_failure"]

# Docstrings are plain sentences with code in single backquotes; what is on the page, too, becomes a link.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "Pipeline"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"


def name_pages(_app: Any, doctree: Any) -> None:
    """Links that are called by the file of a page, as a forge shows them, are called by its title here."""
    for link in doctree.findall(lambda node: node.tagname == "pending_xref"):
        if link.astext().endswith(".md"):
            link["refexplicit"] = False
            link.children[0].children.clear()


def setup(app: Any) -> None:
    app.connect("doctree-read", name_pages)
