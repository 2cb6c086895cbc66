"""What comes of asking about a model: a report, or why there is none; and which of several outcomes decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lineage_plugin import api
from lineage_plugin.errors import LineageError
from lineage_plugin.judge.types import Report, Verdict
from lineage_plugin.linting.lint import lint
from lineage_plugin.options import Options, Progress
from lineage_plugin.policy.apply import options_of
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import GRAVEST_FIRST, FailOn, exit_code
from lineage_plugin.targets import Target

__all__ = ["ExitCode", "Outcome", "ask", "code_of", "gravest_first", "options_under", "worst"]

ExitCode = Literal[0, 1, 2, 3, 4]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one model.

    Attributes:
        target: The model.
        code: The exit code that ``lineage`` would have answered with.
        report: The report; None when there is none.
        problem: Why there is none.
        extra: Whether it is about weights that the check of their model leaves aside: a further file, or a folder below
            the model that its card speaks for.
    """

    target: Target
    code: ExitCode
    report: Report | None = None
    problem: str = ""
    extra: bool = False

    @property
    def verdict(self) -> Literal[Verdict, "unchecked"]:
        """The verdict as it counts: findings at the level that fails are a failure, whatever it is."""
        if self.report is None:
            return "unchecked"
        return "fail" if self.code == 1 else self.report.verdict


def ask(
    target: Target,
    *,
    policy: Policy | None,
    bases: Sequence[str],
    options: Options,
    fail_on: FailOn | None,
    name: str | None = None,
    hub_id: str | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Check one model, or lint its card.

    Args:
        target: The model.
        policy: What is made of the findings.
        bases: Where the bases are; none: as declared.
        options: Choices of the run, as :func:`options_under` gives them.
        fail_on: The lowest level of finding that fails; None: as the policy says.
        name: What to call a local model.
        hub_id: The id that its card is held to, where that is not ``name``; empty for a model that is on no Hub.
        partial: Whether files of the model may be elsewhere.
        progress: Called while reading.

    Returns:
        The outcome. Nothing that is wrong with a model, a card or a server raises.
    """
    try:
        if target.how == "lint":
            report = lint(target.name, name=name, hub_id=hub_id, partial=partial, policy=policy, options=options)
        else:
            report = api.check(
                target.name,
                bases=bases,
                card=target.card,
                name=name,
                hub_id=hub_id,
                partial=partial,
                policy=policy,
                options=options,
                progress=progress,
            )
    except LineageError as error:
        return Outcome(target, code_of(error), None, str(error))
    except OSError as error:
        return Outcome(target, 2, None, f"{target.name}: {error.strerror or type(error).__name__}")
    return Outcome(target, exit_code(report, fail_on), report)


def code_of(error: LineageError) -> ExitCode:
    """Return the exit code that an error stands for."""
    return 4 if error.exit_code == 4 else 2


def options_under(policy: Policy | None, options: Options) -> Options:
    """Return choices with the bar of a policy, and with its budget unless there is one."""
    stated = options_of(policy)
    return replace(options, bar=stated.bar, budget=stated.budget if options.budget is None else options.budget)


def gravest_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes by exit code, the gravest first, and among those of a code the ones that compared something."""

    def rank(outcome: Outcome) -> tuple[int, bool]:
        return GRAVEST_FIRST.index(outcome.code), not (outcome.report and outcome.report.comparisons)

    return sorted(outcomes, key=rank)


def worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the outcome that decides for all; None when there are none."""
    return next(iter(gravest_first(outcomes)), None)
