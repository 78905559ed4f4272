"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import dromos

project = "dromos"
author = "the dromos authors"
version = release = dromos.__version__
html_title = f"dromos {release}"
html_theme = "furo"
html_show_copyright = False
smartquotes = False  # "--option" is no dash

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
exclude_patterns = ["_build", "_ext"]
suppress_warnings = ["config.cache"]

# Markdown: links to headings, as on GitHub.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Docstrings are plain text with `names` in single backticks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autoclass_content = "both"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
add_module_names = False

# References to names of ours must lead somewhere; those of others are not looked up,
# since a build needs no network.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!dromos\b).*"),
    # Names that users meet in signatures only: aliases, type variables, private bases.
    (r"py:.*", r"dromos(\.\w+)*\._\w+(\.\w+)*"),
    (r"py:.*", r"dromos\.(sync\.connection\.Owner|testing\.virtual\.T)"),
    (r"py:.*", r"dromos\.telemetry\.\w+\.Watched"),
]
