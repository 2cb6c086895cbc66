"""From the small files beside a card to :class:`~lineage_plugin.card.beside.Beside`.

A few files of known names are read, each up to a limit, none of them weights. Strangers wrote them: what is damaged is
left out and explained, nothing is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from lineage_plugin.card.beside import Beside
from lineage_plugin.card.claims import claims_of_weights, looks_like_a_folder
from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.located import Problem, json_position
from lineage_plugin.card.prose import claims_of_text
from lineage_plugin.card.recipe import ReadRecipe, recipe_of_card, recipe_of_file
from lineage_plugin.card.reference import Rejection, parse_reference
from lineage_plugin.card.weight_names import WeightNames, weight_names
from lineage_plugin.text import one_line, quoted

__all__ = ["MAX_FILE", "RECIPES", "gather"]

MAX_FILE: Final = 4 << 20
"""Largest file read, in bytes; tokenizer configurations with thousands of added tokens have about 1 MB."""

Read = Callable[[str, int], "bytes | None"]

RECIPES: Final = ("mergekit_config.yml", "mergekit_config.yaml", "mergekit_moe_config.yml")
_QUANTISED_BY: Final = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_KEYS_OF_SCHEMES: Final = (("desc_act", "gptq"), ("w_bit", "awq"), ("zero_point", "awq"), ("quantization", "modelopt"))
"""Keys that tell the scheme of a file without ``quant_method``: AutoGPTQ's, AutoAWQ's and ModelOpt's."""
_NATIVE: Final = frozenset({"bitnet", "fbgemm_fp8", "fp8", "mxfp4", "mxfp8"})
"""Schemes that models are trained and published in: a fine-tune of DeepSeek-V3 or gpt-oss has them, too."""
_NATIVE_TYPES: Final = frozenset({"deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25"})
"""Model types that are published in a scheme of ``compressed-tensors``."""
_FLOATS: Final = frozenset({0, 1, 32})
"""``general.file_type`` of GGUF files that are not quantised: F32, F16, BF16."""
_MULTIMODAL: Final = re.compile(r"image|audio|video|vision|speech|soft_token", re.IGNORECASE)
_VALUES, _CONTAINERS = 1 << 18, 1 << 16


def gather(
    read: Read,
    files: Collection[str] | None,
    *,
    text: str = "",
    card: str = "README.md",
    gguf: Callable[[str], Mapping[str, object]] | None = None,
) -> Beside:
    """Gather what the files beside a card say.

    Args:
        read: Gives a file of the model by its name, at most so many bytes of it as the second argument says; None when
            there is none. What it raises is passed on.
        files: Names of the model's files relative to its folder; None when they are not known.
        text: The card.
        card: Its name, for the claims.
        gguf: Gives the metadata of a GGUF file by its name; nothing, or UnreadableCheckpoint, when it cannot be read.
            None: they are not read.

    Returns:
        The facts. Contents never raise.
    """
    files = None if files is None else tuple(sorted(files))
    reader = _Reader(read, files)
    names = weight_names(files or ())
    config = reader.json("config.json")
    tokenizer = reader.json("tokenizer_config.json")
    recipe = _recipe(reader, text, card)
    metadata: Mapping[str, object] = {}
    if gguf is not None and names.gguf is not None:
        metadata = reader.header(gguf, names.gguf)
    quantisation, shown_by = _quantisation(reader, config, names, metadata)
    claims = [
        *reader.claim("config.json", config, "_name_or_path"),
        *reader.claim("tokenizer_config.json", tokenizer, "name_or_path"),
        *(claims_of_weights(metadata, names.gguf) if names.gguf else ()),
        *(recipe.tokenizers if recipe is not None else ()),
        *claims_of_text(text, card),
    ]
    relation, relation_file = _relation(names, config, quantisation, shown_by, recipe)
    reader.ids_beyond(config, tokenizer)
    return Beside(
        files=files,
        config=config,
        quantisation=quantisation,
        relation=relation if files is not None else None,
        relation_file=relation_file if files is not None else None,
        claims=tuple(claims),
        recipe=recipe.recipe if recipe is not None else None,
        problems=(*reader.problems, *(recipe.problems if recipe is not None else ())),
    )


