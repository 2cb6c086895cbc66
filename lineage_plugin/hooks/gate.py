"""The gate of a whole process: no upload of weights to a model repository without a passing check, whoever starts it.

``huggingface_hub`` has no plugin mechanism, and its ``upload_folder`` does not pass through ``create_commit`` where
hf_xet is installed. But every upload announces its files by a request of one HTTP client (``preupload``), and makes a
``CommitOperationAdd`` of each file before. The gate sits at both places.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from lineage_plugin.errors import UploadBlocked, UsageError
from lineage_plugin.hooks.client import watch_client
from lineage_plugin.hooks.journal import reason_given
from lineage_plugin.hooks.operations import Operations
from lineage_plugin.hooks.rules import Rules, needs_network, rules_of
from lineage_plugin.hooks.said import be_seen
from lineage_plugin.hooks.watch import WATCH, Guard
from lineage_plugin.hooks.wire import OutgoingFile, Sending
from lineage_plugin.options import Options
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.hooks.preflight import Cleared
    from lineage_plugin.hooks.staged import StagedFile
    from lineage_plugin.policy.types import Policy
    from lineage_plugin.report import FailOn

__all__ = ["MODE", "Gate", "Mode", "gates", "install_gate", "make_gate", "mode_wanted"]

MODE = "LINEAGE_GATE"
Mode = Literal["strict", "warn"]
_MODES: dict[str, Mode | None] = {
    **dict.fromkeys(("strict", "1", "on", "true"), "strict"),
    "warn": "warn",
    **dict.fromkeys(("", "0", "off", "false"), None),
}

_OPERATIONS = Operations()
_LOCK = threading.RLock()
_installed: list[Gate] = []


class Gate:
    """An installed gate; a context manager that removes it at the end of the block.

    Args:
        rules: What uploads are held against.

    Attributes:
        rules: The same.
        blocked: What it stopped, the latest last: uploads in the background may swallow what they raise.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.blocked: list[UploadBlocked] = []
        self._guard = Guard(None, self._examine, _locate, _rest, _OPERATIONS.copies, self._note)

    def __repr__(self) -> str:
        return f"Gate({'warn' if self.rules.warn_only else 'strict'})"

    def __enter__(self) -> Gate:
        return self.install()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def installed(self) -> bool:
        """Whether it is there."""
        return self in _installed

    def install(self) -> Gate:
        """Put it there, unless it is."""
        be_seen()
        with _LOCK:
            if not self.installed:
                _installed.append(self)
                WATCH.add(self._guard)
                _OPERATIONS.watch()
                watch_client(WATCH.on_request)
        return self

    def remove(self) -> None:
        """Take it away; requests go on being looked at, and nothing is held against them."""
        with _LOCK:
            if self.installed:
                _installed.remove(self)
                WATCH.remove(self._guard)
            if not _installed:
                _OPERATIONS.forget()

    def _examine(self, found: Sending, token: str | None) -> Cleared:
        from lineage_plugin.hooks.blocking import tell
        from lineage_plugin.hooks.preflight import Destination, clear
        from lineage_plugin.hooks.staged import from_operations
        from lineage_plugin.report.progress import shown_progress

        operations, unknown = _OPERATIONS.upload_of(found.files)
        if unknown:
            names = ", ".join(one_line(file.name, 100) for file in unknown[:3])
            reason = f"{names}: the upload began before the gate was there, or not by huggingface_hub"
            raise UploadBlocked(found.repo, [reason], exit_code=2, remedy="Run the upload again.")
        options = replace(self.rules.options, endpoint=found.endpoint, token=token or self.rules.options.token)
        rules = replace(self.rules, options=options, override=reason_given(self.rules.override))
        try:
            with shown_progress() as progress:
                cleared = clear(
                    from_operations(operations),
                    Destination(found.repo, found.revision),
                    rules,
                    earlier=WATCH.sent(found.endpoint, found.repo),
                    progress=progress,
                )
        except UploadBlocked:
            _OPERATIONS.spend(operations)
            raise
        tell(cleared.outcomes)
        return cleared

    def _note(self, error: UploadBlocked) -> None:
        # A copy: the traceback of the error itself holds whatever was about to be sent.
        self.blocked.append(copy(error))


