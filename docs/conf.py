"""The site of docs/: `make docs`, with warnings as errors.

Pages link to each other and to files of the repository as they do when they are read there; MyST
makes downloads of files that are not pages.
"""

import qgbdt

project = "qgbdt"
version = release = qgbdt.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
]
html_theme = "furo"
default_role = "any"  # `Booster.predict` in a docstring is a link
nitpicky = True

myst_heading_anchors = 3
autodoc_mock_imports = ["dask", "distributed"]  # never there, so that sites are the same
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
plot_formats = [("png", 120)]
plot_html_show_formats = False
plot_html_show_source_link = False


def skip_strangers(app, what, name, member, skip, options):
    """Skip the methods that scikit-learn defines: its own documentation has them."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    return skip or getattr(function, "__module__", "qgbdt").split(".")[0] != "qgbdt"


def setup(app):
    app.connect("autodoc-skip-member", skip_strangers)
