"""From tensor names, shapes and configuration to groups of exchangeable units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage_plugin.anatomy.channels import IndexPool
from lineage_plugin.anatomy.families import Family, families
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.notes import Notes, ranges
from lineage_plugin.anatomy.settings import Settings, plain
from lineage_plugin.anatomy.stacks import Stack, find_stacks
from lineage_plugin.anatomy.types import Anatomy
from lineage_plugin.anatomy.unknown import analyse_unknown
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["analyse"]

_SENSES = ("vision", "visual", "image", "audio", "speech")


def analyse(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> Anatomy:
    """Find the exchangeable units of a checkpoint.

    The layout is recognised by tensor names. What names and shapes do not tell (the number of heads, the rotary
    convention) is taken from the configuration and checked against the shapes; units that cannot be established beyond
    doubt are left out, and ``limits`` says so.

    Args:
        tensors: Tensors by name, as far as headers tell.
        config: ``config.json``, or an empty mapping. It is not trusted.

    Returns:
        The anatomy. Without a known layout it is that of the conservative path, with ``exact`` False.

    Raises:
        UnreadableCheckpoint: When the headers declare more units than any real model has.
    """
    stacks = find_stacks(tensors)
    claimed = _choose(stacks)
    if claimed is None:
        return analyse_unknown(tensors, config)
    family, chosen = claimed
    notes, pool = Notes(), IndexPool()
    tasks: list[Task] = []
    offset = 0
    for stack in chosen:
        task = Task(stack, Settings(config, stack.prefix), pool, notes, offset, family.types)
        for layer in stack.layers:
            family.analyse(task, layer)
        tasks.append(task)
        offset += stack.layers[-1].index + 1
    groups = tuple(group for task in tasks for group in task.groups)
    if not groups:
        return analyse_unknown(tensors, config)
    _remark(notes, tasks, stacks)
    return Anatomy(
        family=family.name,
        exact=True,
        layers=sum(len(stack.layers) for stack in chosen),
        width=tasks[0].width,
        groups=groups,
        limits=notes.sentences(),
    )


def _choose(stacks: Sequence[Stack]) -> tuple[Family, list[Stack]] | None:
    """Choose the family of the largest stack, language before vision and hearing, and the stacks that belong to it."""
    owners: list[tuple[Stack, Family]] = []
    for stack in stacks:
        family = next((family for family in families() if family.claims(stack)), None)
        if family is not None:
            owners.append((stack, family))
    if not owners:
        return None
    main, family = max(owners, key=lambda owner: (not _is_sense(owner[0]), owner[0].elements))
    if not family.every_stack:
        return family, [main]
    return family, [stack for stack, owner in owners if owner is family]


def _is_sense(stack: Stack) -> bool:
    return any(word in stack.prefix.lower() for word in _SENSES)


def _remark(notes: Notes, tasks: Sequence[Task], stacks: Sequence[Stack]) -> None:
    used = {task.stack.prefix for task in tasks}
    others = [plain(stack.prefix) for stack in stacks if stack.prefix not in used]
    if others:
        more = ", ..." if len(others) > 3 else ""
        notes.say(f"Layers under {', '.join(others[:3])}{more} are not used.")
    for task in tasks:
        indices = [layer.index for layer in task.stack.layers]
        if len(tasks) > 1:
            numbers = ranges(task.number(layer) for layer in task.stack.layers)
            notes.say(f"The layers under {plain(task.stack.prefix)} are {numbers}.")
        if len(indices) <= indices[-1]:
            missing = indices[-1] + 1 - len(indices)
            notes.say(f"{missing} of {indices[-1] + 1} layers under {plain(task.stack.prefix)} are missing.")
