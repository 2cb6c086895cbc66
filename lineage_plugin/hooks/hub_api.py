"""A client of the Hub that checks models before it uploads them, and the check by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from lineage_plugin.checkpoint.hub import endpoint_of
from lineage_plugin.hooks.gate import hook_client
from lineage_plugin.hooks.journal import reason_given, trailer
from lineage_plugin.hooks.preflight import Cleared, Destination, clear
from lineage_plugin.hooks.rules import Rules
from lineage_plugin.hooks.staged import Staged, from_folder, from_operations
from lineage_plugin.hooks.watch import WATCH, Guard, busy
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
    policy: Policy | None = None,
    bases: Sequence[str] = (),
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
        policy: What is made of the findings; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the card declares: paths or ids.
        fail_on: The lowest level of finding that blocks; None: as the policy says, else errors.
        options: Choices of the check; ``token`` and ``endpoint`` count here, too.
        override: Why it goes whatever is found; None: as ``LINEAGE_OVERRIDE`` says. It is recorded.
        progress: Called while reading.

    Returns:
        What was cleared: reports, and the sha256 of the weights. Until this process ends, the gate lets these bytes go.

    Raises:
        UploadBlocked: When it is to be blocked; carries the reports.
        UsageError: When the call is wrong.

    Example:
        >>> from lineage_plugin.hooks import check_before_upload
        >>> cleared = check_before_upload("my-finetune", "me/my-finetune")  # doctest: +SKIP
        >>> HfApi().upload_folder(folder_path="my-finetune", repo_id="me/my-finetune")  # doctest: +SKIP
    """
    chosen = options or Options()
    rules = Rules(policy, tuple(bases), fail_on, chosen, reason_given(override))
    staged = from_folder(Path(folder), path_in_repo, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
    with busy():
        cleared = clear(staged, Destination(repo_id, revision), rules, progress=progress)
    WATCH.clear(endpoint_of(chosen.endpoint), cleared)
    return cleared


class LineageApi(HfApi):
    """``HfApi`` whose uploads to model repositories are checked first.

    ``upload_folder``, ``upload_file``, ``create_commit`` and ``preupload_lfs_files`` raise ``UploadBlocked`` before a
    byte of weights leaves when they do not support the bases that the card declares, or that cannot be found out.
    Weights that come alone are held against the card that the repository has; a card that comes alone is linted. Other
    kinds of repositories are not looked at.

    Args:
        policy: What is made of the findings; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the cards declare: paths or ids.
        fail_on: The lowest level of finding that blocks.
        options: Choices of the checks; endpoint and token are those of the client.
        override: Why everything goes whatever is found. It is recorded, and stands in the commit's description.
        hf_api_options: Arguments of ``HfApi``: ``endpoint``, ``token`` and others.

    Example:
        >>> from lineage_plugin.hooks import LineageApi
        >>> LineageApi().upload_folder(folder_path="out", repo_id="me/my-finetune")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        bases: Sequence[str] = (),
        fail_on: FailOn | None = None,
        options: Options | None = None,
        override: str | None = None,
        **hf_api_options: Any,
    ) -> None:
        super().__init__(**hf_api_options)
        self._rules = Rules(policy, tuple(bases), fail_on, options or Options(), reason_given(override))

    def upload_folder(self, **arguments: Any) -> Any:
        """Check, then upload a folder; arguments, result and errors as for ``HfApi.upload_folder``.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        if not _is_model(arguments) or _CLEARED.get():
            return super().upload_folder(**arguments)
        if arguments.pop("run_as_future", False):
            return self.run_as_future(self.upload_folder, **arguments)
        staged = from_folder(
            Path(arguments["folder_path"]),
            arguments.get("path_in_repo") or "",
            allow_patterns=arguments.get("allow_patterns"),
            ignore_patterns=arguments.get("ignore_patterns"),
        )
        with self._cleared(staged, arguments, ()) as cleared:
            return super().upload_folder(**described(arguments, cleared))

    def create_commit(self, repo_id: str, operations: Iterable[Any], **arguments: Any) -> Any:
        """Check, then make a commit; arguments, result and errors as for ``HfApi.create_commit``.

        ``upload_file`` and ``push_to_hub`` of the mixins of ``huggingface_hub`` come through here, too.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        if not _is_model(arguments) or _CLEARED.get():
            return super().create_commit(repo_id, operations, **arguments)
        if arguments.pop("run_as_future", False):
            return self.run_as_future(self.create_commit, repo_id, operations, **arguments)
        listed = list(operations)
        additions = [one for one in listed if isinstance(one, CommitOperationAdd)]
        deleted = tuple(one.path_in_repo for one in listed if isinstance(one, CommitOperationDelete))
        with self._cleared(_of(additions), {"repo_id": repo_id, **arguments}, deleted) as cleared:
            return super().create_commit(repo_id, listed, **described(arguments, cleared))

    def preupload_lfs_files(self, repo_id: str, additions: Iterable[CommitOperationAdd], **arguments: Any) -> None:
        """Check, then send files ahead of a commit; arguments and errors as for ``HfApi.preupload_lfs_files``.

        Raises:
            UploadBlocked: Before anything is sent.
        """
        listed = list(additions)
        if not _is_model(arguments) or _CLEARED.get():
            super().preupload_lfs_files(repo_id, listed, **arguments)
            return
        with self._cleared(_of(listed), {"repo_id": repo_id, **arguments}, ()):
            super().preupload_lfs_files(repo_id, listed, **arguments)

    @contextmanager
    def _cleared(self, staged: Staged, arguments: dict[str, Any], deleted: tuple[str, ...]) -> Iterator[Cleared]:
        """Check what is about to go, and watch that nothing else goes while the block runs."""
        repo, given = str(arguments["repo_id"]), arguments.get("token")
        token = next((one for one in (given, self.token) if isinstance(one, str)), self._rules.options.token)
        options = replace(self._rules.options, endpoint=self.endpoint, token=token)
        rules = replace(self._rules, options=options, override=reason_given(self._rules.override))
        with busy(), shown_progress() as progress:
            cleared = clear(
                staged,
                Destination(repo, arguments.get("revision"), deleted),
                rules,
                earlier=WATCH.sent(self.endpoint, repo),
                progress=progress,
            )
        within = _CLEARED.set((*_CLEARED.get(), repo))
        try:
            with held_to(cleared, staged, self.endpoint):
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
def held_to(cleared: Cleared, staged: Staged, endpoint: str) -> Iterator[None]:
    """Let what was cleared go, and nothing else of weights and cards to the same repository, while the block runs.

    Args:
        cleared: The clearance.
        staged: The files that the block uploads.
        endpoint: Address of the Hub.
    """
    WATCH.clear(endpoint, cleared)
    hook_client()
    with WATCH.guarding(
        Guard(
            (endpoint.rstrip("/"), cleared.repo),
            None,
            lambda file: [staged.files[file.name]] if file.name in staged.files else [],
        )
    ):
        yield


def _is_model(arguments: dict[str, Any]) -> bool:
    return arguments.get("repo_type") in (None, "model")


def _of(additions: Sequence[CommitOperationAdd]) -> Staged:
    # What was sent ahead was checked then, and its bytes may be gone.
    return from_operations(one for one in additions if not one._is_uploaded)


def described(arguments: dict[str, Any], cleared: Cleared) -> dict[str, Any]:
    """Add the reason of an override to the description of the commit."""
    if cleared.reason is None:
        return arguments
    said = [arguments.get("commit_description") or "", trailer(cleared.reason, cleared.outcomes)]
    return {**arguments, "commit_description": "\n\n".join(part for part in said if part)}
