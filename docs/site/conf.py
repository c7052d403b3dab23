# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure Sphinx for the site that tools/docs.sh assembles."""

from __future__ import annotations

project = "flyd.lite"
author = "The flyd.lite authors"
project_copyright = f"2026, {author}"
title = html_title = html_short_title = "flyd.lite"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
exclude_patterns = ["README.md", "docs/README.md", "docs/adr/README.md"]  # lists of pages, as the navigation is
# Links to files that are no pages, such as a test, and ansible-core's labels: a build needs no network.
suppress_warnings = ["myst.header", "myst.xref_missing", "ref.ref"]

myst_heading_anchors = 3
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
highlight_language = "console"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
