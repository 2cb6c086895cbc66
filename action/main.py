"""The run from inputs to exit code."""

from __future__ import annotations

import hashlib
import os
from typing import TextIO

from action import commands
from action.checks import keep_fingerprints, run
from action.github import Context, read_context
from action.inputs import Inputs, read_inputs
from action.models import select
from action.publish import publish
from lineage_plugin.checkpoint.files import inside
from lineage_plugin.errors import LineageError
from lineage_plugin.fingerprint.cache import cache_folder
from lineage_plugin.outcome import Outcome, worst
from lineage_plugin.policy.find import NAME
from lineage_plugin.policy.load import load_policy
from lineage_plugin.policy.types import Policy
from lineage_plugin.report.annotations import annotation
from lineage_plugin.text import one_line

__all__ = ["main"]


def main(log: TextIO) -> int:
    """Check the models that the run is about, and tell.

    Args:
        log: The log of the step.

    Returns:
        The exit code of ``lineage``, of the model that decides where there are several.
    """
    try:
        inputs, context = read_inputs(os.environ), read_context(os.environ)
        # Only what is asked of GitHub and of the Hub needs a token: no process that is started inherits one.
        for name in ("GITHUB_TOKEN", "INPUT_HF_TOKEN"):
            os.environ.pop(name, None)
        os.chdir(context.workspace)
        policy = _read_policy(inputs, context)
        selection = select(inputs, context)
        outcomes: list[Outcome] = []
        for target in selection.targets:
            outcomes.append(run(target, inputs, policy))
        publish(selection, outcomes, inputs, context, log)
    except (LineageError, OSError) as error:
        log.write(annotation("error", [str(error)], title="lineage") + "\n")
        return 2
    before = _kept()
    keep_fingerprints(outcomes, inputs, lambda text: log.write(f"{one_line(text, 300)}\n"))
    after = _kept()
    if after != before:
        digest = hashlib.sha256("\n".join(after).encode()).hexdigest()
        commands.write_outputs(context.output, {"fingerprints-key": f"lineage-fingerprints-{digest[:40]}"})
    deciding = worst(outcomes)
    return 0 if deciding is None else deciding.code


def _read_policy(inputs: Inputs, context: Context) -> Policy | None:
    """Return the policy that is named; what is wrong in it, or in the repository's own, is one error for all models."""
    if inputs.policy is not None:
        return load_policy(inputs.policy)
    if os.path.lexists(NAME):
        # A link could lead to anything on the runner, and what is wrong in a file is quoted. Which part of it counts
        # is found out for each model.
        load_policy(str(inside(context.workspace, NAME)))
    return None


def _kept() -> tuple[str, ...]:
    """Return the names of the fingerprints in the cache: each stands for one commit of one model."""
    return tuple(sorted(path.name for path in cache_folder().glob("fingerprints/*/*.safetensors")))
