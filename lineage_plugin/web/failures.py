"""Why there is no answer, in words for a visitor: what happened, and what he can do on a web page."""

from __future__ import annotations

import re
import sys
import traceback

from lineage_plugin.checkpoint.hub import endpoint_of
from lineage_plugin.errors import (
    BudgetExceeded,
    HubDenied,
    HubError,
    HubNotFound,
    HubUnreachable,
    InputError,
    LineageError,
    UsageError,
)
from lineage_plugin.text import one_line
from lineage_plugin.web.jobs import Failed, Failure
from lineage_plugin.web.settings import Settings

__all__ = ["OUT_OF_MEMORY", "STUMBLED", "failed_of", "of_size"]

OUT_OF_MEMORY = "This check needs more memory than one check may use here. Run it on your own machine."
STUMBLED = (
    "Something went wrong in this check; that is a defect of this page, not of the model. Try again, or report it."
)
_LONGEST = 600
_FOR_COMMAND_LINES = re.compile(r"(?:^|\s)--\w|HF_TOKEN|HF_ENDPOINT|\blineage \w", re.ASCII)


def failed_of(error: Exception, settings: Settings, token: str | None) -> Failed:
    """Return what a visitor is told of an error; of a defect the traceback goes to stderr, without tokens.

    Args:
        error: What was raised.
        settings: Whether visitors can sign in, and what is not to be shown.
        token: Token that was used, or None.
    """
    if isinstance(error, HubError):
        why, message = _of_hub(error, settings, token)
        return Failed(why, _shown(message, settings, token))
    if isinstance(error, BudgetExceeded):
        message = (
            f"This check would read more than {of_size(settings.bytes)} of weights, the most that one check may read "
            "here. Name fewer models, or run it on your own machine."
        )
        return Failed("limit", message)
    if isinstance(error, InputError):
        remedy = "" if _FOR_COMMAND_LINES.search(error.remedy) else error.remedy
        return Failed("unreadable", _shown(f"{error.where}: {error.problem}. {remedy}".strip(), settings, token))
    if isinstance(error, UsageError):
        return Failed("usage", _shown(str(error), settings, token))
    if isinstance(error, LineageError):
        return Failed("unreadable", _shown(str(error), settings, token))
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return Failed("limit", OUT_OF_MEMORY)
    for line in "".join(traceback.format_exception(error)).splitlines():
        sys.stderr.write(f"{' ' * (len(line) - len(line.lstrip()))}{_shown(line, settings, token)}\n")
    return Failed("defect", STUMBLED)


def of_size(size: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _of_hub(error: HubError, settings: Settings, token: str | None) -> tuple[Failure, str]:
    """Return kind and message."""
    repo, problem = one_line(error.repo, 200), error.problem
    page = f"{endpoint_of(settings.endpoint)}/{repo}"
    if isinstance(error, HubNotFound):
        if "no such model" in problem:
            hint = " If it is yours, sign in here." if settings.on_space and token is None else ""
            return "missing", f"There is no model {repo} on the Hub, or it is private.{hint}"
        return "missing", f"{repo}: {problem}. See {page}."
    if isinstance(error, HubDenied):
        if "token" in problem:
            if settings.on_space:
                return (
                    "denied",
                    "The Hub does not accept this sign-in any more. Sign out, sign in again, and ask again.",
                )
            return "denied", "The Hub does not accept the token that this server asks with. Log in to the Hub again."
        what = "is gated" if "gated" in problem else "may not be read by everybody"
        return "denied", f"The model {repo} {what}: {_way_in(page, settings, token)}"
    if isinstance(error, HubUnreachable):
        if "429" in problem:
            return (
                "unreachable",
                "The Hub limits how much may be asked of it (HTTP 429). Wait some minutes, and ask again.",
            )
        return "unreachable", f"The Hub did not answer for {repo}: {problem}. Ask again in some minutes."
    return "unreachable", f"What the Hub answered for {repo} cannot be used: {problem}. Ask again in some minutes."


def _way_in(page: str, settings: Settings, token: str | None) -> str:
    if settings.on_space:
        return f"accept its licence at {page}, then sign in here{'' if token is None else ' with that account'}."
    if token is not None:
        return f"accept its licence at {page} with the account that this server asks the Hub with, then ask again."
    return "this server asks the Hub without an account. If it is yours: run hf auth login, then start it again."


def _shown(text: str, settings: Settings, token: str | None) -> str:
    """Return a text as one line that holds no token and no path of this machine."""
    for secret in filter(None, (token, settings.token)):
        text = text.replace(secret, "***")
    if settings.registry is not None:
        text = text.replace(settings.registry, "the registry")
    for name, place in settings.models.items():
        text = text.replace(str(place), name)
    return one_line(text, _LONGEST)
