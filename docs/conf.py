"""How Sphinx makes the site: `tox -e docs`, or `sphinx-build -W --keep-going docs site`.

The pages are written for GitHub, which shows them as they are; what a site needs besides is added here.
"""

from __future__ import annotations

import ast
import enum
import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

from resilient import errors

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "resilient"
release = version = version_of("resilient-toolkit")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"resilient {release}"
html_copy_source = False
html_show_copyright = False
# The search finds names as well, and more.
html_use_index = False
html_domain_indices = False
# Furo's own for light pages; its dark one underlines names like links.
pygments_dark_style = "a11y-dark"
# Quotation marks stay straight, as a reader types them; dashes are set.
smartquotes_action = "D"

# The anchors that GitHub makes of headings.
myst_heading_anchors = 6

# In docstrings as on the pages, single backticks mark code.
default_role = "code"
autodoc_default_options = {
    "member-order": "bysource",
    # What policies are to each other; `resilient.policy` says it once, for those who write one.
    "exclude-members": (
        "after_fork, aenter, apply, async_generator_layer, async_layer, enter, generator_layer, keep_until_done, leave,"
        " own_calls, parts, sync_layer, uses"
    ),
}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<page>[^)#:\s]+)\.(?:md|rst)\)")
_FOREIGN = re.compile(r"\]\((?P<target>(?:\.\./)+[^)#:\s]+\.md)\)")
_PASSED_ON = re.compile(r"~(?:typing\.)?~?(?=P\b)|~(?:resilient\.\w+\.)(?=[A-Z]\b)")
_RAISES = re.compile(r"^:raises (?P<name>\w+):")


def navigation(index: str) -> dict[str, list[tuple[str, str]]]:
    """The pages that the index leads to, with the words it has for them, by what they stand under.

    That is a heading, or a line that ends in a colon. Links in tables lead to what is at home elsewhere.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    above = ""
    for line in index.splitlines():
        if line.startswith("## ") or re.fullmatch(r"\w.*:", line):
            above = line.removeprefix("## ").removesuffix(":")
        elif not line.startswith("|"):
            for link in _LINK.finditer(line):
                found.setdefault(above, []).append((link["text"].replace("`", ""), link["page"]))
    return found


def add_toctrees(app: Sphinx, docname: str, content: list[str]) -> None:
    """Make the lists of the index the navigation of the site."""
    if docname != "index":
        return
    for caption, entries in navigation(content[0]).items():
        rows = "\n".join(f"{text} <{page}>" for text, page in entries)
        content[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{rows}\n```\n"


def offer_files(app: Sphinx, docname: str, content: list[str]) -> None:
    """Let links to Markdown that is no page of the site lead to the file itself."""
    folder = Path(app.env.doc2path(docname)).parent

    def offered(link: re.Match[str]) -> str:
        outside = not (folder / link["target"]).resolve().is_relative_to(app.srcdir)
        return f"](path:{link['target']})" if outside else link[0]

    content[0] = _FOREIGN.sub(offered, content[0])


def is_code(paragraph: list[str]) -> bool:
    """Whether lines are an example or a drawing: indented, in columns, or what Python can read and nobody would say."""
    if paragraph[0].startswith(" ") or all(re.search(r"\S {3,}\S", row) for row in paragraph):
        return True
    try:
        found = ast.parse("\n".join(paragraph)).body
    except SyntaxError:
        return False
    return not all(isinstance(row, ast.Expr) and isinstance(row.value, (ast.Name, ast.Constant)) for row in found)


def mark_examples(lines: list[str]) -> list[str]:
    """Say of examples and drawings in a docstring that they are none of its sentences."""
    done: list[str] = []
    inside = False
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = paragraph.split("\n")
        # What is said of a parameter, or an item of a list, may go on, indented like an example.
        code = is_code(rows) and (inside or not re.match(r" |- |\w+:$", done[-2] if done else ""))
        if code and not inside:
            done += ["::", ""]
        inside = code
        done += [*("    " * code + row for row in rows), ""]
    return done


def is_of_python(what: str, obj: Any, lines: list[str]) -> bool:
    """Whether a docstring is Python's own: of the type of a value, or of a field of a named tuple."""
    first = next(filter(None, lines), "")
    return first.startswith("Alias for field number") or (what == "data" and first in (type(obj).__doc__ or ""))


def read_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring into what Sphinx reads."""
    lines[:] = [] if is_of_python(what, obj, lines) else mark_examples(lines)
    if what in ("attribute", "data", "property"):
        return  # the word before a colon is no type here
    config = Config(napoleon_numpy_docstring=False)
    sections = GoogleDocstring(lines, config, app, what, name, obj, options).lines()
    lines[:] = [_RAISES.sub(_error_of_ours, line) for line in sections]


def _error_of_ours(field: re.Match[str]) -> str:
    """There are other things by the names of our errors, but they are not raised."""
    name = field["name"]
    return f":raises ~resilient.errors.{name}:" if hasattr(errors, name) else field[0]


def clear_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str] | None:
    """Leave out of a signature what Python could not read, and all of it where nobody makes such an object."""
    if getattr(obj, "_is_protocol", False):
        return "", ""
    if what == "method":
        drop_overloads(obj.__module__, obj.__qualname__)
    if signature is None:
        return None
    # A default made anew for each object; the parameters of a function that is passed on.
    return _PASSED_ON.sub("", signature.replace("<factory>", "...")), _PASSED_ON.sub("", returned or "")


def drop_overloads(module: str, name: str) -> None:
    """Show a method by its implementation where its overloads are about the parameters of a function passed on."""
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    if any("P.args" in str(overload) for overload in analyzer.overloads.get(name, [])):
        del analyzer.overloads[name]


def keep_members(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Show the members of an enumeration, whether or not something is said of each."""
    return False if isinstance(obj, enum.Enum) and not name.startswith("_") else None


def name_language(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Tell browsers and screen readers which pages are Chinese."""
    if pagename.startswith("zh/"):
        context["language"] = "zh"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_toctrees)
    app.connect("source-read", offer_files)
    app.connect("html-page-context", name_language)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", clear_signature)
    app.connect("autodoc-skip-member", keep_members)
