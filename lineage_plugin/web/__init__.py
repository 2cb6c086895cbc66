"""The answer in a browser: two model ids in, the same check out. It runs as a Space, or locally by ``lineage serve``.

The way of a question::

    visitor ── asked ──> Job ── desk ──> worker process ──> api.check, compare, scan, tree ──> Answer ── pages ──> HTML
                                  ^  queue, limits               │
                                  └────────── Updates ───────────┘

A question is a :class:`~lineage_plugin.web.jobs.Job`, the same whether it comes from a form, the API, an MCP client or
the webhook. It is answered in a process of its own, which knows no token but the one that came with the question, can
be stopped at any moment, and may use a limited amount of memory and time. Nothing here judges a model: that is the
package's, and the report is the one that the command line prints.

gradio is imported by the modules that draw the pages only.
"""