@dataclass(slots=True)
class _Reader:
    """Reads small files, and says what could not be read."""

    read: Read
    files: tuple[str, ...] | None
    problems: list[Problem] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return a file as text, bad bytes as lone surrogates; None when there is none."""
        if self.files is not None and name not in self.files:
            return None
        data = self.read(name, MAX_FILE + 1)
        if data is None:
            return None
        if len(data) > MAX_FILE:
            self._report(name, f"is larger than {MAX_FILE >> 20} MiB and was not read")
            return None
        return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")

    def json(self, name: str) -> dict[str, object]:
        """Return a file of JSON as an object; an empty one when there is none that can be read."""
        text = self.text(name)
        if text is None:
            return {}
        from lineage_plugin.checkpoint.strictjson import load_object
        from lineage_plugin.errors import UnreadableCheckpoint

        try:
            data = text.encode("utf-8", "surrogateescape")
            document = load_object(data, where=name, what="file", values=_VALUES, containers=_CONTAINERS)
        except UnreadableCheckpoint as error:
            self._report(name, f"was not read: {one_line(error.problem, 120)}")
            return {}
        self._texts[name] = text
        return document

    def header(self, gguf: Callable[[str], Mapping[str, object]], name: str) -> Mapping[str, object]:
        """Return the metadata of a GGUF file; empty when it cannot be read, which is said if the reader says it."""
        from lineage_plugin.errors import UnreadableCheckpoint

        try:
            return gguf(name)
        except UnreadableCheckpoint as error:
            self._report(name, f"was not read: {one_line(error.problem, 120)}")
            return {}

    def claim(self, name: str, document: Mapping[str, object], key: str) -> list[BaseClaim]:
        """Return the model that a key of a file names, unless it is a folder of somebody's disk."""
        value = document.get(key)
        reference = parse_reference(value) if isinstance(value, str) and value else None
        if reference is None or isinstance(reference, Rejection) or looks_like_a_folder(reference.id):
            return []
        # Parts of a configuration may have the key, too.
        place = json_position(self._texts.get(name, ""), f'"{key}"', f'"{value}"')
        return [BaseClaim(reference.id, reference.revision, name, *place)]

    def ids_beyond(self, config: Mapping[str, object], tokenizer: Mapping[str, object]) -> None:
        """Report the largest id of an added token for which the model has no embedding."""
        size = _embeddings(config)
        if size is None:
            return
        added = tokenizer.get("added_tokens_decoder")
        found: list[tuple[int, str, str, str]] = []
        for number, token in (added if isinstance(added, dict) else {}).items():
            content = token.get("content") if isinstance(token, dict) else None
            if isinstance(content, str) and number.isascii() and number.isdigit() and len(number) < 12:
                found.append((int(number), content, "tokenizer_config.json", f'"{number}"'))
        if not found:
            for content, value in self.json("added_tokens.json").items():
                if isinstance(value, int) and not isinstance(value, bool):
                    found.append((value, content, "added_tokens.json", ""))
        # Text models of a family share the tokenizer of its models for images, whose placeholders are never looked up.
        beyond = [one for one in found if one[0] >= size and not _MULTIMODAL.search(one[1])]
        if not beyond:
            return
        largest, content, name, key = max(beyond)
        line, column = json_position(self._texts.get(name, ""), key, "{") if key else (None, None)
        message = (
            f"{name} gives the token {quoted(content, 40)} the id {largest}, "
            f"but config.json has a vocab_size of {size}, so ids end at {size - 1}"
        )
        self.problems.append(
            Problem(message, line, column, "warning", "Take tokenizer and configuration from the same model.", name)
        )

    def _report(self, name: str, message: str) -> None:
        self.problems.append(Problem(f"{one_line(name)} {message}", level="note", file=name))


def _recipe(reader: _Reader, text: str, card: str) -> ReadRecipe | None:
    """Return the recipe of the first file that is one, else that of the card's text."""
    for name in RECIPES:
        content = reader.text(name)
        found = recipe_of_file(content, name) if content is not None else None
        if found is not None and found.recipe is not None:
            return found
        reader.problems += found.problems if found is not None else ()
    return recipe_of_card(text, card)


def _quantisation(
    reader: _Reader, config: Mapping[str, object], names: WeightNames, metadata: Mapping[str, object]
) -> tuple[str | None, str | None]:
    """Return the scheme of the weights, and the file that says so."""
    # MLX writes its section twice, under the name of transformers' as well.
    for key in ("quantization", "quantization_config", "compression_config"):
        section = config.get(key)
        if not isinstance(section, dict):
            continue
        method = section.get("quant_method")
        if isinstance(method, str) and method:
            return one_line(method.lower(), 40), "config.json"
        if section.get("load_in_4bit") is True or section.get("load_in_8bit") is True:
            return "bitsandbytes", "config.json"
        if key == "compression_config":
            return "compressed-tensors", "config.json"
        if "bits" in section and "group_size" in section:
            return "mlx" if key == "quantization" else "gptq", "config.json"
    for name in _QUANTISED_BY:
        document = reader.json(name)
        method = document.get("quant_method")
        if isinstance(method, str) and method:
            return one_line(method.lower(), 40), name
        for key, scheme in _KEYS_OF_SCHEMES:
            if key in document:
                return scheme, name
    kind = metadata.get("general.file_type")
    if isinstance(kind, int) and not isinstance(kind, bool) and names.gguf is not None:
        return ("gguf", names.gguf) if kind % 1024 not in _FLOATS else (None, None)
    return ("gguf", names.quantised_gguf) if names.quantised_gguf is not None else (None, None)


def _relation(
    names: WeightNames,
    config: Mapping[str, object],
    quantisation: str | None,
    shown_by: str | None,
    recipe: ReadRecipe | None,
) -> tuple[str | None, str | None]:
    """Return the relation that the files alone show, and the file that shows it."""
    if names.adapter is not None:
        # Adapter files beside whole weights may be a training checkpoint, a second offer or an adapter kept for use.
        # One in GGUF may have been converted from another, which it is then quantised from.
        alone = names.whole is None and names.other is None and not names.adapter.lower().endswith(".gguf")
        return ("adapter", names.adapter) if alone else (None, None)
    if quantisation == "gguf" and names.plain is not None:
        return None, None  # quantised copies for convenience
    if quantisation is not None:
        native = quantisation in _NATIVE or (
            quantisation == "compressed-tensors" and str(config.get("model_type")) in _NATIVE_TYPES
        )
        return (None, None) if native else ("quantized", shown_by)
    if recipe is not None and recipe.recipe is not None and recipe.generated and recipe.merged > 1:
        return "merge", recipe.recipe.file
    return None, None


def _embeddings(config: Mapping[str, object]) -> int | None:
    """Return how many tokens have an embedding, the largest number of any part; None where that does not tell."""
    heads = config.get("architectures")
    if "auto_map" in config or (isinstance(heads, list) and any(str(head)[:80].endswith("CTC") for head in heads)):
        return None  # code of the model's own; or tokens that are written and never looked up
    sizes = []
    for section in (config, *(value for value in config.values() if isinstance(value, dict))):
        numbers = [section.get(key) for key in ("vocab_size", "additional_vocab_size")]
        size, more = (n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else 0 for n in numbers)
        if size:
            sizes.append(size + more)
    return max(sizes, default=None)
