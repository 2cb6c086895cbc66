"""``adapter_config.json``: what an adapter says about itself.

Every value is a claim. A value of the wrong type or out of reason is left out and named in ``problems``; only a file
that cannot be parsed at all is refused. Patterns of module names are regular expressions of whoever made the adapter:
they are never run. Plain names, which nearly all of them are, are compared as PEFT would; for the others the answer is
that it is not known.

Source: the configuration classes of PEFT 0.21 (``peft.LoraConfig`` and its relatives).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeGuard, TypeVar

from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.text import one_line

__all__ = ["CONFIG_FILE", "AdapterSettings", "matches", "parse_settings", "read_settings"]

CONFIG_FILE: Final = "adapter_config.json"

_LARGEST: Final = 1 << 20
_MOST_VALUES: Final = 1 << 16
_MOST_CONTAINERS: Final = 1 << 14
_MOST_NAMES: Final = 1 << 14
_LONGEST_TEXT: Final = 4096
_LARGEST_NUMBER: Final = 1 << 24
_PLAIN: Final = re.compile(r"[\w.\-]+\Z", re.ASCII)
_RANDOM_STARTS: Final = frozenset({"gaussian", "orthogonal", "true", "false"})

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What ``adapter_config.json`` claims.

    Attributes:
        method: ``peft_type`` in capitals, such as ``LORA``; "" when none is given.
        base: ``base_model_name_or_path`` as it is written, or None.
        revision: Revision of the base, or None.
        task: ``task_type``, such as ``CAUSAL_LM``, or None.
        rank: ``r``, or None.
        alpha: ``lora_alpha``, or None.
        ranks: Ranks by pattern of module name, in order.
        alphas: The same for ``lora_alpha``.
        rslora: Whether the update is scaled by ``alpha / sqrt(r)`` (arXiv:2312.03732) instead of ``alpha / r``.
        dora: Whether rows are brought to a learned magnitude (arXiv:2402.09353).
        transposed: ``fan_in_fan_out``: whether the base stores ``[in, out]``.
        targets: Names of the adapted modules; empty when given as an expression, or not at all.
        target_expression: Whether ``target_modules`` is an expression, or a keyword such as ``all-linear``.
        parameters: ``target_parameters``: adapted parameters that are no modules, such as stacked experts.
        saved: ``modules_to_save``.
        layers: ``layers_to_transform``; None when all are.
        replication: ``layer_replication`` as ``(start, stop)`` pairs: the base's layers in the adapted model's order.
        start: ``init_lora_weights``; "" for the usual start.
        virtual_tokens: ``num_virtual_tokens``, or None.
        version: ``peft_version``, or None.
        values: Everything in the file, not trusted.
        problems: Plain phrases about values that could not be used.
    """

    method: str = ""
    base: str | None = None
    revision: str | None = None
    task: str | None = None
    rank: int | None = None
    alpha: float | None = None
    ranks: tuple[tuple[str, int], ...] = ()
    alphas: tuple[tuple[str, float], ...] = ()
    rslora: bool = False
    dora: bool = False
    transposed: bool = False
    targets: tuple[str, ...] = ()
    target_expression: bool = False
    parameters: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    replication: tuple[tuple[int, int], ...] = ()
    start: str = ""
    virtual_tokens: int | None = None
    version: str | None = None
    values: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    problems: tuple[str, ...] = ()

    def rank_of(self, path: str) -> int | None:
        """Return the rank that is claimed for a module; None when none is, or an expression would have to be run."""
        return _by_pattern(self.ranks, path, self.rank)

    def alpha_of(self, path: str) -> float | None:
        """Return the claimed ``lora_alpha`` of a module; None as for :meth:`rank_of`."""
        return _by_pattern(self.alphas, path, self.alpha)

    def scale_of(self, path: str, rank: int) -> float | None:
        """Return the factor of ``B A`` for a module; None when it is not known.

        Args:
            path: The module.
            rank: Its rank, as the tensors have it.
        """
        alpha = self.alpha_of(path)
        return None if alpha is None or rank < 1 else alpha / (math.sqrt(rank) if self.rslora else rank)

    @property
    def random_start(self) -> bool:
        """Whether the factors are claimed to start from a draw that knows neither the base's weights nor data."""
        return not self.start or self.start in _RANDOM_STARTS


def read_settings(checkpoint: Checkpoint) -> AdapterSettings | None:
    """Read the configuration beside an adapter.

    Args:
        checkpoint: The adapter.

    Returns:
        What it claims, or None when there is no such file.

    Raises:
        UnreadableCheckpoint: When it cannot be parsed.
        HubError: When the Hub does not deliver.
    """
    where = f"{shown(checkpoint.id)}/{CONFIG_FILE}"
    known = checkpoint.files.get(CONFIG_FILE)
    if known is not None and known.size > _LARGEST:
        raise UnreadableCheckpoint(where, f"{known.size} bytes are too many for an adapter configuration")
    data = checkpoint.data(CONFIG_FILE, _LARGEST)
    return None if data is None else parse_settings(data, where=where)


