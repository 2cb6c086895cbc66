"""PyTorch checkpoints, read without running anything in them.

A file of ``torch.save`` is a zip archive: the numbers of each storage lie uncompressed in a member ``data/<key>``, and
``data.pkl`` is a pickle that says which tensors they are. A pickle is a program for a stack machine that may call any
function it names. Here it is interpreted by a machine of our own that knows no functions at all:

* :mod:`~lineage_plugin.checkpoint.pickles.archive` reads the directory of the archive and says where members lie;
* :mod:`~lineage_plugin.checkpoint.pickles.names_allowed` lists what a pickle may name: what torch itself allows with
  ``weights_only=True``;
* :mod:`~lineage_plugin.checkpoint.pickles.machine` runs the opcodes on inert values;
* :mod:`~lineage_plugin.checkpoint.pickles.calls` says what a call of an allowed name would have made;
* :mod:`~lineage_plugin.checkpoint.pickles.states` picks the weights out of a training checkpoint;
* :mod:`~lineage_plugin.checkpoint.pickles.strided` reads transposed tensors and other views.

torch's own ``weights_only`` loader is not used, for three reasons that were tried out with torch 2.13: it needs the
whole archive on this machine, a pickle of 200 bytes with nested tuples for a key keeps it busy for ever, and an allowed
``bytearray`` takes any amount of memory.
"""
