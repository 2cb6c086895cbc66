"""Reading ``config.json`` as a claim, not as a fact.

A configuration comes from the same hand as the weights and may be missing, outdated, malformed or a lie. Numbers are
taken from it only with the right type and within reason, and the callers check them against the shapes of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["Settings", "plain"]

_LARGEST = 1 << 31
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")
_SECTIONS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("vision", "visual", "image"), ("vision_config",)),
    (("audio", "speech"), ("audio_config",)),
)
"""Words in the prefix of a stack of layers, and the sections of the configuration that describe such a stack."""


class Settings:
    """The part of a configuration that describes one stack of layers.

    A composite model keeps one section per sub-model. When there is a section for the stack it is used alone: a number
    missing from it has the default of its own architecture, not the value of the whole.

    Args:
        config: The parsed ``config.json``; any mapping at all.
        prefix: The names of the stack's tensors up to the layer number, such as ``language_model.model.layers``.
    """

    def __init__(self, config: Mapping[str, object], prefix: str = "") -> None:
        self._values = _section(config, prefix.lower())

    def integer(self, *names: str) -> int | None:
        """Return the first of the named settings that is a positive integer, or None."""
        for name in names:
            value = self._values.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST:
                return value
        return None

    def text(self, name: str) -> str | None:
        """Return a setting when it is a non-empty string, else None."""
        value = self._values.get(name)
        return value if isinstance(value, str) and value else None

    def claims(self, name: str) -> bool:
        """Return whether a setting is given at all, whatever its type."""
        return self._values.get(name) is not None

    def flag(self, name: str, default: bool) -> bool | None:
        """Return a yes-or-no setting, its default when it is not given, or None when it is given as anything else."""
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else None

    def numbers(self, *names: str) -> tuple[object, ...]:
        """Return every value given for the named settings, in the section and in its rotary sub-sections.

        The rotary settings have moved between releases: top level, ``rope_scaling``, ``rope_parameters``, and
        ``rope_parameters`` by kind of layer. All places are returned; whether they agree is for the caller to see.
        """
        return tuple(
            place[name] for place in _rotary_places(self._values) for name in names if place.get(name) is not None
        )

    @property
    def model_type(self) -> str:
        """The model type claimed, lower case with underscores, or an empty string."""
        return (self.text("model_type") or "").lower().replace("-", "_")


def plain(text: str, limit: int = 40) -> str:
    """Return untrusted text fit for a sentence: printable ASCII, at most ``limit`` characters."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _section(config: Mapping[str, object], prefix: str) -> Mapping[str, object]:
    # Pipelines, and models put together of others, have one section a component, named as its tensors begin.
    first, _, rest = prefix.partition(".")
    component = config.get(first)
    if rest and isinstance(component, Mapping) and component:
        return _section(component, rest)
    for words, names in _SECTIONS:
        if any(word in prefix for word in words):
            return _first_mapping(config, names) or config
    return _first_mapping(config, _TEXT_SECTIONS) or config


def _first_mapping(config: Mapping[str, object], names: tuple[str, ...]) -> Mapping[str, object] | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, Mapping) and value:
            return value
    return None


def _rotary_places(values: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    yield values
    for name in ("rope_parameters", "rope_scaling"):
        place = values.get(name)
        if isinstance(place, Mapping):
            yield place
            yield from (nested for nested in place.values() if isinstance(nested, Mapping))
