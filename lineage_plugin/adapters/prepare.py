"""What of an adapter and its counterpart can be compared, and the views in which that is done.

============  ==========  ==================================================================================
suspect       base        what is compared
============  ==========  ==================================================================================
adapter       model       fit; tensors saved whole against the base's; DoRA magnitudes against its rows
adapter       adapter     rank components of modules that both change
model         adapter     nothing by itself: the model is to be held against :class:`Merged` (base and adapter)
============  ==========  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lineage_plugin.adapters.fits import Fit, fits, locate_saved
from lineage_plugin.adapters.magnitudes import NO_COINS, MagnitudeCoins, magnitude_coins
from lineage_plugin.adapters.modules import Parts, is_adapter, parts_of
from lineage_plugin.adapters.products import Products, products
from lineage_plugin.adapters.settings import AdapterSettings, read_settings
from lineage_plugin.adapters.view import View
from lineage_plugin.anatomy import Anatomy, Stream, analyse
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.evidence.models import Models

__all__ = ["Mode", "Prepared", "factors_view", "prepare"]

Mode = Literal["fit", "saved", "adapters", "base-is-adapter"]

_FACTORS = frozenset({"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_E", "lora_magnitude_vector"})


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """A pair of which at least one is an adapter, ready to be compared.

    Attributes:
        mode: ``adapters``: component by component; ``saved``: tensors saved whole are compared with the base's;
            ``fit``: there is nothing to toss but what ``magnitudes`` has; ``base-is-adapter``: a model against an
            adapter.
        settings: What the adapter claims (the suspect, or the base of ``base-is-adapter``).
        parts: What it holds.
        models: What the coins are to be tossed on; None when there is nothing.
        fit: How it fits the base, where the base is a model.
        magnitudes: Coins of DoRA magnitudes; none for other adapters.
        products: How alike two adapters are; None for other pairs.
    """

    mode: Mode
    settings: AdapterSettings
    parts: Parts
    models: Models | None = None
    fit: Fit | None = None
    magnitudes: MagnitudeCoins = NO_COINS
    products: Products | None = None


def prepare(suspect: Checkpoint, base: Checkpoint, *, seed: int = 0) -> Prepared | None:
    """Look at a pair of which either may be an adapter.

    Args:
        suspect: The suspect.
        base: The base.
        seed: Seed of the draws.

    Returns:
        What can be compared; None when neither is an adapter.

    Raises:
        InputError: When ``adapter_config.json`` or a weight file cannot be read.
        HubError: When the Hub does not deliver.
    """
    mine, other = is_adapter(suspect), is_adapter(base)
    if not mine and not other:
        return None
    adapter = suspect if mine else base
    settings = read_settings(adapter) or AdapterSettings()
    parts = parts_of(adapter.tensors)
    if not mine:
        return Prepared("base-is-adapter", settings, parts, fit=fits(parts, settings, suspect.tensors, suspect.config))
    if other:
        views = factors_view(suspect, settings), factors_view(base, read_settings(base) or AdapterSettings())
        anatomies = [analyse(view.tensors, view.config) for view in views]
        factors = Models.of(*views, *anatomies)
        usable = all(anatomy.family == "lora" and anatomy.groups for anatomy in anatomies)
        return Prepared("adapters", settings, parts, factors, products=products(factors) if usable else Products())
    fit = fits(parts, settings, base.tensors, base.config)
    if fit.refuted:
        return Prepared("fit", settings, parts, fit=fit)
    anatomy = analyse(base.tensors, base.config)
    magnitudes = magnitude_coins(suspect, settings, base, anatomy, seed=seed)
    models = _saved_models(suspect, base, parts, settings, anatomy)
    return Prepared("fit" if models is None else "saved", settings, parts, models, fit, magnitudes)


def factors_view(adapter: Checkpoint, settings: AdapterSettings) -> View:
    """Return the low-rank factors of an adapter under names that its layers can be told by.

    A module is named ``layers.<number>.<path>``, with the first number of its path, and 0 without one: so that modules
    outside of the usual stacks of layers have a place, too, the same in every adapter.

    Args:
        adapter: The adapter.
        settings: Its configuration, which stands in for ``config.json``.
    """
    names: dict[str, str] = {}
    for module in parts_of(adapter.tensors).modules:
        pieces = module.path.split(".")
        number = next((piece for piece in pieces if piece.isascii() and piece.isdigit() and len(piece) < 6), None)
        rest = list(pieces)
        if number is not None:
            rest.remove(number)
        rest += ["nested"] * module.nested
        # Numbers further in would be taken for layers by none, but a path must not hold a layer of its own.
        path = "_".join(rest)
        for part, info in module.parts.items():
            if part in _FACTORS:
                names[f"layers.{int(number or 0)}.{path}.{part}.weight"] = info.name
    # PEFT writes every setting, those that are not used as empty.
    config = {name: value for name, value in settings.values.items() if value not in (None, {}, [], "")}
    return View(adapter, names, config=config)


def _saved_models(
    suspect: Checkpoint, base: Checkpoint, parts: Parts, settings: AdapterSettings, anatomy: Anatomy
) -> Models | None:
    """Return the tensors that the adapter saved whole, and the same of the base, where their units are known."""
    mine: dict[str, str] = {}
    for entry in parts.saved:
        place = locate_saved(entry, settings, base.tensors) or _resized(entry.info.shape, entry.name, base, anatomy)
        if place is not None:
            mine.setdefault(place if isinstance(place, str) else place.name, entry.info.name)
    if not mine:
        return None
    views = View(suspect, mine, config=base.config, beside=base), View(base, {name: name for name in mine})
    found = [analyse(view.tensors, view.config) for view in views]
    if not all(one.exact and one.groups for one in found):
        found = [Anatomy(anatomy.family, True, 0, anatomy.width, ())] * 2
    stream = _stream(anatomy.stream, mine)
    if stream is None and not found[0].groups:
        return None
    return Models.of(*views, *(replace(one, stream=stream) for one in found))


def _stream(stream: Stream | None, saved: Mapping[str, str]) -> Stream | None:
    """Return the base's residual stream as far as the adapter holds it: by a token table, in or out."""
    if stream is None:
        return None
    table = next((name for name in (stream.embedding, stream.unembedding) if name in saved), None)
    if table is None:
        return None
    return replace(stream, embedding=table, unembedding=None, reads={}, writes={}, final=None)


def _resized(shape: tuple[int, ...], name: str, base: Checkpoint, anatomy: Anatomy) -> str | None:
    """Return the token table of the base that was resized into a saved one: of the same name and width."""
    if anatomy.stream is None or len(shape) != 2:
        return None
    for table in (anatomy.stream.embedding, anatomy.stream.unembedding):
        if table is not None and table.split(".")[-2:] == name.split(".")[-2:]:
            return table if base.tensors[table].shape[1] == shape[1] else None
    return None
