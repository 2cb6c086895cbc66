"""The values every checkpoint format is opened into.

A checkpoint is a set of named tensors whose rows can be read one by one. Formats and places differ in how the bytes are
found; the stages after this one see only :class:`Checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Checkpoint", "Cost", "Encoding", "FileInfo", "Selection", "TensorInfo"]

# In quotes: who reads cards alone does not wait for numpy.
IntArray: TypeAlias = "NDArray[np.int64]"
FloatArray: TypeAlias = "NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file of a model.

    Attributes:
        name: Path inside the model folder or repository, with forward slashes.
        size: Bytes.
        sha256: Digest of the content when it is known without reading it (the Hub's LFS digest), else None.
    """

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the numbers of a quantised tensor are packed.

    Attributes:
        name: Name of the scheme, such as ``Q4_K``, ``NF4`` or ``GPTQ``.
        bits: Bits of a level, without what scales take.
        shared: ``(rows, columns)`` of the matrix that share a scale, ``-1`` for all of them. ``(1, 32)``: runs of 32
            along a row. Inside such a block the order of the numbers must not matter to the quantiser; 0 where it does
            (GPTQ rounds one column after the other).
        axis: 0 when rows of the matrix lie together in the file, 1 when columns do: what a reader of a few units pays.
    """

    name: str
    bits: float
    shared: tuple[int, int] = (1, -1)
    axis: Literal[0, 1] = 0


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a checkpoint, known from headers alone.

    Attributes:
        name: Name in the checkpoint.
        shape: Dimensions; empty for a scalar.
        dtype: The name safetensors gives the stored type, such as ``BF16``; ``F32`` for numbers computed when read.
        file: Name of the file that holds it, or most of it.
        offset: Position of the first data byte in that file.
        nbytes: Number of data bytes, those of scales included.
        encoding: How it is quantised; None when every element is stored as a number of its own.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    offset: int
    nbytes: int
    encoding: Encoding | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows and columns of one tensor, seen as a matrix.

    A tensor of more than two dimensions is read as a matrix of ``width`` columns in C order; ``width`` defaults to the
    product of all extents but the first, so that a convolution kernel ``[out, in, h, w]`` has one row per output
    channel. Fused experts ``[experts, units, hidden]`` are read with ``width=hidden``: one row per expert and unit. A
    vector is a single column (width 1).

    Attributes:
        tensor: Name of the tensor.
        rows: Row indices, strictly increasing, or None for all.
        columns: Column indices, strictly increasing, or None for all.
        width: Number of columns of the matrix, or None for the default.
    """

    tensor: str
    rows: IntArray | None = None
    columns: IntArray | None = None
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent on reading.

    Attributes:
        bytes_read: Bytes of weight files read, headers included.
        tensor_bytes: The part of ``bytes_read`` that is tensor data.
        bytes_total: Size of all weight files.
        requests: HTTP requests sent, redirects and metadata included; 0 for local models.
        seconds: Wall-clock seconds.
    """

    bytes_read: int = 0
    tensor_bytes: int = 0
    bytes_total: int = 0
    requests: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.bytes_read + other.bytes_read,
            self.tensor_bytes + other.tensor_bytes,
            self.bytes_total + other.bytes_total,
            self.requests + other.requests,
            self.seconds + other.seconds,
        )

    def since(self, before: Cost) -> Cost:
        """Return what was spent after an earlier reading of the same counters; the total size stays."""
        return Cost(
            self.bytes_read - before.bytes_read,
            self.tensor_bytes - before.tensor_bytes,
            self.bytes_total,
            self.requests - before.requests,
            self.seconds - before.seconds,
        )


class Checkpoint(Protocol):
    """An opened model: named tensors with lazy rows, and the small files beside them."""

    @property
    def id(self) -> str:
        """What the user called it: a path or ``owner/name``."""

    @property
    def revision(self) -> str | None:
        """Commit hash for a model on the Hub, else None."""

    @property
    def local(self) -> bool:
        """Whether reading is a memory access rather than a request."""

    @property
    def format(self) -> str:
        """Name of the weight format, such as ``safetensors``."""

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files of the model by name."""

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the files the tensors live in, sorted."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name."""

    @property
    def config(self) -> Mapping[str, object]:
        """``config.json``, or what the weight files say in its place, or an empty mapping."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the weight files say about themselves: claims, nothing more."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences about what was assumed or left aside when it was opened."""

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return a small text file of the model, at most ``limit`` bytes of it, or None when there is none."""

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored, at most ``limit`` bytes of it, or None for none."""

    def read(self, selections: Sequence[Selection]) -> list[FloatArray]:
        """Return the selected parts as float32 matrices, in order.

        Raises:
            InputError: When the file cannot be read or decoded.
            HubError: When the Hub does not deliver.
        """

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files as far as known; with ``compute``, read local files to know them all."""

    def cost(self) -> Cost:
        """Return what has been spent so far."""
