"""Does this checkpoint really come from the base model its card declares?

    >>> from lineage_plugin import check
    >>> report = check("examples/honest", bases=["examples/base"])
    >>> report.verdict, report.comparisons[0].relation
    ('pass', 'derived')

:func:`check` compares a model with the bases that its card declares, :func:`compare` weighs the evidence for one pair,
:func:`scan` asks a registry of known models, :func:`lint` reads the card alone. All of them return a :class:`Report`,
an immutable value that :func:`render` turns into text or JSON. All of them take a :class:`Policy`, which
:func:`load_policy` reads. :func:`tree` finds how several models are related; :mod:`lineage_plugin.family` writes that
down. :func:`fingerprint_model` makes the file that stands for a model. What goes wrong on purpose is a
:class:`LineageError`. What guards uploads is in :mod:`lineage_plugin.hooks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lineage_plugin._version import __version__

if TYPE_CHECKING:
    from lineage_plugin.api import check, compare, fingerprint_model, scan, tree
    from lineage_plugin.errors import (
        BudgetExceeded,
        HubDenied,
        HubError,
        HubNotFound,
        HubUnreachable,
        InputError,
        LineageError,
        UnreadableCheckpoint,
        UnsafeCheckpoint,
        UnsupportedEncoding,
        UploadBlocked,
        UsageError,
    )
    from lineage_plugin.findings import Finding
    from lineage_plugin.judge.types import Comparison, Evidence, Report
    from lineage_plugin.linting.lint import lint
    from lineage_plugin.options import Options
    from lineage_plugin.policy.load import load_policy
    from lineage_plugin.policy.types import Policy
    from lineage_plugin.report import render

__all__ = [
    "BudgetExceeded",
    "Comparison",
    "Evidence",
    "Finding",
    "HubDenied",
    "HubError",
    "HubNotFound",
    "HubUnreachable",
    "InputError",
    "LineageError",
    "Options",
    "Policy",
    "Report",
    "UnreadableCheckpoint",
    "UnsafeCheckpoint",
    "UnsupportedEncoding",
    "UploadBlocked",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "fingerprint_model",
    "lint",
    "load_policy",
    "render",
    "scan",
    "tree",
]

# Names are imported when they are first used: `lineage --help` must not wait for numpy.
_HOME = {
    **dict.fromkeys(("check", "compare", "fingerprint_model", "scan", "tree"), "lineage_plugin.api"),
    "lint": "lineage_plugin.linting.lint",
    **dict.fromkeys(("Comparison", "Evidence", "Report"), "lineage_plugin.judge.types"),
    "Finding": "lineage_plugin.findings",
    "Options": "lineage_plugin.options",
    "Policy": "lineage_plugin.policy.types",
    "load_policy": "lineage_plugin.policy.load",
    "render": "lineage_plugin.report",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME.get(name, "lineage_plugin.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
