"""Asks the package about each model of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from action.inputs import Inputs
from lineage_plugin import api
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import LineageError
from lineage_plugin.options import Options
from lineage_plugin.outcome import Outcome, ask, code_of, options_under
from lineage_plugin.policy.find import find_policy
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import wants_digests
from lineage_plugin.targets import Target

__all__ = ["keep_fingerprints", "run"]


def run(target: Target, inputs: Inputs, named: Policy | None) -> Outcome:
    """Look at one model.

    Args:
        target: The model.
        inputs: What the workflow asks for.
        named: The policy that the workflow names; None: the one that is found for the model.

    Returns:
        The outcome. Nothing that is wrong with a model, a card or a server raises.
    """
    target = replace(target, card=inputs.card or target.card)
    try:
        policy = find_policy(target.name, target.card) if named is None else named
        options = options_under(policy, _options(inputs))
    except LineageError as error:
        outcome = Outcome(target, code_of(error), None, str(error))
    else:
        outcome = ask(target, policy=policy, bases=inputs.bases, options=options, fail_on=inputs.fail_on)
    return replace(outcome, problem=_as_inputs(outcome.problem))


def _options(inputs: Inputs) -> Options:
    digests = inputs.predicate_file is not None or wants_digests(inputs.format)
    return Options(budget=inputs.budget, token=inputs.token, endpoint=inputs.endpoint, digests=digests)


def _as_inputs(problem: str) -> str:
    """Name the inputs of the action where a message names the variables of the command."""
    return problem.replace("HF_TOKEN", "the input hf-token").replace("HF_ENDPOINT", "the input endpoint")


def keep_fingerprints(outcomes: Iterable[Outcome], inputs: Inputs, say: Callable[[str], object]) -> None:
    """Fingerprint the bases on the Hub that were compared, so that the next run need not read them.

    Fingerprints of commits that are in the cache are not made again. What goes wrong is said, and is no failure: the
    answer has been given.
    """
    options = _options(inputs)
    bases = {
        f"{comparison.base.id}@{comparison.base.revision}"
        for outcome in outcomes
        if outcome.report is not None and outcome.report.folder is not None
        for comparison in outcome.report.comparisons
        if comparison.base.revision is not None and is_model_id(comparison.base.id)
    }
    for base in sorted(bases):
        try:
            api.fingerprint_model(base, options=options)
        except (LineageError, OSError) as error:
            say(f"no fingerprint of {base} was kept: {error}")
