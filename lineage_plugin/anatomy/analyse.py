"""From tensor names, shapes and configuration to groups of exchangeable units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage_plugin.anatomy.channels import IndexPool
from lineage_plugin.anatomy.families import Family, families
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.notes import Notes, ranges
from lineage_plugin.anatomy.settings import Settings, plain
from lineage_plugin.anatomy.stacks import Stack, find_stacks
from lineage_plugin.anatomy.stream import find_stream
from lineage_plugin.anatomy.types import Anatomy
from lineage_plugin.anatomy.unknown import analyse_unknown
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["analyse", "families_of", "parts_of"]

_USUAL = frozenset(
    {
        *("model.layers", "language_model.model.layers", "model.language_model.layers", "transformer.h"),
        *("gpt_neox.layers", "bert.encoder.layer", "roberta.encoder.layer", "model.decoder.layers"),
    }
)
"""Prefixes under which loaders look for the layers of a language model. A second stack beside it, whatever its size,
is not what runs."""
_SENSES = ("vision", "visual", "image", "audio", "speech")


def analyse(
    tensors: Mapping[str, TensorInfo],
    config: Mapping[str, object],
    *,
    family: str | None = None,
    part: str | None = None,
) -> Anatomy:
    """Find the exchangeable units of a checkpoint, or of one part of a composite.

    The layout is recognised by tensor names. What names and shapes do not tell (the number of heads, the rotary
    convention) is taken from the configuration and checked against the shapes; units that cannot be established beyond
    doubt are left out, and ``limits`` says so.

    Args:
        tensors: Tensors by name, as far as headers tell.
        config: ``config.json``, or an empty mapping. It is not trusted.
        family: Look at the stacks of this layout only, such as ``clip`` for the vision tower of a model whose language
            part is larger; ``unknown`` for the conservative path. None: at the largest stack, language first.
        part: Look at the stacks below this prefix only, such as ``vision_model`` for half of a CLIP.

    Returns:
        The anatomy. Without a known layout it is that of the conservative path, with ``exact`` False. When ``family``
        or ``part`` ask for something that is not there, it has no groups.

    Raises:
        UnreadableCheckpoint: When the headers declare more units than any real model has.
    """
    if family == "unknown":
        return analyse_unknown(tensors, config)
    owners = _owners(tensors)
    wanted = [(stack, owner) for stack, owner in owners if family in (None, owner.name) and _below(stack.prefix, part)]
    if not wanted:
        if family is None and part is None:
            return analyse_unknown(tensors, config)
        where = f" below '{plain(part)}'" if part else ""
        what = f"the layout '{plain(family)}'" if family else "a known layout"
        limits = (f"There are no layers of {what}{where}.",)
        return Anatomy(family or "unknown", True, 0, 0, (), limits, part=part or "")
    chosen_family, chosen = _choose(wanted)
    notes, pool = Notes(), IndexPool()
    tasks: list[Task] = []
    offset = 0
    for stack in (_cut(stack, config, notes, chosen_family) for stack in chosen):
        task = Task(stack, Settings(config, stack.prefix), pool, notes, offset, chosen_family.types)
        for layer in stack.layers:
            chosen_family.analyse(task, layer)
        tasks.append(task)
        offset += stack.layers[-1].index + 1
    groups = tuple(group for task in tasks for group in task.groups)
    if not groups and family is None and part is None:
        return analyse_unknown(tensors, config)
    used = {stack.prefix for stack in chosen}
    others = [stack.prefix for stack in find_stacks(tensors) if stack.prefix not in used]
    _remark(notes, tasks, others)
    layout = chosen_family.stream
    return Anatomy(
        family=chosen_family.name,
        exact=True,
        layers=sum(len(stack.layers) for stack in chosen),
        width=tasks[0].width,
        groups=groups,
        limits=notes.sentences(),
        # Two stacks have two streams.
        stream=find_stream(layout, tasks[0], tensors) if layout is not None and len(tasks) == 1 else None,
        part=_common([stack.prefix for stack in chosen]) if others else "",
    )


def families_of(tensors: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    """Return the names of all known layouts of which a checkpoint holds layers.

    Args:
        tensors: Tensors by name.

    Returns:
        The names, first the one that :func:`analyse` chooses by itself; empty for an unknown graph.
    """
    return tuple(dict.fromkeys(family.name for _, family in sorted(_owners(tensors), key=_size, reverse=True)))


def parts_of(tensors: Mapping[str, TensorInfo]) -> tuple[tuple[str, str], ...]:
    """Return all stacks of layers of known layouts, each as layout and prefix, in the order of :func:`families_of`.

    Args:
        tensors: Tensors by name.
    """
    return tuple((family.name, stack.prefix) for stack, family in sorted(_owners(tensors), key=_size, reverse=True))


def _owners(tensors: Mapping[str, TensorInfo]) -> list[tuple[Stack, Family]]:
    """Return every stack that some family claims, in order of prefixes, with the family of the highest rank."""
    owners: list[tuple[Stack, Family]] = []
    for stack in find_stacks(tensors):
        family = next((family for family in families() if family.claims(stack)), None)
        if family is not None:
            owners.append((stack, family))
    return owners


def _choose(owners: Sequence[tuple[Stack, Family]]) -> tuple[Family, list[Stack]]:
    """Choose the family of the largest stack, language before vision and hearing, and the stacks that belong to it."""
    main, family = max(owners, key=_size)
    if not family.every_stack:
        return family, [main]
    return family, [stack for stack, owner in owners if owner is family]


def _cut(stack: Stack, config: Mapping[str, object], notes: Notes, family: Family) -> Stack:
    """Leave out layers beyond the number that the configuration has: a model is not judged by what nobody runs.

    Loaders drop them. Honest ones predict further tokens and are no part of the chain.
    """
    count = None if family.every_stack else Settings(config, stack.prefix).integer("num_hidden_layers", "n_layer")
    kept = stack.layers if count is None else tuple(layer for layer in stack.layers if layer.index < count)
    if not kept or len(kept) == len(stack.layers):
        return stack
    dropped = len(stack.layers) - len(kept)
    notes.say(
        f"{dropped} layer{'s' * (dropped > 1)} under {plain(stack.prefix)} beyond the {count} that config.json has "
        "were left out, as loaders do."
    )
    return Stack(stack.prefix, kept)


def _size(owner: tuple[Stack, Family]) -> tuple[bool, bool, int]:
    """Rank a stack: language first, then where loaders look, then the largest."""
    prefix = owner[0].prefix.lower()
    return not any(word in prefix for word in _SENSES), prefix in _USUAL, owner[0].elements


def _below(prefix: str, part: str | None) -> bool:
    return not part or prefix == part or prefix.startswith(part + ".")


def _common(prefixes: Sequence[str]) -> str:
    """Return the deepest module above all prefixes; when there is none, the prefixes."""
    shared: list[str] = []
    for pieces in zip(*(prefix.split(".") for prefix in prefixes), strict=False):
        if len(set(pieces)) > 1:
            break
        shared.append(pieces[0])
    return ".".join(shared) or ", ".join(prefixes)


def _remark(notes: Notes, tasks: Sequence[Task], others: Sequence[str]) -> None:
    if others:
        more = ", ..." if len(others) > 3 else ""
        notes.say(f"Layers under {', '.join(plain(prefix) for prefix in others[:3])}{more} are not used.")
    for task in tasks:
        indices = [layer.index for layer in task.stack.layers]
        if len(tasks) > 1:
            numbers = ranges(task.number(layer) for layer in task.stack.layers)
            notes.say(f"The layers under {plain(task.stack.prefix)} are {numbers}.")
        if len(indices) <= indices[-1]:
            missing = indices[-1] + 1 - len(indices)
            notes.say(f"{missing} of {indices[-1] + 1} layers under {plain(task.stack.prefix)} are missing.")
