"""What lies beside a card: the facts that other files of the model state, without a byte of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.located import Problem

__all__ = ["Beside", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A merge recipe of mergekit, from a file or from a block of the card's text.

    Attributes:
        method: ``merge_method``, or None.
        base: The model named by ``base_model``, or None.
        models: Every model of the Hub that the recipe names, the base included, in its order and without repetitions.
        file: The file it stands in.
        line: Its first line there, from 1.
    """

    method: str | None
    base: BaseClaim | None
    models: tuple[BaseClaim, ...]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Beside:
    """Facts from the files beside a card.

    Attributes:
        files: Names of the model's files relative to its folder, sorted; None when they are not known.
        config: config.json as an object; empty when there is none, or none that can be read.
        quantisation: The scheme that the configuration states, such as ``gptq``, ``awq``, ``bitsandbytes``; None: none.
        relation: The relation that the files alone show: ``adapter``, ``quantized`` or ``merge``; None when they leave
            it open.
        relation_file: The file that shows it.
        claims: Bases that other files than adapter_config.json name: recipe, configuration, tokenizer, GGUF header.
        recipe: The merge recipe, or None.
        problems: What could not be read, and why.
        unread: Whether files that say something were left aside, so that more may be found by one who reads them.
    """

    files: tuple[str, ...] | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    quantisation: str | None = None
    relation: str | None = None
    relation_file: str | None = None
    claims: tuple[BaseClaim, ...] = ()
    recipe: Recipe | None = None
    problems: tuple[Problem, ...] = ()
    unread: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether the model may have files, here or elsewhere, that nobody named: what is not here says nothing."""
        return self.unread and self.files is None
