"""What other files of a model say of its base, and names that mean the same model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lineage_plugin.card.declaration import MAX_BASES, BaseClaim
from lineage_plugin.card.reference import Reference, parse_reference

__all__ = ["claims_of_weights", "copy_by_name", "looks_like_a_folder"]

_GGUF = "general.base_model"
_QUANTISED: Final = re.compile(
    r"[-_.](?:(?:bnb|unsloth|dynamic|gptq|awq|int|fp|nf|q)?[-_.]?(?:4|8)[-_.]?bit|gptq|awq|unsloth|fp8(?:[-_.]dynamic)?|int[48]"
    r"|(?:quantized\.)?w[48]a(?:8|16)|gguf)\Z"
)
"""Endings of names that tell a quantised copy."""
_CANONICAL: Final = re.compile(
    r"(?:albert|bart|bert|camembert|ctrl|distilbert|distilgpt2|distilroberta|flaubert|gpt2|openai-gpt|roberta|t5"
    r"|transfo-xl|xlm|xlnet)(?:-[a-z0-9-]+)?\Z"
)
"""Names of the models of old that have no owner."""
_FOLDER: Final = re.compile(
    r"(?:checkpoints?|ckpts?|content|data|exp(?:eriments)?|finetuned?|home|llm|local|logs|lora|merge[ds]|mnt|models?|opt"
    r"|out(?:puts?)?|pretrained|results?|root|runs?|saved?|saved_models|saves|scratch|src|te?mp|train(?:ed|ing)?|weights"
    r"|work(?:space)?)\Z",
    re.IGNORECASE,
)
"""First parts of paths, as training scripts write them."""
_STEP: Final = re.compile(r"(?:checkpoint|ckpt|step|global_step|epoch|iter)[-_.]?\d+(?:[-_.].*)?\Z", re.IGNORECASE)


def claims_of_weights(metadata: Mapping[str, object], file: str) -> tuple[BaseClaim, ...]:
    """Read the bases that the metadata of a weight file names.

    GGUF has ``general.base_model.count`` and, for each base, ``general.base_model.0.repo_url`` (the GGUF specification
    of the ggml project). Converters copy them from the card of the model they convert.

    Args:
        metadata: Key-values of the file; anything at all.
        file: The file, for the claims' ``file``.

    Returns:
        The bases that are named by an address or id of the Hub; others are passed over.
    """
    count = metadata.get(f"{_GGUF}.count")
    if not isinstance(count, int) or isinstance(count, bool):
        return ()
    found: dict[str, BaseClaim] = {}
    for number in range(min(count, MAX_BASES)):
        address = metadata.get(f"{_GGUF}.{number}.repo_url")
        reference = parse_reference(address) if isinstance(address, str) else None
        if isinstance(reference, Reference):
            found.setdefault(reference.id, BaseClaim(reference.id, reference.revision, file, None))
    return tuple(found.values())


def copy_by_name(named: str, declared: str) -> bool:
    """Say whether an id reads like a copy of another: the same name under another owner, or quantised.

    Adapters are commonly trained on such copies (``unsloth/llama-3-8b-bnb-4bit``) while the card names the original.

    Args:
        named: An id, ``owner/name``.
        declared: Another one.
    """
    return _plain_name(named) == _plain_name(declared)


def looks_like_a_folder(id: str) -> bool:
    """Say whether a text that could be an id reads like a folder: ``output/checkpoint-500``, ``merged_model``.

    Programs write what the user typed, and both may be typed. People's ids are left alone in front matter.

    Args:
        id: An id as :func:`~lineage_plugin.card.reference.parse_reference` returns it.
    """
    owner, _, name = id.rpartition("/")
    if not owner:
        return _CANONICAL.match(name.lower()) is None
    return _FOLDER.match(owner) is not None or _STEP.match(name) is not None or _STEP.match(owner) is not None


def _plain_name(id: str) -> str:
    """Return a model's name without its owner and without words for quantisation."""
    name = id.rpartition("/")[2].lower()
    while (found := _QUANTISED.search(name)) is not None:
        name = name[: found.start()]
    return name.removeprefix("meta-")
