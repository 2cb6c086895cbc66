"""The command ``lineage upload``: check, and upload what passes."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import HubDenied, HubNotFound, HubUnreachable, UploadBlocked, UsageError
from lineage_plugin.hooks.blocking import blocking, reason_of
from lineage_plugin.hooks.journal import reason_given
from lineage_plugin.hooks.preflight import Cleared, Destination, clear, examine
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.phrases import plural, size
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.hooks.rules import Rules
    from lineage_plugin.hooks.staged import Staged
    from lineage_plugin.judge.types import Report

__all__ = ["run"]

_LISTED = 20
"""Files that a dry run names."""
_AGAIN = "Run it again: what arrived is not sent twice."


def run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    """Check a folder, print the reports, and upload it if nothing blocks it.

    Returns:
        The exit code: 0, or that of the gravest finding, and nothing was uploaded.

    Raises:
        UsageError: When the call is wrong.
        HubError: When the Hub does not take the upload.
    """
    from lineage_plugin.checkpoint.hub import endpoint_of
    from lineage_plugin.hooks.hub_api import held_to
    from lineage_plugin.hooks.rules import rules_of
    from lineage_plugin.hooks.staged import from_folder

    _check_call(args, options)
    folder = Path(args.folder)
    patterns = {"allow_patterns": args.include or None, "ignore_patterns": args.exclude or None}
    staged = from_folder(folder, args.path_in_repo, **patterns)
    if not staged.files:
        raise UsageError(f"{one_line(args.folder, 200)}: there is nothing to upload")
    rules = rules_of(
        policy=args.policy_file,
        bases=args.base,
        fail_on=args.fail_on,
        options=options,
        override=reason_given(args.override),
    )
    if args.dry_run:
        return _tried(args, staged, rules, progress)
    try:
        cleared = clear(staged, Destination(args.repo, args.revision), rules, progress=progress)
    except UploadBlocked as error:
        _publish(error.reports, args)
        _say(str(error))
        return error.exit_code
    _publish(cleared.reports, args)
    if args.write_card or args.write_fingerprint:
        written = _written_beside(folder, args, cleared, options, progress)
        cleared = replace(cleared, digests={**cleared.digests, **written})
        staged = from_folder(folder, args.path_in_repo, **patterns)
    if not args.write_card and _is_stale(folder, args, cleared):
        _note(args, "the lineage section of the card is about other weights or another check: --write-card renews it")
    with held_to(cleared, staged, endpoint_of(options.endpoint)):
        said = _uploaded(args, options, patterns, cleared)
    _note(args, said)
    return 0


def _check_call(args: argparse.Namespace, options: Options) -> None:
    """Refuse what cannot become an upload before work is spent on the check."""
    from huggingface_hub import get_token

    if not is_model_id(args.repo) or "/" not in args.repo:
        raise UsageError(f"'{one_line(args.repo, 100)}' is no id of a repository: write owner/name")
    if Path(args.folder).is_file():
        raise UsageError(f"{one_line(args.folder, 200)} is a file: give its folder, and its name with --include")
    if args.dry_run:
        return
    if options.offline:
        raise UsageError("an upload needs the network: leave out --offline, or add --dry-run")
    if options.token is None and get_token() is None:
        raise HubDenied(args.repo, "there is no token to upload with", "Log in (hf auth login), or set HF_TOKEN.")


def _tried(args: argparse.Namespace, staged: Staged, rules: Rules, progress: Progress | None) -> int:
    """Check, and say what would be uploaded."""
    found = examine(staged, Destination(args.repo, args.revision), rules, progress=progress)
    _publish(found.reports, args)
    if args.write_card:
        _section(Path(args.folder), args, found)
    grave = blocking(found.outcomes)
    for outcome in grave:
        _say(f"would be blocked: {reason_of(outcome)}")
    for file in list(staged.files.values())[:_LISTED]:
        _note(args, f"  {one_line(file.name, 200)}  {size(file.size)}")
    left, total = len(staged.files) - _LISTED, sum(file.size for file in staged.files.values())
    more = f" ({left} of them not listed)" if left > 0 else ""
    verb = "would go" if not grave or rules.override is not None else "would not go"
    _note(args, f"{plural(len(staged.files), 'file')}, {size(total)}{more}, {verb} to {args.repo}")
    return grave[0].code if grave and rules.override is None else 0


def _publish(reports: Sequence[Report], args: argparse.Namespace) -> None:
    from lineage_plugin.report.output import publish

    if reports:
        publish(reports, format=args.format, output=args.output)
    else:
        _note(args, "no report: there is no model in these files, or it could not be looked at")


def _uploaded(
    args: argparse.Namespace, options: Options, patterns: dict[str, list[str] | None], cleared: Cleared
) -> str:
    """Upload, and say what came of it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    from huggingface_hub.utils import logging as hub_logging

    from lineage_plugin.checkpoint.transport import client_errors, network_problem
    from lineage_plugin.hooks.hub_api import described

    api = HfApi(endpoint=options.endpoint, token=options.token)
    arguments = {
        "repo_id": args.repo,
        "folder_path": args.folder,
        "path_in_repo": args.path_in_repo or None,
        "commit_message": args.message,
        "revision": args.revision,
        "create_pr": args.create_pr,
        **patterns,
    }
    if args.quiet:
        disable_progress_bars()
        hub_logging.set_verbosity(logging.ERROR)
    try:
        before = None
        if not api.repo_exists(args.repo):
            api.create_repo(args.repo, private=args.private or None)
        if args.revision is not None and not args.create_pr:
            # As hf upload does.
            api.create_branch(args.repo, branch=args.revision, exist_ok=True)
        if not args.create_pr:
            before = api.model_info(args.repo, revision=args.revision).sha
        made = api.upload_folder(**described(arguments, cleared))
    except RepositoryNotFoundError as error:
        raise HubNotFound(args.repo, "there is no such repository, or this token may not see it") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (400, 404, 409, 422):
            raise UsageError(
                f"{args.repo}: the Hub refuses it: {one_line(str(error.server_message or error), 300)}"
            ) from error
        if status in (401, 403):
            raise HubDenied(
                args.repo, "the Hub does not let this token write there", "Log in: hf auth login."
            ) from error
        problem = f"the Hub answered {status}: {one_line(str(error.server_message or ''), 200)}"
        raise HubUnreachable(args.repo, problem, _AGAIN) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{args.repo}: the card is not UTF-8 text. Save the file as UTF-8.") from error
    except ValueError as error:
        # What the client itself finds wrong, such as front matter that the Hub does not take.
        raise UsageError(f"{args.repo}: {one_line(str(error), 300)}") from error
    except client_errors()[0] as error:
        raise HubUnreachable(args.repo, network_problem(error), _AGAIN) from error
    if made.oid == before:
        return f"nothing had changed: {made.commit_url}"
    return f"uploaded to {getattr(made, 'pr_url', None) or made.commit_url}"


