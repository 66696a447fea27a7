"""The site, for Sphinx: ``make docs`` builds it into outputs/site.

The source folder is the whole repository, so that a link between two files is the same link in the site. Pages stay
plain Markdown: what is in the menus stands here, in `MENUS`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from ditlens.course.lessons import LESSONS
from ditlens.errors import DitlensError
from ditlens.version import __version__

ROOT = Path(__file__).parents[1]
PLAYGROUND = ROOT / "outputs" / "playground"
EXCEPTIONS = sorted(each.__name__ for each in DitlensError.__subclasses__())

MENUS = {
    "README": [
        "docs/playground",
        "notebooks/README",
        "docs/how-to/README",
        "docs/explanation/README",
        "docs/reference/README",
        "docs/teaching/README",
        "docs/README",
        "CHANGELOG",
        "CONTRIBUTING",
    ],
    "notebooks/README": [f"notebooks/{lesson.stem}" for lesson in LESSONS.values()],
    "docs/how-to/README": sorted(
        f"docs/how-to/{path.stem}" for path in ROOT.glob("docs/how-to/*.md") if path.stem != "README"
    ),
    "docs/explanation/README": [
        "docs/explanation/paper_to_code",
        "docs/explanation/readings",
        "docs/reference/pitfalls",
        "docs/model/results",
        "docs/model/sizes",
        "docs/benchmarks",
        *sorted(f"docs/decisions/{path.stem}" for path in ROOT.glob("docs/decisions/*.md")),
    ],
    "docs/reference/README": [
        "docs/reference/glossary",
        "docs/reference/names",
        "docs/reference/in_one_line",
        "docs/reference/api/README",
        "docs/reference/commands",
        "docs/reference/errors/README",
        "docs/reference/metrics",
        "docs/reference/disentanglement",
        "data/README",
        "data/models/portraits/README",
        "data/models/portraits-twin/README",
    ],
    "docs/reference/api/README": [
        f"docs/reference/api/{stem}"
        for stem in (
            "models capture intervene decompose probe patch steer edit describers metrics flow views course "
            "worlds report architectures"
        ).split()
    ],
    "docs/reference/errors/README": [f"docs/reference/errors/{name}" for name in ("DitlensError", *EXCEPTIONS)],
    "docs/teaching/README": ["docs/teaching/exercises"],
}
"""The pages below each page, in the order of the menus."""

# --- Sphinx ------------------------------------------------------------------------------------------------

project = "ditlens"
author = "The ditlens authors"
copyright = "the ditlens authors. Text and images: CC BY 4.0; code: Apache-2.0"  # noqa: A001
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**/*.md", "data/**/*.md", "notebooks/*.md", "notebooks/*.ipynb"]
exclude_patterns = [".*", "**/.*", "outputs", "build", "dist", "tests", "benchmarks", "ditlens", "playground"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # single backticks: a link where there is such a name, else code
    ("py:class", ".*"),  # types of other packages, and shapes
    ("py:exc", "(?!ditlens).*"),
]
default_role = "py:obj"
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "text/html", 0)]

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "ditlens"
html_static_path = ["site/static"]
html_css_files = ["ditlens.css"]
html_logo = "site/static/logo.svg"
html_favicon = "site/static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "ditlens", "alt_text": "ditlens"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_nav_level": 1,
    "navigation_depth": 3,
    "secondary_sidebar_items": ["page-toc"],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# --- pages -------------------------------------------------------------------------------------------------


def notebook_line(stem: str) -> str:
    """How to open a notebook; stands below its title in the site."""
    return (
        f"**Open this notebook:** {{download}}`download it <{stem}.ipynb>`, or in a clone type `make lab` and open "
        f"`notebooks/{stem}.ipynb`; `ditlens course my-course` writes a copy of all to work in. "
        "What is below was run before."
    )


def add_to_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page its menu, and a notebook the line that says how to open it."""
    if page in MENUS:
        entries = "\n".join(f"/{entry}" for entry in MENUS[page])
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
    if Path(app.env.doc2path(page)).suffix == ".ipynb":
        book = json.loads(source[0])
        line = {"cell_type": "markdown", "metadata": {}, "source": notebook_line(Path(page).name)}
        if book["nbformat_minor"] >= 5:
            line["id"] = "open-this-notebook"
        book["cells"].insert(1, line)
        source[0] = json.dumps(book)


def link_names(app: Sphinx, env: Any, node: addnodes.pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Link a name that is written short (`Edit.sweep`), or by the module that defines it (`ditlens.ems.edit.Edit`)."""
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    target = node["reftarget"].removeprefix("dl.").removesuffix("()")
    named = [each for each in objects if each.endswith(f".{target}")]
    if target.startswith("ditlens."):
        named = [each for each in (f"ditlens.{target.rpartition('.')[2]}",) if each in objects]
    if len(named) != 1:
        return None
    found = objects[named[0]]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, text, named[0])


def link_pages(app: Sphinx, doctree: nodes.document) -> None:
    """A link to a page that Sphinx does not make is a link, and not something to download."""
    for node in list(doctree.findall(addnodes.download_reference)):
        if node["reftarget"].endswith(".html"):
            node.replace_self(nodes.reference("", "", *node.children, refuri=node["reftarget"]))


def copy_pages(app: Sphinx, error: Exception | None) -> None:
    """Put the pages that Sphinx does not make where the links expect them, and the start page at the top."""
    if error:
        return
    site = Path(app.outdir)
    shutil.copytree(ROOT / "docs" / "report", site / "docs" / "report", dirs_exist_ok=True)
    if PLAYGROUND.is_dir():
        shutil.copytree(PLAYGROUND, site / "playground", dirs_exist_ok=True)
    shutil.copy(site / "README.html", site / "index.html")


# --- formulas as MathML, which browsers show without a script ----------------------------------------------


def visit_inline_math(self: Any, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """A formula of its own."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect all of this."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    app.connect("source-read", add_to_source)
    app.connect("missing-reference", link_names)
    app.connect("doctree-read", link_pages, priority=100)
    app.connect("build-finished", copy_pages)
