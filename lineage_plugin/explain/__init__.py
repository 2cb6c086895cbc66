"""What each finding code means: one page a code, in the terminal and as ``docs/rules/LINxxx.md``.

A page is made of a text in the form of a docstring. Those about the card are the docstrings of the rules themselves;
those of the other groups are in :mod:`~lineage_plugin.explain.lineage`, :mod:`~lineage_plugin.explain.inputs` and
:mod:`~lineage_plugin.explain.policies`. The form: the first line says what is reported; then paragraphs, of which one
may begin with ``Why:``, one with ``Do:`` (what to do) and one with ``Fix:`` (what ``lineage lint --fix`` repairs: a
code without it is not fixable); ``Example::`` and ``Repair::`` are followed by indented lines. Links lead to pages of
``docs/``.

``python -m lineage_plugin.explain docs`` writes the pages.

    >>> page("LIN205").fixable
    True
"""

from lineage_plugin.explain.markdown import index, markdown
from lineage_plugin.explain.pages import Page, page, pages
from lineage_plugin.explain.terminal import explain

__all__ = ["Page", "explain", "index", "markdown", "page", "pages"]
