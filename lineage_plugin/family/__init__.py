"""The family tree of several models: which of them share learned weights, and which are nearest to each other.

    >>> from lineage_plugin.family import tree
    >>> found = tree(["examples/base", "examples/honest", "examples/liar"])
    >>> [[found.models[at].name for at in one.members] for one in found.trees]
    [['examples/base', 'examples/honest']]

:mod:`~lineage_plugin.family.grow` leads from the names of models to a :class:`~lineage_plugin.family.types.Family`:
:mod:`~lineage_plugin.family.members` opens them, :mod:`~lineage_plugin.family.pairs` compares all pairs,
:mod:`~lineage_plugin.family.claims` holds the cards against the weights, :mod:`~lineage_plugin.family.trees` chooses
the trees, and :mod:`~lineage_plugin.family.report` writes it all down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lineage_plugin.family.grow import tree

__all__ = ["tree"]


def __getattr__(name: str) -> Any:
    # The command line imports this package for the names of the formats, and must not wait for numpy.
    if name != "tree":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lineage_plugin.family.grow import tree

    return tree
