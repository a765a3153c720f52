"""The documentation: its examples run, the site has all its pages, the reference all names.

Swept: every page of docs/. Tolerance: none; what an example shows is what it prints.
"""

import doctest
import re
import sys
from pathlib import Path

import pytest

import qgbdt
from qgbdt import distributed

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted((DOCS / "guide").glob("*.md"))
PAGES = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
MODULES = ("plotting", "distributed", "dask", "errors")
"""Those that users import, besides qgbdt itself."""
NEEDED = {
    "index": ["pandas"],
    "quick-start": ["pandas"],
    "from-lightgbm": ["lightgbm"],
    "from-scikit-learn": ["pandas"],
    "quantization": ["matplotlib"],
    "categories": ["pandas"],
    "explaining": ["pandas", "matplotlib"],
    "own-objectives": ["numba"],
}
"""Packages that the examples of a page use, besides those that qgbdt needs."""


def examples(path):
    """The examples of a page, without the fences around them, which would be output."""
    text = re.sub(r"^```.*$", "", path.read_text(), flags=re.MULTILINE)
    return doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)


@pytest.mark.parametrize("path", [DOCS / "index.md", *GUIDE], ids=lambda path: path.stem)
def test_examples_run(path, tmp_path, monkeypatch):
    page = examples(path)
    assert page.examples
    for needed in NEEDED.get(path.stem, ()):
        pytest.importorskip(needed)
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use("agg")
    monkeypatch.chdir(tmp_path)  # for the files that examples write
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(page).failed == 0


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_all_code_of_the_guide_is_examples(path):
    """All but commands, whose fences name no language."""
    for language, code in re.findall(r"^```(\S+)\n(.*?)^```$", path.read_text(), re.M | re.S):
        assert language in ("python", "{eval-rst}")
        if language == "python":
            assert code.startswith(">>> ")
        elif ":nofigs:" not in code:  # each figure has a file of its own
            assert code.count(".. plot::\n   :filename-prefix: ") == 1


def toctree(page):
    """The pages that a page's tables of contents name."""
    text = (DOCS / page).with_suffix(".md").read_text()
    found = set()
    for entries in re.findall(r"^```{toctree}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for entry in entries.split():
            if not entry.startswith(":"):
                paths = (DOCS / page).parent.glob(f"{entry}.md")
                found |= {p.relative_to(DOCS).with_suffix("").as_posix() for p in paths}
    return found


def test_every_page_is_in_a_table_of_contents():
    reached, waiting = set(), {"index"}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting |= toctree(page) - reached
    assert PAGES - reached == set()


def test_the_reference_has_all_that_modules_export():
    text = "".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    whole = re.findall(r"^\.\. automodule:: qgbdt\.(\w+)\n   :members:", text, re.MULTILINE)
    named = set(re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)", text, re.MULTILINE))
    assert {*whole, "distributed"} == set(MODULES)
    assert {f"qgbdt.{name}" for name in qgbdt.__all__} <= named
    assert set(distributed.__all__) <= named
