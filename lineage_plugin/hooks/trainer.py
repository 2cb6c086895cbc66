"""A callback for ``transformers.Trainer`` and the trainers that are made of it, such as those of TRL.

When a trainer announces a push, the model is not saved and its card not written yet. So the callback checks nothing
then, but puts up the gate: what is pushed is checked as it is pushed, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.hooks.gate import Mode, make_gate
from lineage_plugin.hooks.said import LOG, be_seen

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from lineage_plugin.options import Options
    from lineage_plugin.policy.types import Policy
    from lineage_plugin.report import FailOn

__all__ = ["LineageCallback"]


class LineageCallback(TrainerCallback):
    """Holds what a trainer pushes against its model card, and writes a fingerprint beside every saved checkpoint.

    From the first push on the gate guards the whole process (:func:`lineage_plugin.hooks.install_gate`), until
    :meth:`remove`. A push at the end of the training raises ``UploadBlocked``. One during the training runs in the
    background, where trainers ignore what it raises: it is logged, and the training goes on.

    Args:
        mode: ``strict`` blocks, ``warn`` only says what it would block.
        fingerprint: Whether to write a fingerprint into every checkpoint that is saved.
        policy: A policy, or its file; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the card declares: paths or ids.
        fail_on: The lowest level of finding that blocks.
        options: Choices of the checks.
        override: Why everything goes whatever is found. It is recorded.

    Raises:
        UsageError: When the mode is none, or the override is no reason.

    Example:
        >>> from lineage_plugin.hooks import LineageCallback
        >>> trainer = Trainer(model, arguments, callbacks=[LineageCallback()])  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        mode: Mode = "strict",
        fingerprint: bool = True,
        policy: Policy | str | Path | None = None,
        bases: Sequence[str] | str = (),
        fail_on: FailOn | None = None,
        options: Options | None = None,
        override: str | None = None,
    ) -> None:
        be_seen()
        self._fingerprint = fingerprint
        self._said = 0
        self._gate = make_gate(
            mode=mode, policy=policy, bases=bases, fail_on=fail_on, options=options, override=override
        )

    def remove(self) -> None:
        """Guard nothing more."""
        self._gate.remove()

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put up the gate: what follows is checked."""
        self._gate.install()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the fingerprint of a saved checkpoint, and say what was blocked in the background meanwhile."""
        self._tell()
        if not self._fingerprint or not state.is_world_process_zero:
            return
        from lineage_plugin.api import fingerprint_model
        from lineage_plugin.checkpoint.names import is_model_id
        from lineage_plugin.fingerprint.file import FILE

        folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        name = args.hub_model_id if args.hub_model_id and is_model_id(args.hub_model_id) else None
        try:
            (folder / FILE).write_bytes(fingerprint_model(str(folder), name=name))
        except (LineageError, OSError) as error:
            # A training of days does not end for this.
            LOG.warning("no fingerprint of %s was written: %s", folder, error)
            # What is wrong with this one, such as being an adapter, is wrong with the next one.
            self._fingerprint = not isinstance(error, UsageError)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what was blocked in the background."""
        self._tell()

    def _tell(self) -> None:
        blocked = self._gate.blocked
        for error in blocked[self._said :]:
            LOG.error("%s\nThe training goes on.", error)
        self._said = len(blocked)
