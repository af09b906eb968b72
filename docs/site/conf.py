"""Settings of Sphinx for `make site`: lessons, sheets and pages as they lie in the repository."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project, author = "tripletlib", "the authors of tripletlib"
html_title = "tripletlib"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = [
    "README.md",
    "data/README.md",
    "docs/*.md",
    "docs/site/kernels.md",
    "notebooks/*.ipynb",
    "notebooks/GLOSSARY.md",
    "notebooks/exercises/*.ipynb",
    "notebooks/exercises/*.md",
    "notebooks/results/README.md",
]
# Not even looked into: an environment has sixty thousand files.
exclude_patterns = [".*", "course", "data/[!R]*", "runs", "tests", "tripletlib", "**/source"]

html_theme = "sphinx_book_theme"
html_theme_options = {"use_download_button": False, "show_toc_level": 2}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# Pages are read from a folder and without a network: no script of another host, no widget that
# would wait for one; formulas are MathML, which browsers draw themselves.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict] = {}
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
# What a cell prints in several parts is one output, as in the notebook.
nb_merge_streams = True
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the texts give shapes and types
napoleon_custom_sections = [("Source", "notes_style")]

HOME = """
On this site <a href="query_browser.html">the query browser</a> runs without a kernel: look people
up, and see the ranked gallery before and after re-ranking.

"""
CONTENTS = """

```{toctree}
:hidden:
:caption: Lessons
:glob:

notebooks/0*
notebooks/GLOSSARY
```

```{toctree}
:hidden:
:caption: Exercises
:glob:

notebooks/exercises/*
```

```{toctree}
:hidden:
:caption: The package and its use

docs/site/kernels
notebooks/results/README
docs/install
docs/training
data/README
docs/self-study
docs/teaching
```
"""


def add_contents(app: Sphinx, document: str, source: list[str]) -> None:
    """The home page is the repository's README; what is where belongs to the site alone."""
    if document == root_doc:
        # Sphinx looks for documents and files, and a folder is neither.
        page = source[0].replace(
            "](notebooks/exercises)", "](notebooks/exercises/01_map_of_digits.ipynb)"
        )
        title, rest = page.split("\n", 1)
        source[0] = f"{title}\n{HOME}{rest}{CONTENTS}"


def escape_bars(
    app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """A docstring is plain text: its |a|^2 is no substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def inline_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula within a line as MathML."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula on a line of its own as MathML."""
    translator.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Hooks into Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", escape_bars)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
