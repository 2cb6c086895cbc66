"""Asks the package about each model, and keeps the answer, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from action.folders import Target
from action.inputs import Inputs
from lineage_plugin import api
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import LineageError
from lineage_plugin.judge.types import Report, Verdict
from lineage_plugin.options import Options
from lineage_plugin.policy.apply import options_of
from lineage_plugin.policy.find import find_policy
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import exit_code, wants_digests

__all__ = ["Outcome", "gravest_first", "keep_fingerprints", "run", "worst"]

ExitCode = Literal[0, 1, 2, 3, 4]

# What is certain to be wrong comes before what could not be found out.
_ORDER: tuple[ExitCode, ...] = (1, 2, 4, 3, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one model.

    Attributes:
        target: The model.
        code: The exit code that ``lineage`` would have answered with.
        report: The report; None when there is none.
        problem: Why there is none.
    """

    target: Target
    code: ExitCode
    report: Report | None = None
    problem: str = ""

    @property
    def verdict(self) -> Literal[Verdict, "unchecked"]:
        """The verdict as the workflow counts it: findings at the level that fails are a failure, whatever it is."""
        if self.report is None:
            return "unchecked"
        return "fail" if self.code == 1 else self.report.verdict


def run(target: Target, inputs: Inputs, named: Policy | None) -> Outcome:
    """Look at one model.

    Args:
        target: The model.
        inputs: What the workflow asks for.
        named: The policy that the workflow names; None: the one that is found for the model.

    Returns:
        The outcome. Nothing that is wrong with a model, a card or a server raises.
    """
    card = inputs.card or target.card
    try:
        policy = find_policy(target.name, card) if named is None else named
        options = _options(inputs, policy)
        if target.how == "lint":
            report = api.lint(target.name, policy=policy, options=options)
        else:
            report = api.check(target.name, bases=inputs.bases, card=card, policy=policy, options=options)
    except LineageError as error:
        return Outcome(target, _code(error), None, _as_inputs(str(error)))
    except OSError as error:
        return Outcome(target, 2, None, f"{target.name}: {error.strerror or type(error).__name__}")
    return Outcome(target, exit_code(report, inputs.fail_on), report)


def _options(inputs: Inputs, policy: Policy | None) -> Options:
    stated = options_of(policy)
    budget = stated.budget if inputs.budget is None else inputs.budget
    digests = inputs.predicate_file is not None or wants_digests(inputs.format)
    return replace(stated, budget=budget, token=inputs.token, endpoint=inputs.endpoint, digests=digests)


def _as_inputs(problem: str) -> str:
    """Name the inputs of the action where a message names the variables of the command."""
    return problem.replace("HF_TOKEN", "the input hf-token").replace("HF_ENDPOINT", "the input endpoint")


def _code(error: LineageError) -> ExitCode:
    return 4 if error.exit_code == 4 else 2


def gravest_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes by exit code, the gravest first, and among those of a code the ones that compared something."""

    def rank(outcome: Outcome) -> tuple[int, bool]:
        return _ORDER.index(outcome.code), not (outcome.report and outcome.report.comparisons)

    return sorted(outcomes, key=rank)


def worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the outcome that decides for all; None when there are none."""
    return next(iter(gravest_first(outcomes)), None)


def keep_fingerprints(outcomes: Iterable[Outcome], inputs: Inputs, say: Callable[[str], object]) -> None:
    """Fingerprint the bases on the Hub that were compared, so that the next run need not read them.

    Fingerprints of commits that are in the cache are not made again. What goes wrong is said, and is no failure: the
    answer has been given.
    """
    options = _options(inputs, None)
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
