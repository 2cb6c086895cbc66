"""One model in every format: what benchmarks and tests compare with the model itself.

``CONVERSIONS[name](source, target)`` writes the model in the folder ``source`` (safetensors, one file, Llama layout;
some take others) into the folder ``target``. ``writer`` says which library made the bytes. "By hand" means: written
here or in ``tests/checkpoint/formats``, from the definition of the format, because the library runs on other machines
only, is no longer published, or needs minutes of calibration. Quantisation by hand rounds to the nearest level of each
group. Real conversions by the heavier writers are compared by ``benchmarks.formats --ready``.
"""

from benchmarks.conversions import gguf_files, plain, quantised
from benchmarks.conversions.conversion import Conversion

__all__ = ["CONVERSIONS", "Conversion"]

CONVERSIONS: dict[str, Conversion] = {
    found.name: found for found in (*plain.CONVERSIONS, *gguf_files.CONVERSIONS, *quantised.CONVERSIONS)
}
"""All conversions by name."""
