"""Adapters: small files that change a base model without containing it.

An adapter names its base in ``adapter_config.json`` and can be used with no other model of other shapes. What it holds
was started at random and trained; a bare LoRA has no weight of its base in it, so that nothing in it can *prove* where
it comes from. Much can be checked all the same::

    settings = read_settings(checkpoint)                        # what adapter_config.json claims
    parts = parts_of(checkpoint.tensors)                        # what the weight file holds
    fit = fits(parts, settings, base.tensors, base.config)      # whether it can have been made for a base

A misfit refutes the base. Tensors saved whole (``modules_to_save``, embeddings) are compared with the base's by coins,
DoRA magnitudes with the norms of its rows, and two adapters with each other, component by component; :func:`prepare`
says which of these there is.
"""

from lineage_plugin.adapters.claims import contradictions, revisions_differ
from lineage_plugin.adapters.fits import Fit, Misfit, fits
from lineage_plugin.adapters.magnitudes import MagnitudeCoins, magnitude_coins
from lineage_plugin.adapters.merged import Merged
from lineage_plugin.adapters.modules import AdaptedModule, Parts, SavedTensor, is_adapter, parts_of
from lineage_plugin.adapters.prepare import Prepared, prepare
from lineage_plugin.adapters.report import settle, without_coins
from lineage_plugin.adapters.settings import AdapterSettings, parse_settings, read_settings
from lineage_plugin.adapters.update import effective_update

__all__ = [
    "AdaptedModule",
    "AdapterSettings",
    "Fit",
    "MagnitudeCoins",
    "Merged",
    "Misfit",
    "Parts",
    "Prepared",
    "SavedTensor",
    "contradictions",
    "effective_update",
    "fits",
    "is_adapter",
    "magnitude_coins",
    "parse_settings",
    "parts_of",
    "prepare",
    "read_settings",
    "revisions_differ",
    "settle",
    "without_coins",
]
