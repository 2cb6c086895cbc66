"""The command ``lineage upload``: check, and upload what passes."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import HubDenied, HubNotFound, HubUnreachable, UploadBlocked, UsageError
from lineage_plugin.hooks.preflight import Cleared
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.phrases import plural, size
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = ["run"]

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
    from lineage_plugin.hooks.journal import reason_given
    from lineage_plugin.hooks.preflight import Destination, clear
    from lineage_plugin.hooks.rules import Rules
    from lineage_plugin.hooks.staged import from_folder
    from lineage_plugin.hooks.watch import busy
    from lineage_plugin.policy.load import load_policy
    from lineage_plugin.report.output import publish

    if not is_model_id(args.repo):
        raise UsageError(f"'{one_line(args.repo, 100)}' is no id of a repository: write owner/name")
    if options.offline and not args.dry_run:
        raise UsageError("an upload needs the network: leave out --offline, or add --dry-run")
    folder = Path(args.folder)
    patterns = {"allow_patterns": args.include or None, "ignore_patterns": args.exclude or None}
    staged = from_folder(folder, args.path_in_repo, **patterns)
    if not staged.files:
        raise UsageError(f"{one_line(args.folder, 200)}: there is nothing to upload")
    policy = None if args.policy_file is None else load_policy(args.policy_file)
    rules = Rules(policy, tuple(args.base), args.fail_on, options, reason_given(args.override))
    with busy():
        try:
            cleared = clear(staged, Destination(args.repo, args.revision), rules, progress=progress)
        except UploadBlocked as error:
            if error.reports:
                publish(error.reports, format=args.format, output=args.output)
            _say(str(error))
            return error.exit_code
    if cleared.reports:
        publish(cleared.reports, format=args.format, output=args.output)
    else:
        _note(args, "there is no model in these files, so there was nothing to check")
    if not args.dry_run and (args.write_card or args.write_fingerprint):
        written = _written_beside(folder, args, cleared, options, progress)
        cleared = replace(cleared, digests={**cleared.digests, **written})
        staged = from_folder(folder, args.path_in_repo, **patterns)
    if args.dry_run:
        total = sum(file.size for file in staged.files.values())
        _note(args, f"{plural(len(staged.files), 'file')}, {size(total)}, would go to {args.repo}")
        return 0
    with held_to(cleared, staged, endpoint_of(options.endpoint)):
        url = _uploaded(args, options, patterns, cleared)
    _note(args, f"uploaded to {url}")
    return 0


def _uploaded(
    args: argparse.Namespace, options: Options, patterns: dict[str, list[str] | None], cleared: Cleared
) -> str:
    """Upload, and return the address of the commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

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
    try:
        if not api.repo_exists(args.repo):
            api.create_repo(args.repo, private=args.private or None)
        made = api.upload_folder(**described(arguments, cleared))
    except RepositoryNotFoundError as error:
        raise HubNotFound(args.repo, "there is no such repository, or this token may not see it") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubDenied(
                args.repo, "the Hub does not let this token write there", "Log in: hf auth login."
            ) from error
        problem = f"the Hub answered {status}: {one_line(str(error.server_message or ''), 200)}"
        raise HubUnreachable(args.repo, problem, _AGAIN) from error
    except client_errors()[0] as error:
        raise HubUnreachable(args.repo, network_problem(error), _AGAIN) from error
    return str(getattr(made, "pr_url", None) or made.commit_url)


def _written_beside(
    folder: Path, args: argparse.Namespace, cleared: Cleared, options: Options, progress: Progress | None
) -> dict[str, str]:
    """Write the fingerprint and the section of the card into the folder.

    Returns:
        The digests of what goes now instead of what was checked: the card differs by its section only.
    """
    from lineage_plugin.fingerprint.command import write_fingerprint
    from lineage_plugin.hooks.staged import folder_in_repo

    place = folder_in_repo(args.path_in_repo)
    name = f"{args.repo}/{place}".rstrip("/")
    report = next((o.report for o in cleared.outcomes if o.target.name == name and o.report is not None), None)
    written = _write_card(folder, place, report) if args.write_card else {}
    if args.write_fingerprint:
        write_fingerprint(str(folder), None, name=args.repo, options=options, progress=progress)
    return written


def _write_card(folder: Path, place: str, report: Report | None) -> dict[str, str]:
    from lineage_plugin.card.section import with_section
    from lineage_plugin.report.card_section import card_section
    from lineage_plugin.report.output import write_file
    from lineage_plugin.targets import CARD

    section = None if report is None else card_section(report)
    if section is None:
        raise UsageError(
            "--write-card: nothing was compared at the top of the folder, so there is no evidence to write"
        )
    path = folder / CARD
    before = path.read_bytes() if path.is_file() else b""
    after = with_section(before, section)
    if after != before:
        write_file(path, after)
    return {place + CARD: hashlib.sha256(after).hexdigest()}


def _note(args: argparse.Namespace, text: str) -> None:
    if not args.quiet:
        _say(text)


def _say(text: str) -> None:
    print(f"lineage: {text}", file=sys.stderr)