def parse_settings(data: bytes, *, where: str) -> AdapterSettings:
    """Parse ``adapter_config.json``.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        What it claims.

    Raises:
        UnreadableCheckpoint: When it is no JSON object, repeats a key, or is larger or deeper than any real one.
    """
    if len(data) > _LARGEST:
        raise UnreadableCheckpoint(where, f"{len(data)} bytes are too many for an adapter configuration")
    values = load_object(
        data.removeprefix(b"\xef\xbb\xbf"),
        where=where,
        what="adapter configuration",
        values=_MOST_VALUES,
        containers=_MOST_CONTAINERS,
        remedy="Save the adapter again.",
    )
    read = _Reader(values)
    targets = values.get("target_modules")
    return AdapterSettings(
        method=(read.text("peft_type") or "").upper(),
        base=read.text("base_model_name_or_path"),
        revision=read.text("revision"),
        task=read.text("task_type"),
        rank=read.count("r"),
        alpha=read.number("lora_alpha"),
        ranks=read.pattern("rank_pattern", int),
        alphas=read.pattern("alpha_pattern", float),
        rslora=read.flag("use_rslora"),
        dora=read.flag("use_dora"),
        transposed=read.flag("fan_in_fan_out"),
        targets=() if isinstance(targets, str) else read.names("target_modules"),
        target_expression=isinstance(targets, str),
        parameters=read.names("target_parameters"),
        saved=read.names("modules_to_save"),
        layers=read.layers(),
        replication=read.replication(),
        start=read.start(),
        virtual_tokens=read.count("num_virtual_tokens"),
        version=read.text("peft_version"),
        values=MappingProxyType(values),
        problems=tuple(read.problems),
    )


def matches(pattern: str, path: str) -> bool | None:
    r"""Say whether a pattern of PEFT means a module.

    PEFT asks for ``(.*\.)?(pattern)$``: the whole name, or its last parts. A dot is taken for a dot.

    Args:
        pattern: A name, possibly with ``^``, ``$`` or escaped dots.
        path: Name of the module in the base.

    Returns:
        The answer; None when the pattern is more than a name.
    """
    plain = pattern.removesuffix("$").replace("\\.", ".")
    anchored = plain.startswith("^")
    plain = plain.removeprefix("^")
    if not _PLAIN.match(plain):
        return None
    return path == plain or (not anchored and path.endswith("." + plain))


def _by_pattern(patterns: tuple[tuple[str, T], ...], path: str, default: T | None) -> T | None:
    for pattern, value in patterns:
        match = matches(pattern, path)
        if match is None:
            return None
        if match:
            return value
    return default


class _Reader:
    """Takes values of the right type, and notes the others."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self.problems: list[str] = []

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if isinstance(value, str) and len(value) <= _LONGEST_TEXT:
            return value or None
        if value is not None:
            self._note(name)
        return None

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            self._note(name)
        return value is True

    def count(self, name: str) -> int | None:
        value = self._values.get(name)
        if _is_count(value):
            return value
        # r is 0 or missing for methods without a rank.
        if value not in (None, 0):
            self._note(name)
        return None

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if _is_number(value):
            return float(value)
        if value is not None:
            self._note(name)
        return None

    def names(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or len(value) > _MOST_NAMES:
            self._note(name)
            return ()
        kept = tuple(item for item in value if isinstance(item, str) and is_printable_name(item))
        if len(kept) < len(value):
            self._note(name)
        return kept

    def pattern(self, name: str, kind: type[T]) -> tuple[tuple[str, T], ...]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, dict) or len(value) > _MOST_NAMES:
            self._note(name)
            return ()
        usable = _is_count if kind is int else _is_number
        kept = tuple((key, kind(item)) for key, item in value.items() if is_printable_name(key) and usable(item))
        # AdaLoRA keeps a mask of its components here, one list a module.
        if len(kept) < len(value) and not all(isinstance(item, list) for item in value.values()):
            self._note(name)
        return kept

    def layers(self) -> tuple[int, ...] | None:
        value = self._values.get("layers_to_transform")
        items = value if isinstance(value, list) else [value]
        if value is None or not items:
            return None
        numbers = [item for item in items[:_MOST_NAMES] if _is_count(item) or (item == 0 and type(item) is int)]
        if len(numbers) < len(items):
            self._note("layers_to_transform")
            return None
        return tuple(sorted(set(numbers)))

    def replication(self) -> tuple[tuple[int, int], ...]:
        value = self._values.get("layer_replication")
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _MOST_NAMES:
            self._note("layer_replication")
            return ()
        pairs = [tuple(item) for item in value if isinstance(item, list) and len(item) == 2]
        if len(pairs) < len(value) or not all(
            type(a) is int and type(b) is int and 0 <= a < b <= _MOST_NAMES for a, b in pairs
        ):
            self._note("layer_replication")
            return ()
        if sum(stop - start for start, stop in pairs) > _MOST_NAMES:
            self._note("layer_replication")
            return ()
        return tuple((start, stop) for start, stop in pairs)

    def start(self) -> str:
        value = self._values.get("init_lora_weights")
        if isinstance(value, bool) or value is None:
            return "" if value is not False else "false"
        return value.lower() if isinstance(value, str) and len(value) <= 64 else "unknown"

    def _note(self, name: str) -> None:
        self.problems.append(f"the value of {name} cannot be used: {one_line(repr(self._values.get(name)), 60)}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_NUMBER


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER
