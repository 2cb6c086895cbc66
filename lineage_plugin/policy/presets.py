"""The presets: policies that come with the package, for a file to build on with ``preset: strict``."""

from __future__ import annotations

from typing import Final

__all__ = ["PRESETS", "preset_text"]

PRESETS: Final = ("solo", "strict")


def preset_text(name: str) -> str:
    """Return the file of a preset, with the comments that give its reasons."""
    from importlib import resources

    return (resources.files(__package__) / "presets" / f"{name}.yml").read_text(encoding="utf-8")
