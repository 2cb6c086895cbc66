"""The rule about config.json: LIN211."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["configuration_does_not_fit"]

_TOKENIZER: Final = frozenset({"added_tokens.json", "tokenizer_config.json"})
_TASK: Final = re.compile(r"(?:For[A-Z]|LMHead|DoubleHeads|WithValueHead|Model\Z|PreTrained)")
_HEADS: Final = re.compile(r"eagle|medusa|specul|mlp_?speculator|draft|valuehead|reward", re.IGNORECASE)
"""Small networks beside a base, whose configuration is their own."""
_REWRITTEN: Final = frozenset(
    {"aquila", "baichuan", "deepseek", "exaone", "internlm", "internlm2", "llama", "mistral", "orion", "phi3", "qwen"}
    | {"qwen2", "stablelm", "yi"}
)
"""Types of one anatomy, between which programs rewrite weights: "llamafied" models."""
_BUILT_ON: Final = frozenset(
    {("mistral", "mixtral"), ("bert", "distilbert"), ("bert", "nomic_bert"), ("roberta", "camembert")}
    | {("roberta", "xlm-roberta")}
)
"""Types that models of another are made into: by mergekit-moe or by distillation, for one."""


@rule("LIN211")
def configuration_does_not_fit(card: Card) -> Iterator[Finding]:
    """Report a config.json that does not fit the declared base, or the tokenizer beside it.

    Why: a fine-tune, a merge or a quantised copy has the architecture of its base. Where ``model_type`` differs, the
    card names the wrong base or the configuration is that of another model. This is looked at only when the Hub is
    asked. Tokens whose ids lie beyond ``vocab_size`` have no embedding: the first text with such a token fails.

    Models put together from parts (``vision_config``, ``text_config``), those with code of their own (``auto_map``),
    heads for speculative decoding and adapters are built on their base and may have another type. Types of one anatomy,
    such as ``qwen2`` and ``llama``, are a note, since programs rewrite one as the other.

    Example::

        base_model: mistralai/Mistral-7B-v0.1    # model_type: mistral
        "model_type": "gpt_neox"                 # in config.json

    Repair::

        base_model: EleutherAI/pythia-6.9b
    """
    yield from _ids_beyond(card)
    config, declaration = card.beside.config, card.declaration
    if not card.hub or declaration.file != card.file or declaration.is_adapter or card.beside.relation == "adapter":
        return
    own = _types(config)
    if not own or _built_of_parts(config):
        return
    others = []
    for claim in declaration.bases:
        model = card.hub.get(claim.id)
        theirs = _types(model.config) if model is not None and model.state == "found" else ()
        if not theirs or _HEADS.search(" ".join(theirs)) or any(_related(a, b) for a in own for b in theirs):
            # One base that fits, or that nothing is known of, is enough: of a composite each names a part.
            return
        others.append((claim, theirs))
    for claim, theirs in others[:1]:
        yield _differs(card, claim, own[0], theirs[0])


def _ids_beyond(card: Card) -> Iterator[Finding]:
    for problem in card.beside.problems:
        if problem.file in _TOKENIZER and problem.level == "warning":
            yield finding(
                "LIN211",
                problem.message,
                file=problem.file,
                line=problem.line,
                column=problem.column,
                help=problem.help,
            )


def _differs(card: Card, claim: BaseClaim, own: str, theirs: str) -> Finding:
    rewritten = own in _REWRITTEN and theirs in _REWRITTEN
    return finding(
        "LIN211",
        f"config.json describes a model of type {one_line(own, 40)}, the declared base {claim.id} is of type "
        f"{one_line(theirs, 40)}",
        file=card.file,
        line=claim.line,
        column=claim.column,
        help="Say in the card how the weights were rewritten, if they were; otherwise correct base_model."
        if rewritten
        else "Correct base_model, or put the configuration beside the weights that belongs to them.",
        level="note" if rewritten else None,
    )


def _types(config: Mapping[str, object]) -> tuple[str, ...]:
    """Return ``model_type``, or what the names of the architectures begin with."""
    kind = config.get("model_type")
    if isinstance(kind, str) and kind.strip():
        return (kind.strip().lower()[:80],)
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list | tuple) else ()
    stems = (_TASK.split(name[:120], maxsplit=1)[0].lower() for name in names if isinstance(name, str))
    return tuple(stem for stem in stems if stem)


def _built_of_parts(config: Mapping[str, object]) -> bool:
    """Say whether a configuration is of a model that is built on its base rather than of its kind."""
    architectures = config.get("architectures")
    names = " ".join(name for name in architectures if isinstance(name, str)) if isinstance(architectures, list) else ""
    kind = str(config.get("model_type") or "")
    return (
        "auto_map" in config
        or any(isinstance(value, dict) and "model_type" in value for value in config.values())
        or any(key.startswith(("mm_", "vision_", "audio_")) for key in config)
        or kind.startswith(("llava", "encoder-decoder", "vision-", "speech-"))
        or "draft_vocab_size" in config
        or _HEADS.search(f"{names[:400]} {kind[:80]}") is not None
    )


def _related(one: str, other: str) -> bool:
    """Say whether two types are of one family: ``gemma3`` and ``gemma3_text``, ``qwen2`` and ``qwen2_moe``."""
    short, long = sorted((one.replace("-", "_"), other.replace("-", "_")), key=len)
    stem = short.partition("_")[0]
    if long.startswith(short) or (any(map(str.isdigit, stem)) and long.startswith(stem)):
        return True
    return (one, other) in _BUILT_ON or (other, one) in _BUILT_ON
