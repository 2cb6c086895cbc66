"""What a card states of its licence, of which sort the model is, and how that goes with the licences of its bases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from lineage_plugin.card.located import Located
from lineage_plugin.card.weight_names import is_licence_file, weight_names
from lineage_plugin.licences.chain import ancestors
from lineage_plugin.licences.facts import Licence, stated
from lineage_plugin.licences.judge import Ancestor, Judgement, Verdict, judge

if TYPE_CHECKING:
    from lineage_plugin.card.rules.registry import Card

__all__ = [
    "Sort",
    "Stated",
    "chain_of",
    "hands_out_terms",
    "is_own",
    "licence_files",
    "made_out",
    "mildest",
    "sort_of",
    "stated_licences",
]

Sort = Literal["apart", "adapter", "copy", "other"]
"""``apart``: used beside a base, and holds nothing of it; ``adapter``: changes to a base without it; ``copy``: a
quantised base; ``other``: holds what was made of the base, or it is open."""

MAX_LICENCES: Final = 16
"""Most licences read of one card."""

_APART_TAGS: Final = frozenset(
    {"controlnet", "ip-adapter", "sae", "saelens", "sparse-autoencoder", "t2i-adapter"}
    | {"textual-inversion", "textual_inversion"}
)
_APART_CLASSES: Final = re.compile(r"ControlNet|T2IAdapter|MultiAdapter|IPAdapter")
"""What diffusers' classes of such models are called."""
_APART_FILES: Final = re.compile(
    r"learned_embeds[^/]{0,40}\.(?:bin|safetensors)|ip-adapter[^/]{0,80}\.(?:bin|safetensors)"
)
_LORA_TAGS: Final = frozenset({"lora", "template:sd-lora"})


@dataclass(frozen=True, slots=True)
class Stated:
    """A value of ``license``.

    Attributes:
        text: What is written.
        value: Where.
        licence: The licence it means, if that is known.
        name: ``license_name``, which says what ``other`` means.
    """

    text: str
    value: Located
    licence: Licence | None
    name: str | None = None

    @property
    def is_other(self) -> bool:
        """Whether the card leaves it to ``license_name`` to say which."""
        return self.text.casefold() == "other"


def stated_licences(card: Card) -> tuple[Stated, ...]:
    """Read ``license``, one or a list."""
    value = card.front_matter.get("license")
    return () if value is None else tuple(_each(value, card.front_matter.text("license_name")))


def _each(value: Located, name: str | None) -> Iterator[Stated]:
    for item in value.each[:MAX_LICENCES]:
        text = (item.text or "").strip()
        if item.kind == "string" and text:
            yield Stated(text, item, stated(text, name), name)


def made_out(values: Sequence[Stated]) -> list[Stated]:
    """Return the licences that can be made out; of the others another finding has told."""
    return [value for value in values if value.licence is not None or (value.is_other and value.name)]


def chain_of(card: Card) -> list[Ancestor]:
    """Return the models along the declared chain; what the publisher's own models are licensed under is up to him."""
    found = ancestors((base.id for base in card.declaration.bases), card.hub)
    return [model for model in found if not is_own(card, model.id)]


def is_own(card: Card, id: str) -> bool:
    """Tell whether a model of the chain is the publisher's own, who may license it as he likes."""
    if not card.name or "/" not in card.name or "/" not in id:
        return False
    return card.name.split("/", 1)[0].casefold() == id.split("/", 1)[0].casefold()


def sort_of(card: Card) -> Sort:
    """Return how much of its base a model holds, as card and files say."""
    tags, library = _tags(card), card.front_matter.get("library_name")
    kind = card.beside.config.get("_class_name")
    files = [name.rsplit("/", 1)[-1][:200].casefold() for name in card.beside.files or ()]
    if (
        tags & _APART_TAGS
        or (library is not None and (library.text or "").strip().casefold() == "saelens")
        or (isinstance(kind, str) and _APART_CLASSES.search(kind))
        or any(_APART_FILES.fullmatch(name) for name in files)
    ):
        return "apart"
    relation = card.relation
    if relation in ("adapter", "quantized"):
        return "adapter" if relation == "adapter" else "copy"
    if relation is None and tags & _LORA_TAGS and weight_names(card.beside.files or ()).whole is None:
        return "adapter"
    return "other"


def mildest(values: Sequence[Stated], card: Card, model: Ancestor) -> Judgement:
    """Judge each licence of a list and return the mildest judgement: the reader may have the choice.

    Licences whose terms are not known count only where there is no other: they prove nothing. What holds nothing of
    the base is never incompatible with it beyond doubt.
    """
    order = get_args(Verdict)
    known = [value.licence for value in values if value.licence is not None]
    judged = [judge(licence, card.relation, [model])[0] for licence in known] or judge(None, card.relation, [model])
    found = min(judged, key=lambda judgement: order.index(judgement.verdict))
    if found.verdict == "incompatible" and sort_of(card) == "apart":
        reason = "it holds nothing of the base, and whether it is a derivative of it all the same is open"
        return replace(found, verdict="ask a lawyer", reason=reason)
    return found


def hands_out_terms(card: Card) -> bool:
    """Tell whether who wants the files is shown terms first: owners do so with their own models."""
    return any(card.front_matter.text(key) for key in ("extra_gated_prompt", "extra_gated_heading"))


def licence_files(card: Card) -> list[str]:
    """Return the files beside a card whose names say that they hold a licence, terms or a notice."""
    return [name for name in card.beside.files or () if is_licence_file(name)]


def _tags(card: Card) -> frozenset[str]:
    tags = card.front_matter.get("tags")
    return frozenset((item.text or "")[:100].strip().casefold() for item in (() if tags is None else tags.each))
