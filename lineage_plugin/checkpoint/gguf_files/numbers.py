"""The number types of ggml: how many elements a block holds, how many bytes it takes, and what shares a scale.

Sizes are those of the ``block_*`` structures in ``ggml-common.h``; a test holds them against the ``gguf`` library.
"""

from __future__ import annotations

from dataclasses import dataclass

from lineage_plugin.checkpoint.types import Encoding

__all__ = ["NUMBERS", "Numbers", "numbers_of"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number type.

    Attributes:
        name: Name in ggml.
        elements: Elements of a block.
        nbytes: Bytes of a block.
        plain: The name safetensors gives the type when every element is a number of its own, else None.
        bits: Bits of a level, without scales.
        run: Neighbours in a row that share a scale and whose order does not matter to the quantiser. 0 for the types
            that round groups of neighbours to entries of a codebook.
        decoded: Whether the ``gguf`` library decodes it.
        halves: Positions of the 16-bit numbers in a block, which stand the other way round in big-endian files; None
            where big-endian files of this type are not known to exist.
    """

    name: str
    elements: int
    nbytes: int
    plain: str | None = None
    bits: float = 0.0
    run: int = 0
    decoded: bool = True
    halves: tuple[int, ...] | None = None

    @property
    def encoding(self) -> Encoding | None:
        """How matrices of this type are packed; None for plain numbers."""
        return None if self.plain else Encoding(self.name, self.bits, (1, self.run))


def _blocks(
    name: str,
    elements: int,
    nbytes: int,
    bits: float,
    run: int,
    halves: tuple[int, ...] | None = None,
    *,
    decoded: bool = True,
) -> Numbers:
    return Numbers(name, elements, nbytes, None, bits, run, decoded, halves)


NUMBERS: dict[int, Numbers] = {
    0: Numbers("F32", 1, 4, "F32", 32),
    1: Numbers("F16", 1, 2, "F16", 16),
    2: _blocks("Q4_0", 32, 18, 4, 32, (0,)),
    3: _blocks("Q4_1", 32, 20, 4, 32),
    6: _blocks("Q5_0", 32, 22, 5, 32),
    7: _blocks("Q5_1", 32, 24, 5, 32),
    8: _blocks("Q8_0", 32, 34, 8, 32, (0,)),
    9: _blocks("Q8_1", 32, 40, 8, 32, decoded=False),
    10: _blocks("Q2_K", 256, 84, 2, 16),
    11: _blocks("Q3_K", 256, 110, 3, 16),
    12: _blocks("Q4_K", 256, 144, 4, 32, (0, 2)),
    13: _blocks("Q5_K", 256, 176, 5, 32),
    14: _blocks("Q6_K", 256, 210, 6, 16, (208,)),
    15: _blocks("Q8_K", 256, 292, 8, 256, decoded=False),
    16: _blocks("IQ2_XXS", 256, 66, 2, 0),
    17: _blocks("IQ2_XS", 256, 74, 2, 0),
    18: _blocks("IQ3_XXS", 256, 98, 3, 0),
    19: _blocks("IQ1_S", 256, 50, 1, 0),
    20: _blocks("IQ4_NL", 32, 18, 4, 32),
    21: _blocks("IQ3_S", 256, 110, 3, 0),
    22: _blocks("IQ2_S", 256, 82, 2, 0),
    23: _blocks("IQ4_XS", 256, 136, 4, 32),
    24: Numbers("I8", 1, 1, "I8", 8),
    25: Numbers("I16", 1, 2, "I16", 16),
    26: Numbers("I32", 1, 4, "I32", 32),
    27: Numbers("I64", 1, 8, "I64", 64),
    28: Numbers("F64", 1, 8, "F64", 64),
    29: _blocks("IQ1_M", 256, 56, 1, 0),
    30: Numbers("BF16", 1, 2, "BF16", 16),
    # Three levels; the scale is the largest magnitude of the block.
    34: _blocks("TQ1_0", 256, 54, 1.6, 256),
    35: _blocks("TQ2_0", 256, 66, 2, 256),
    39: _blocks("MXFP4", 32, 17, 4, 32, ()),
    40: _blocks("NVFP4", 64, 36, 4, 16, ()),
    41: _blocks("Q1_0", 128, 18, 1, 128, decoded=False),
}
"""The types by number. Those that are missing were withdrawn (4, 5, 31-33, 36-38) or are not known yet."""


def numbers_of(number: int) -> Numbers:
    """Return the type of a number; a type without blocks when it is not known."""
    return NUMBERS.get(number) or Numbers(f"type {number}", 0, 0, decoded=False)
