"""The table of architectures in ``docs/architectures.md``, made from the families themselves."""

from __future__ import annotations

from lineage_plugin.anatomy.families import families

__all__ = ["architectures_table"]

_HEADER = ("layout", "models", "units", "residual stream", "exact", "notes")
_UNKNOWN = (
    "unknown",
    "everything else",
    "**channels**: swap of neighbours, tensor by tensor",
    "-",
    "no",
    "Output channels of tensors whose output axis is certain to be hidden; their evidence is averaged, never pooled.",
)


def architectures_table() -> str:
    """Return the table as Markdown: layout, models, units, residual stream, exactness, notes."""
    lines = [_HEADER, tuple("---" for _ in _HEADER)]
    for family in sorted(families(), key=lambda family: family.name):
        units = "<br>".join(f"**{name}**: {how}" for name, how in family.units)
        stream = family.stream.symmetry if family.stream is not None else "-"
        lines.append((family.name, family.models, units, stream, "yes", family.notes))
    lines.append(_UNKNOWN)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    print(architectures_table(), end="")
