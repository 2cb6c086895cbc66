"""Open a model as named tensors whose rows are read one by one.

:func:`open_checkpoint` takes what a user types, a folder, a file or ``owner/name@revision``, and returns a
:class:`Checkpoint`. Opening reads headers only; :meth:`Checkpoint.read` then fetches exactly the rows and columns asked
for, from a memory map or by HTTP ranges, and :meth:`Checkpoint.cost` says what that took::

    checkpoint = open_checkpoint("./my-model", options=Options())
    (rows,) = checkpoint.read([Selection("model.layers.0.mlp.up_proj.weight", rows=np.arange(16))])

Nothing in a checkpoint is believed before it is checked: see :mod:`lineage_plugin.checkpoint.header` for files and
:mod:`lineage_plugin.checkpoint.transport` for servers.
"""

from lineage_plugin.checkpoint.open import open_checkpoint
from lineage_plugin.checkpoint.types import Checkpoint, Cost, FileInfo, Selection, TensorInfo

__all__ = ["Checkpoint", "Cost", "FileInfo", "Selection", "TensorInfo", "open_checkpoint"]
