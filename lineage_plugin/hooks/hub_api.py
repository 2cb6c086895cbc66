"""A client of the Hub that checks models before it uploads them, and the check by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

from lineage_plugin.checkpoint.hub import endpoint_of
from lineage_plugin.hooks.blocking import tell
from lineage_plugin.hooks.client import watch_client
from lineage_plugin.hooks.journal import reason_given, trailer
from lineage_plugin.hooks.preflight import Cleared, Destination, clear
from lineage_plugin.hooks.rules import needs_network, rules_of
from lineage_plugin.hooks.said import be_seen
from lineage_plugin.hooks.staged import Staged, StagedFile, folder_in_repo, from_folder, from_operations
from lineage_plugin.hooks.watch import WATCH, Guard
from lineage_plugin.hooks.wire import OutgoingFile
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.progress import shown_progress

if TYPE_CHECKING:
    from lineage_plugin.policy.types import Policy
    from lineage_plugin.report import FailOn

__all__ = ["LineageApi", "check_before_upload", "described", "held_to"]

_CLEARED: ContextVar[tuple[str, ...]] = ContextVar("lineage_cleared", default=())
"""Repositories that an upload is under way to which was cleared as a whole: its parts are not checked again."""


def check_before_upload(
    folder: str | Path,
    repo_id: str,
    *,
    path_in_repo: str = "",
    revision: str | None = None,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    policy: Policy | str | Path | None = None,
    bases: Sequence[str] | str = (),
    fail_on: FailOn | None = None,
    options: Options | None = None,
    override: str | None = None,
    progress: Progress | None = None,
) -> Cleared:
    """Check a folder as ``upload_folder`` would upload it; nothing is sent.

    Args:
        folder: The local folder.
        repo_id: Where it is to go: ``owner/name``. It need not exist.
        path_in_repo: Folder of the repository that it goes to.
        revision: Branch that it goes to.
        allow_patterns: As for ``upload_folder``.
        ignore_patterns: Likewise.
        policy: A policy, or its file; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the card declares: paths or ids.
        fail_on: The lowest level of finding that blocks; None: as the policy says, else errors.
        options: Choices of the check; ``token`` and ``endpoint`` count here, too.
        override: Why it goes whatever is found; None: as ``LINEAGE_OVERRIDE`` says. It is recorded.
        progress: Called while reading.

    Returns:
        What was cleared: reports, and the sha256 of the weights, which the gate lets go together in this process.

    Raises:
        UploadBlocked: When it is to be blocked; carries the reports.
        UsageError: When the call is wrong.

    Example:
        >>> from lineage_plugin.hooks import check_before_upload
        >>> cleared = check_before_upload("my-finetune", "me/my-finetune")  # doctest: +SKIP
        >>> HfApi().upload_folder(folder_path="my-finetune", repo_id="me/my-finetune")  # doctest: +SKIP
    """
    rules = rules_of(policy=policy, bases=bases, fail_on=fail_on, options=options, override=reason_given(override))
    staged = from_folder(Path(folder), path_in_repo, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
    cleared = clear(staged, Destination(repo_id, revision), rules, progress=progress)
    WATCH.clear(endpoint_of(rules.options.endpoint), cleared)
    return cleared


class LineageApi(HfApi):
    """``HfApi`` whose uploads to model repositories are checked first.

    ``upload_folder``, ``upload_file``, ``create_commit`` and ``preupload_lfs_files`` raise ``UploadBlocked`` before a
    byte of weights leaves when they do not support the bases that the card declares, or that cannot be found out.
    Weights that come alone are held against the card that the repository has; a card that comes alone is linted. Other
    kinds of repositories are not looked at.

    Args:
        endpoint: As for ``HfApi``.
        token: Likewise.
        policy: A policy, or its file; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the cards declare: paths or ids.
        fail_on: The lowest level of finding that blocks.
        options: Choices of the checks; endpoint and token are those of the client.
        override: Why everything goes whatever is found. It is recorded, and stands in the commit's description.
        hf_api_options: Further arguments of ``HfApi``.

    Example:
        >>> from lineage_plugin.hooks import LineageApi
        >>> LineageApi().upload_folder(folder_path="out", repo_id="me/my-finetune")  # doctest: +SKIP
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | bool | None = None,
        *,
        policy: Policy | str | Path | None = None,
        bases: Sequence[str] | str = (),
        fail_on: FailOn | None = None,
        options: Options | None = None,
        override: str | None = None,
        **hf_api_options: Any,
    ) -> None:
        super().__init__(endpoint, token, **hf_api_options)
        be_seen()
        self._rules = rules_of(policy=policy, bases=bases, fail_on=fail_on, options=options, override=override)
        needs_network(self._rules)

    def upload_folder(self, **arguments: Any) -> Any:
        """Check, then upload a folder; arguments, result and errors as for ``HfApi.upload_folder``.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        repo_id = arguments.get("repo_id")
        if not _is_model(arguments) or _is_cleared(repo_id) or "folder_path" not in arguments or repo_id is None:
            return super().upload_folder(**arguments)
        if arguments.pop("run_as_future", False):
            return self.run_as_future(self.upload_folder, **arguments)
        staged = from_folder(
            Path(arguments["folder_path"]),
            arguments.get("path_in_repo") or "",
            allow_patterns=arguments.get("allow_patterns"),
            ignore_patterns=arguments.get("ignore_patterns"),
        )
        with self._cleared(staged, arguments, self._deleted(arguments)) as cleared:
            return super().upload_folder(**described(arguments, cleared))

    def create_commit(self, repo_id: str, operations: Iterable[Any], **arguments: Any) -> Any:
        """Check, then make a commit; arguments, result and errors as for ``HfApi.create_commit``.

        ``upload_file`` and ``push_to_hub`` of the mixins of ``huggingface_hub`` come through here, too.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        if not _is_model(arguments) or _is_cleared(repo_id):
            return super().create_commit(repo_id, operations, **arguments)
        if arguments.pop("run_as_future", False):
            return self.run_as_future(self.create_commit, repo_id, operations, **arguments)
        listed = list(operations)
        additions = [one for one in listed if isinstance(one, CommitOperationAdd)]
        deletions = [one for one in listed if isinstance(one, CommitOperationDelete)]
        deleted = tuple(f"{one.path_in_repo.rstrip('/')}/" if one.is_folder else one.path_in_repo for one in deletions)
        copies = frozenset(one.path_in_repo for one in listed if isinstance(one, CommitOperationCopy))
        whole = {"repo_id": repo_id, **arguments}
        with self._cleared(from_operations(additions), whole, deleted, copies) as cleared:
            return super().create_commit(repo_id, listed, **described(arguments, cleared))

    def preupload_lfs_files(self, repo_id: str, additions: Iterable[CommitOperationAdd], **arguments: Any) -> None:
        """Check, then send files ahead of a commit; arguments and errors as for ``HfApi.preupload_lfs_files``.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        listed = list(additions)
        if not _is_model(arguments) or _is_cleared(repo_id):
            super().preupload_lfs_files(repo_id, listed, **arguments)
            return
        with self._cleared(from_operations(listed), {"repo_id": repo_id, **arguments}, ()):
            super().preupload_lfs_files(repo_id, listed, **arguments)

    def _deleted(self, arguments: dict[str, Any]) -> tuple[str, ...]:
        """Return the files that an upload of a folder deletes besides."""
        patterns = arguments.get("delete_patterns")
        if patterns is None:
            return ()
        from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

        place = folder_in_repo(arguments.get("path_in_repo"))
        there = self.list_repo_files(
            arguments["repo_id"], revision=arguments.get("revision"), token=arguments.get("token")
        )
        below = [name.removeprefix(place) for name in there if name.startswith(place)]
        return tuple(place + name for name in filter_repo_objects(below, allow_patterns=patterns))

    @contextmanager
    def _cleared(
        self,
        staged: Staged,
        arguments: dict[str, Any],
        deleted: tuple[str, ...],
        copies: Collection[str] = (),
    ) -> Iterator[Cleared]:
        """Check what is about to go, and watch that nothing else goes while the block runs."""
        repo, given = str(arguments["repo_id"]), arguments.get("token")
        token = next((one for one in (given, self.token) if isinstance(one, str)), self._rules.options.token)
        options = replace(self._rules.options, endpoint=self.endpoint, token=token)
        rules = replace(self._rules, options=options, override=reason_given(self._rules.override))
        cleared = _sent_ahead(staged, WATCH.cleared(self.endpoint, repo))
        if cleared is None:
            with shown_progress() as progress:
                cleared = clear(
                    staged,
                    Destination(repo, arguments.get("revision"), deleted),
                    rules,
                    earlier=WATCH.sent(self.endpoint, repo),
                    progress=progress,
                )
            tell(cleared.outcomes)
        within = _CLEARED.set((*_CLEARED.get(), repo))
        try:
            with held_to(cleared, staged, self.endpoint, copies):
                yield cleared
        finally:
            _CLEARED.reset(within)


def _upload_large_folder(self: LineageApi, repo_id: str, folder_path: str | Path, **arguments: Any) -> None:
    """Check, then upload a large folder; arguments and errors as for ``HfApi.upload_large_folder``.

    Its threads try again whatever goes wrong, so what is blocked has to be blocked before they start.

    Raises:
        UploadBlocked: Before anything is sent.
    """
    upload = HfApi.upload_large_folder  # type: ignore[attr-defined]
    if not _is_model(arguments):
        upload(self, repo_id, folder_path, **arguments)
        return
    patterns = {name: arguments.get(name) for name in ("allow_patterns", "ignore_patterns")}
    with self._cleared(from_folder(Path(folder_path), **patterns), {"repo_id": repo_id, **arguments}, ()):
        upload(self, repo_id, folder_path, **arguments)


if hasattr(HfApi, "upload_large_folder"):
    # Clients before 2.0 have it; later ones do by upload_folder what it was for.
    LineageApi.upload_large_folder = _upload_large_folder  # type: ignore[attr-defined]


@contextmanager
def held_to(cleared: Cleared, staged: Staged, endpoint: str, copies: Collection[str] = ()) -> Iterator[None]:
    """Let what was cleared go, and nothing else of weights and cards to the same repository, while the block runs.

    Args:
        cleared: The clearance.
        staged: The files that the block uploads.
        endpoint: Address of the Hub.
        copies: Names of the files that the server copies within itself.
    """

    def locate(file: OutgoingFile) -> list[StagedFile]:
        return [staged.files[file.name]] if file.name in staged.files else []

    counted = list(staged.counted.values())
    WATCH.clear(endpoint, cleared)
    watch_client(WATCH.on_request)
    guard = Guard((endpoint, cleared.repo), None, locate, lambda _: counted, lambda: copies)
    with WATCH.guarding(guard):
        yield


def _sent_ahead(staged: Staged, clearances: Iterable[Cleared]) -> Cleared | None:
    """Return the clearance of files of which some were sent ahead; None when they were not cleared all at once.

    ``preupload_lfs_files`` frees their memory, so that they cannot be looked at again when the commit is made.
    """
    if not staged.gone:
        return None
    whole = (one for one in clearances if staged.gone.items() <= one.digests.items())
    return next((cleared for cleared in whole if cleared.covers_all(staged.counted)), None)


def _is_cleared(repo: object) -> bool:
    return repo in _CLEARED.get()


def _is_model(arguments: dict[str, Any]) -> bool:
    return arguments.get("repo_type") in (None, "model")


def described(arguments: dict[str, Any], cleared: Cleared) -> dict[str, Any]:
    """Add the reason of an override to the description of the commit."""
    if cleared.reason is None:
        return arguments
    said = [arguments.get("commit_description") or "", trailer(cleared.reason, cleared.outcomes)]
    return {**arguments, "commit_description": "\n\n".join(part for part in said if part)}
