"""The residual stream: coins of its channels, and its basis when that was changed.

Both look at token embeddings alone, on tokens that both vocabularies have. Channels of the stream have no names, so
they give exact coins of their own. And since exchanging or flipping hidden units leaves embeddings alone, unit coins
tossed in a basis that was recovered from embeddings are as fair as in the stored one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import Stream
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.evidence.basis import Basis, recover_basis
from lineage_plugin.evidence.channels import ChannelCoins, channel_coins, match_channels
from lineage_plugin.evidence.models import Models
from lineage_plugin.options import Options
from lineage_plugin.tokens import TokenMatch, match_tokens, read_rows, read_vocabulary, same_tokenizer

__all__ = ["find_basis", "shared_tokens", "toss_channels"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

CHANNEL_TOKENS = 256
"""Token rows over which channels are compared."""
REMOTE_TOKENS = 64
"""The same over the Hub, side by side in the file."""
REMOTE_JUMPS = 8
"""Most places where such rows may break off and go on elsewhere; with more the channels are not compared."""
LEAST_ROWS = 16
"""Usable token rows below which channels are not compared."""
BASIS_TOKENS = 1.5
"""Token rows read for recovering a basis, as a multiple of the channels."""
LEAST_TOKENS = 512
"""Token rows read at least."""


def shared_tokens(models: Models, *, exhaustive: bool = False) -> TokenMatch | None:
    """Return the rows of the tokens that both vocabularies have; None when a stream is not known.

    Over the Hub vocabulary files, of several megabytes each, are read only by those who ask for everything; tokens are
    taken to be the same unless sizes or digests of the files differ. On this machine they are always read: a vocabulary
    that was put in another order has its size to the byte. A file that cannot be read leaves rows of equal number; it
    says nothing about the weights.

    Args:
        models: Suspect and base.
        exhaustive: Whether vocabularies are read over the Hub, too.
    """
    sizes = [_rows(checkpoint, stream) for checkpoint, stream in _streams(models)]
    if len(sizes) < 2 or not all(sizes):
        return None
    if not (models.local or exhaustive):
        same = same_tokenizer(models.suspect, models.base) is not False and sizes[0] == sizes[1]
        return match_tokens(None, None, *sizes) if same else None
    try:
        vocabularies = read_vocabulary(models.suspect), read_vocabulary(models.base)
    except UnreadableCheckpoint:
        vocabularies = None, None
    return match_tokens(*vocabularies, *sizes)


def toss_channels(models: Models, tokens: TokenMatch, options: Options) -> tuple[ChannelCoins, ...]:
    """Toss the coins of the channels of the residual stream: in stored order, and, where signs are free, matched.

    Args:
        models: Suspect and base.
        tokens: Rows of the tokens that both have.
        options: Seed.

    Returns:
        The coins of each way, to be averaged; none when something fixed is added to the streams.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    streams = [stream for _, stream in _streams(models)]
    if len(streams) < 2 or not all(stream.swap for stream in streams):
        return ()
    chosen = _drawn(models, tokens, CHANNEL_TOKENS if models.local else REMOTE_TOKENS, [options.seed, 0xCA])
    if chosen.shape[0] < LEAST_ROWS:
        return ()
    suspect, base = _read_both(models, tokens, chosen)
    usable = np.isfinite(suspect).all(axis=1) & np.isfinite(base).all(axis=1)
    suspect, base = suspect[usable], base[usable]
    if suspect.shape[0] < LEAST_ROWS:
        return ()
    flip, found = all(stream.flip for stream in streams), []
    if streams[0].width == streams[1].width:
        found.append(channel_coins(suspect, base, flip=flip, seed=options.seed))
    if flip:
        matched, _ = match_channels(suspect, base, flip=True)
        found.append(channel_coins(suspect, base, flip=True, seed=options.seed, channels=matched))
    return tuple(found)


def find_basis(models: Models, tokens: TokenMatch, options: Options) -> Basis | None:
    """Recover how the channels of the suspect's stream became those of the base's.

    Args:
        models: Suspect and base.
        tokens: Rows of the tokens that both have.
        options: Seed.

    Returns:
        The basis; None when there is no better one than the stored, or the streams are not known.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    streams = [stream for _, stream in _streams(models)]
    if len(streams) < 2 or not all(stream.swap for stream in streams):
        return None
    width = max(stream.width for stream in streams)
    count = max(LEAST_TOKENS, int(BASIS_TOKENS * width))
    chosen = _drawn(models, tokens, count, [options.seed, 0xCB])
    if chosen.shape[0] < LEAST_ROWS:
        return None
    suspect, base = _read_both(models, tokens, chosen)
    if any(stream.norm == "layer" for stream in streams):
        # What LayerNorm takes from the stream does nothing, and a rotated copy may lack it.
        suspect, base = (rows - rows.mean(axis=1, keepdims=True) for rows in (suspect, base))
    same = streams[0].norm == streams[1].norm
    return recover_basis(suspect, base, flip=all(stream.flip for stream in streams), rotate=same)


def _drawn(models: Models, tokens: TokenMatch, count: int, seed: list[int]) -> IntArray:
    """Draw some of the matched tokens; over the Hub some whose rows lie side by side in both files.

    Scattered rows would cost a request each, or all that lies between. What is looked at is row numbers, no weights.
    """
    rng = np.random.default_rng([seed[0] & 0xFFFFFFFF, *seed[1:]])
    size = tokens.suspect.shape[0]
    if models.local:
        return np.sort(rng.permutation(size)[:count])
    count = min(count, size)
    jumps = (np.diff(tokens.suspect) != 1) | (np.diff(tokens.base) != 1)
    before = np.concatenate(([0], np.cumsum(jumps)))
    inside = before[count - 1 :] - before[: size - count + 1] if count else np.zeros(0, np.int64)
    if not inside.size or inside.min() > REMOTE_JUMPS:
        return np.empty(0, np.int64)
    starts = np.flatnonzero(inside == inside.min())
    start = int(starts[int(rng.integers(starts.shape[0]))])
    return np.arange(start, start + count, dtype=np.int64)


def _streams(models: Models) -> list[tuple[Checkpoint, Stream]]:
    return [(checkpoint, anatomy.stream) for checkpoint, anatomy in models.sides if anatomy.stream is not None]


def _rows(checkpoint: Checkpoint, stream: Stream) -> int:
    info = checkpoint.tensors.get(stream.embedding)
    return 0 if info is None or len(info.shape) != 2 else info.shape[0]


def _read_both(models: Models, tokens: TokenMatch, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
    """Read the embeddings of some of the matched tokens, ``[tokens, width]`` each."""
    suspect, base = (
        read_rows(checkpoint, stream.embedding, rows[chosen])
        for (checkpoint, stream), rows in zip(_streams(models), (tokens.suspect, tokens.base), strict=True)
    )
    return suspect, base
