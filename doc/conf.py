"""Sphinx configuration: ``make docs`` builds the documentation without warnings."""

import sys
from pathlib import Path

from lsst.meas.residualdetect import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "meas_residualdetect"
author = "The meas_residualdetect developers"
copyright = "GPL-3.0-or-later"
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_automodapi.automodapi",
    "sphinx_copybutton",
    "config_table",
]
exclude_patterns = ["_build", "_figures", "_static", "changes"]
templates_path = ["_templates"]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"

autodoc_typehints = "none"  # numpydoc says it, with shapes and units
numpydoc_show_class_members = False
automodapi_inheritance_diagram = False
automodapi_toctreedirnm = "api"

html_theme = "pydata_sphinx_theme"
html_title = "meas_residualdetect"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {"navbar_center": [], "show_prev_next": False}
html_sidebars = {"**": ["pages.html"]}
