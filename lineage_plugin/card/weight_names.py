"""What the names of a model's files say of it: whole weights, adapters, quantised copies.

Only names that loaders look for count as whole weights; a file of any other name may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["CONFIGURATIONS", "WeightNames", "is_licence_file", "weight_names"]

CONFIGURATIONS: Final = frozenset({"config.json", "adapter_config.json", "model_index.json"})
"""Files that only the folder of a model has."""

_LICENCE: Final = re.compile(
    r"(?:[^/]*[-_. ])?(?:licen[cs]es?|copying|notices?|terms|use[-_]policy)(?:[-_. ][^/]*)?(?<!\.py)\Z", re.IGNORECASE
)
_WHOLE: Final = re.compile(
    r"(?:(?:model|pytorch_model|tf_model|flax_model|diffusion_pytorch_model|consolidated|rust_model)"
    r"(?:\.[a-z0-9_]{1,12}|-\d{1,6}(?:-of-\d{1,6})?)*\.(?:safetensors|bin|pth|pt|h5|msgpack|ot)"
    r"|open_clip_(?:pytorch_)?model\.(?:safetensors|bin))\Z"
)
_ADAPTER: Final = re.compile(
    r"(?:adapter_config\.json|adapter_model\..*|adapters\.safetensors|pytorch_adapter\.bin|learned_embeds.*"
    r"|(?=.*(?:safetensors|bin|pt|pth|ckpt|gguf)\Z)(?:.*(?<!f)(?<!exp)lora.*|.*adapter.*|.*control.*|.*lycoris.*))\Z"
)
_OTHER: Final = re.compile(
    r"(?!training_args|optimizer|scheduler|scaler|rng_state|random_states|value_head|new_embeddings|lineage\.fingerprint)"
    r".*\.(?:safetensors|ckpt)\Z"
)
_GGUF_TYPE: Final = re.compile(
    r"(?:\A|[-._])(?P<type>(?:I?Q[1-8](?:_[0-9A-Z]{1,3}){0,3}|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4))(?=[-._]|\Z)",
    re.IGNORECASE,
)
_GGUF_ASIDE: Final = re.compile(r"mmproj|imatrix|vocab|lora|adapter|draft", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WeightNames:
    """What the names of files say.

    Attributes:
        whole: The first file of whole weights, or None.
        adapter: The first file of an adapter of any kind, or None; a configuration before weights.
        plain: The first file of whole weights that is no GGUF file, or None.
        gguf: The first GGUF file that holds a model, or None.
        quantised_gguf: The first of them whose name says that it is quantised, or None.
        other: The first file that may hold a whole model by its suffix, under a name that says nothing, or None.
    """

    whole: str | None = None
    adapter: str | None = None
    gguf: str | None = None
    quantised_gguf: str | None = None
    other: str | None = None
    plain: str | None = None

    @property
    def any(self) -> bool:
        """Whether there are weights of any kind."""
        return any(found is not None for found in (self.whole, self.adapter, self.other))


def is_licence_file(name: str) -> bool:
    """Return whether a file is one that the text of a licence, or a notice, stands in, by its name."""
    return _LICENCE.match(name.rpartition("/")[2][:200]) is not None


def weight_names(files: Iterable[str]) -> WeightNames:
    """Sort file names.

    Args:
        files: Names relative to the model's folder; of any content.
    """
    whole: list[str] = []
    adapters: list[str] = []
    gguf: list[str] = []
    quantised: list[str] = []
    other: list[str] = []
    for file in sorted(files):
        name = file.rpartition("/")[2][:255]
        if _ADAPTER.match(name.lower()):
            adapters.append(file)
        elif name.lower().endswith(".gguf"):
            if _GGUF_ASIDE.search(name):
                continue
            gguf.append(file)
            # Some packagers give every type a folder of its own.
            if _GGUF_TYPE.search(name[: -len(".gguf")]) or _GGUF_TYPE.search(file.rpartition("/")[0][-100:]):
                quantised.append(file)
        elif _WHOLE.match(name.lower()):
            whole.append(file)
        elif _OTHER.match(name.lower()):
            other.append(file)

    def first(found: list[str]) -> str | None:
        # The top folder before others.
        return min(found, key=lambda file: (file.count("/"), not file.endswith(".json"), file), default=None)

    return WeightNames(
        first([*whole, *gguf]), first(adapters), first(gguf), first(quantised), first(other), first(whole)
    )
