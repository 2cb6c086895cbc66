"""What the weight files say about the model they were made from."""

from __future__ import annotations

from collections.abc import Mapping

from lineage_plugin.card.declaration import MAX_BASES, BaseClaim
from lineage_plugin.card.reference import Reference, parse_reference

__all__ = ["claims_of_weights"]

_GGUF = "general.base_model"


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