def _written_beside(
    folder: Path, args: argparse.Namespace, cleared: Cleared, options: Options, progress: Progress | None
) -> dict[str, str]:
    """Write the fingerprint and the section of the card into the folder.

    Returns:
        The digests of what goes now instead of what was checked: the card differs by its section only.
    """
    from lineage_plugin.fingerprint.command import write_fingerprint
    from lineage_plugin.hooks.staged import folder_in_repo
    from lineage_plugin.report.output import write_file
    from lineage_plugin.targets import CARD

    written: dict[str, str] = {}
    if args.write_card:
        before, after = _section(folder, args, cleared)
        if after != before:
            write_file(folder / CARD, after)
        written[folder_in_repo(args.path_in_repo) + CARD] = hashlib.sha256(after).hexdigest()
    if args.write_fingerprint:
        write_fingerprint(str(folder), None, name=args.repo, options=options, progress=progress)
    return written


def _section(folder: Path, args: argparse.Namespace, cleared: Cleared) -> tuple[bytes, bytes]:
    """Return the card as it is, and with the section that it should have."""
    from lineage_plugin.card.section import with_section
    from lineage_plugin.hooks.staged import folder_in_repo
    from lineage_plugin.report.card_section import card_section
    from lineage_plugin.targets import CARD

    name = f"{args.repo}/{folder_in_repo(args.path_in_repo)}".rstrip("/")
    report = next((o.report for o in cleared.outcomes if o.target.name == name and o.report is not None), None)
    section = None if report is None else card_section(report)
    if section is None:
        why = "nothing was compared at the top of the folder, so there is no evidence to write"
        raise UsageError(f"--write-card: {why}. Declare base_model in the card, or leave out --write-card.")
    card = folder_in_repo(args.path_in_repo) + CARD
    path = folder / CARD
    before = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(before).hexdigest() != cleared.digests.get(card):
        why = f"{one_line(str(path), 200)} is not uploaded, or is not the card that was checked"
        raise UsageError(f"--write-card: {why}. Put the model's card there, and run again.")
    return before, with_section(before, section)


def _is_stale(folder: Path, args: argparse.Namespace, cleared: Cleared) -> bool:
    """Return whether the card has a section that is not the one this check would write."""
    from lineage_plugin.card.section import with_section
    from lineage_plugin.targets import CARD

    path = folder / CARD
    card = path.read_bytes() if path.is_file() else b""
    try:
        if with_section(card, None) == card:
            return False
        before, after = _section(folder, args, cleared)
    except UsageError:
        return True
    return before != after


def _note(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        _say(text)


def _say(text: str) -> None:
    print(f"lineage: {text}", file=sys.stderr)
