# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The documentation site: `make docs` writes it to build/docs, and fails at a broken reference."""

import runpy
import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
sys.path.append(str(Path(__file__).with_name('_extensions')))

project = 'ibot_mm'
copyright = 'ibot-mm contributors, Apache-2.0'
version = release = runpy.run_path(str(TOP / 'ibot_mm/version.py'))['__version__']
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'sphinxcontrib.mermaid',
    'api_pages',
]
exclude_patterns = ['notebooks']
html_theme = 'furo'
html_title = f'ibot_mm {version}'
html_theme_options = dict(
    light_css_variables={'color-brand-primary': '#0b5fa5', 'color-brand-content': '#0b5fa5'},
    dark_css_variables={'color-brand-primary': '#6cb6f2', 'color-brand-content': '#6cb6f2'},
)

# Pages are Markdown that the hosting site shows as well.
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
myst_fence_as_directive = ['mermaid']

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented_params'
napoleon_use_ivar = True
copybutton_exclude = '.linenos, .gp'

# Every reference to this package has to be found. Types of other packages are not linked, so that
# the site is built without a network; private bases and type variables do not have a place.
nitpicky = True
nitpick_ignore_regex = [(r'py:.*', r'(?!ibot_mm\b).*'), (r'py:class', r'.*\.(_\w+|[A-Z])')]
suppress_warnings = ['ref.python']  # an error that a room names is found in its file as well
