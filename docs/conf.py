"""The site, for Sphinx: ``make docs`` builds it into outputs/site.

The source folder is the whole repository, so that a link between two files is the same link in the site. Pages stay
plain Markdown: what is in the menus stands here, in `MENUS`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
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
"""What `make playground` builds; it becomes part of the site if it is there."""
EXCEPTIONS = sorted(each.__name__ for each in DitlensError.__subclasses__())

MENUS = {
    "README": [
        "docs/playground",
        "notebooks/README",
        "docs/how-to/README",
        "docs/explanation/README",
        "docs/reference/README",
        "docs/teaching/README",
        "CHANGELOG",
        "CONTRIBUTING",
        "docs/README",
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
        "docs/decisions/README",
    ],
    "docs/decisions/README": sorted(
        f"docs/decisions/{path.stem}" for path in ROOT.glob("docs/decisions/0*.md")
    ),
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
        "Model card of portraits </data/models/portraits/README>",
        "Model card of portraits-twin </data/models/portraits-twin/README>",
    ],
    "docs/reference/api/README": [
        f"docs/reference/api/{stem}"
        for stem in (
            "models capture intervene decompose probe patch steer edit describers metrics flow views course "
            "worlds report architectures"
        ).split()
    ],
    "docs/reference/errors/README": [
        f"docs/reference/errors/{name}" for name in ("DitlensError", *EXCEPTIONS)
    ],
    "docs/teaching/README": ["docs/teaching/exercises"],
}
"""The pages below each page, in the order of the menus."""

START = """

```{container} start
[Try it in the browser](docs/playground.md)
[First notebook](notebooks/00_start_here.ipynb)
[How-to](docs/how-to/README.md)
[Reference](docs/reference/README.md)
```

"""
"""The buttons below the title of the start page."""

# --- Sphinx ------------------------------------------------------------------------------------------------

project = "ditlens"
author = "The ditlens authors"
copyright = "the ditlens authors. Text and images: CC BY 4.0; code: Apache-2.0"  # noqa: A001
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = [
    f"{folder}*.{kind}"
    for folder in ("", "docs/", "docs/**/", "data/", "data/**/", "notebooks/")
    for kind in ("md", "ipynb")
]
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
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 0)]

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
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
html_static_path = ["site"]
html_css_files = ["ditlens.css"]
html_logo = "site/logo.svg"
html_favicon = "site/logo.svg"
html_sidebars = dict.fromkeys(["README", "docs/README", "docs/playground", "CHANGELOG", "CONTRIBUTING"], [])
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "ditlens"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_nav_level": 1,
    "show_toc_level": 2,
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


def command_help() -> str:
    """The help of every command, as a terminal of 78 columns shows it."""
    from typer.main import get_command

    from ditlens.cli.commands import app

    def parts(command: Any, name: str) -> Iterator[str]:
        context = command.make_context(
            name, [], resilient_parsing=True, terminal_width=78, max_content_width=78
        )
        yield f"\n## {name}\n\n```text\n{command.get_help(context).strip()}\n```\n"
        for word, below in getattr(command, "commands", {}).items():
            yield from parts(below, f"{name} {word}")

    return "".join(parts(get_command(app), "ditlens"))


def add_to_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page its menu and what is only in the site, and a notebook the line that says how to open it."""
    source[0] = source[0].replace("(docs/report/)", "(docs/report/index.html)")
    if page == root_doc:
        source[0] = source[0].replace("\n\n", START, 1)
    if page == "docs/playground" and PLAYGROUND.is_dir():
        source[0] = source[0].replace(
            "<!-- link -->", '<a href="../playground/index.html">Open the playground</a>'
        )
    if page == "docs/reference/commands":
        source[0] += command_help()
    if page in MENUS:
        entries = "\n".join(entry if "<" in entry else f"/{entry}" for entry in MENUS[page])
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
    if Path(app.env.doc2path(page)).suffix == ".ipynb":
        book = json.loads(source[0])
        line = {"cell_type": "markdown", "metadata": {}, "source": notebook_line(Path(page).name)}
        if book["nbformat_minor"] >= 5:
            line["id"] = "open-this-notebook"
        book["cells"].insert(1, line)
        source[0] = json.dumps(book)


def place_of(env: Any, name: str) -> tuple[str, Any] | None:
    """Where a name is documented that is written short (`Edit.sweep`), or by the module that defines it."""
    objects = env.get_domain("py").objects
    name = re.sub(r"\(.*\)$", "", re.sub(r"^dl\.", "ditlens.", name))
    if name in objects:
        return name, objects[name]
    if name.startswith("ditlens."):  # ditlens.ems.edit.Edit is ditlens.Edit
        found = [each for each in (f"ditlens.{name.rpartition('.')[2]}",) if each in objects]
    else:
        found = [each for each in objects if each.endswith(f".{name}")]
        if name.islower() and "." not in name:  # else every argument that is called like some attribute
            found = [each for each in found if objects[each].objtype == "function"]
    return (found[0], objects[found[0]]) if len(found) == 1 else None