def make_gate(
    *,
    mode: Mode = "strict",
    policy: Policy | str | Path | None = None,
    bases: Sequence[str] | str = (),
    fail_on: FailOn | None = None,
    options: Options | None = None,
    override: str | None = None,
) -> Gate:
    """Return a gate that is not installed yet; arguments and errors as for :func:`install_gate`."""
    if mode not in ("strict", "warn"):
        raise UsageError(f"'{one_line(str(mode), 40)}' is no mode of the gate: strict or warn")
    warn = mode == "warn"
    rules = rules_of(policy=policy, bases=bases, fail_on=fail_on, options=options, override=override, warn_only=warn)
    needs_network(rules)
    return Gate(rules)


def install_gate(
    *,
    mode: Mode = "strict",
    policy: Policy | str | Path | None = None,
    bases: Sequence[str] | str = (),
    fail_on: FailOn | None = None,
    options: Options | None = None,
    override: str | None = None,
) -> Gate:
    """Let no weights leave this process for a model repository before a passing check of exactly those bytes.

    Whatever uploads by ``huggingface_hub`` is held: ``upload_folder``, ``upload_file``, ``create_commit``,
    ``push_to_hub`` of models, trainers and processors, file systems. With ``LINEAGE_GATE=strict`` in the environment
    programs such as ``hf`` install it themselves. Cards that go alone are linted. Not held are datasets, Spaces and
    buckets, git, and programs that speak to the Hub by other means.

    Args:
        mode: ``strict`` blocks, ``warn`` only says what it would block.
        policy: A policy, or its file; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the cards declare: paths or ids.
        fail_on: The lowest level of finding that blocks; None: as the policy says, else errors.
        options: Choices of the checks; endpoint and token are those of each upload.
        override: Why everything goes whatever is found; None: as ``LINEAGE_OVERRIDE`` says. It is recorded.

    Returns:
        The gate: ``remove()`` takes it away, and so does the end of a ``with`` block.

    Raises:
        UsageError: When the mode is none, or the override is no reason.

    Example:
        >>> from lineage_plugin.hooks import install_gate
        >>> with install_gate():  # doctest: +SKIP
        ...     model.push_to_hub("me/my-finetune")
    """
    gate = make_gate(mode=mode, policy=policy, bases=bases, fail_on=fail_on, options=options, override=override)
    return gate.install()


def gates() -> tuple[Gate, ...]:
    """Return the gates that this process has."""
    return tuple(_installed)


def mode_wanted() -> Mode | None:
    """Return the mode that the environment asks for by ``LINEAGE_GATE``; None when it asks for no gate.

    Raises:
        UsageError: When it says something else.
    """
    said = os.environ.get(MODE, "").strip().lower()
    if said not in _MODES:
        raise UsageError(f"{MODE}={one_line(said, 40)}: strict, warn or off")
    return _MODES[said]


def _locate(file: OutgoingFile) -> list[StagedFile]:
    from lineage_plugin.hooks.staged import staged_file

    return [staged_file(operation) for operation in _OPERATIONS.meant(file)]


def _rest(found: Sending) -> list[StagedFile]:
    """Return the weights and cards of the whole upload: large ones are announced part by part."""
    from lineage_plugin.hooks.staged import from_operations, looks_like_weights
    from lineage_plugin.targets import describes

    operations, _ = _OPERATIONS.upload_of(found.files)
    # Others are not opened: this is asked at every part of a large upload.
    telling = [
        one
        for one in operations
        if describes(one.path_in_repo) or looks_like_weights(one.path_in_repo, one.upload_info.sample)
    ]
    return list(from_operations(telling).counted.values())