def link_names(
    app: Sphinx, env: Any, node: addnodes.pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """Resolve names in docstrings and signatures that Sphinx does not find."""
    place = place_of(env, node["reftarget"]) if node.get("refdomain") == "py" else None
    if place is None:
        return None
    return make_refnode(app.builder, node["refdoc"], place[1].docname, place[1].node_id, text, place[0])


def link_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Link code in the text of a page that is the name of something documented."""
    for node in list(doctree.findall(nodes.literal)):
        inside = (nodes.reference, nodes.title, addnodes.desc)
        if "code" in node["classes"] or "xref" in node["classes"] or any_parent(node, inside):
            continue
        name = node.astext()
        place = place_of(app.env, name) if re.match(r"(dl|ditlens)\.|[A-Z]\w*[a-z]", name) else None
        if place:
            node.replace_self(
                make_refnode(app.builder, page, place[1].docname, place[1].node_id, node.deepcopy(), place[0])
            )


def any_parent(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Whether a node is inside one of some kinds."""
    return node.parent is not None and (isinstance(node.parent, kinds) or any_parent(node.parent, kinds))


def link_pages(_: Sphinx, doctree: nodes.document) -> None:
    """A link to a page that Sphinx does not make is a link, and not something to download."""
    for node in list(doctree.findall(addnodes.download_reference)):
        if node["reftarget"].endswith(".html"):
            node.replace_self(nodes.reference("", "", *node.children, refuri=node["reftarget"]))


REPAIRS = (
    # The parameters of a signature are no list of definitions.
    (r"(?s)(?<=<dt class=\"sig )(.*?)(?=</dt>)", lambda found: spans(found[1])),
    # What opens a part of the menu has no name, and the button that searches hides the one that it shows.
    (r"<summary>(?=<span class=\"toctree-toggle\")", '<summary aria-label="Show the pages below">'),
    (r"(?<=search-button__button pst-js-only\") title=\"Search\" aria-label=\"Search\"", ""),
    # Long names may be broken after a dot.
    (r"(?<=class=\"pre\">)(ditlens(?:\.\w+)+)", lambda found: found[1].replace(".", ".<wbr>")),
    # The corner of a table.
    (r"<th class=\"head\"><p></p></th>", "<td></td>"),
)
"""What is improved in the HTML of Sphinx and of the theme, mostly for people with a screen reader."""


def spans(signature: str) -> str:
    """The lines of a signature as spans."""
    for tag, name in (("dl", "sig-lines"), ("dd", "sig-line")):
        signature = signature.replace(f"<{tag}>", f'<span class="{name}">').replace(f"</{tag}>", "</span>")
    return signature


def repair(site: Path) -> None:
    """Apply `REPAIRS` to every page."""
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        for pattern, new in REPAIRS:
            text = re.sub(pattern, new, text)
        path.write_text(text, "utf-8")


def copy_pages(app: Sphinx, error: Exception | None) -> None:
    """Put the pages that Sphinx does not make where the links expect them, and the start page at the top."""
    if error:
        return
    site = Path(app.outdir)
    repair(site)
    shutil.copytree(ROOT / "docs" / "report", site / "docs" / "report", dirs_exist_ok=True)
    if PLAYGROUND.is_dir():
        shutil.copytree(PLAYGROUND, site / "playground", dirs_exist_ok=True)
        page = site / "playground" / "index.html"  # where it stands alone, it has no links to the notebooks
        page.write_text(page.read_text("utf-8").replace("<html ", '<html class="in-site" ', 1), "utf-8")
    shutil.copy(site / "README.html", site / "index.html")


# --- formulas as MathML, which browsers show without a script ----------------------------------------------


def mathml(formula: str, as_block: bool = False) -> str:
    """A formula of TeX as MathML; docutils knows brackets of a size as left or right ones only."""
    return tex2mathml(re.sub(r"\\big(?![a-z])", r"\\bigl", formula), as_block=as_block)


def visit_inline_math(self: Any, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """A formula of its own."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect all of this."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    app.connect("source-read", add_to_source)
    app.connect("missing-reference", link_names)
    app.connect("doctree-read", link_pages, priority=100)
    app.connect("doctree-resolved", link_code)
    app.connect("build-finished", copy_pages)
