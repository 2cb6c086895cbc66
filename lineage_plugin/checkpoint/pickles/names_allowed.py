"""What a pickle of weights may name, and what the names stand for.

The list is that of torch 2.13 for ``torch.load(weights_only=True)`` (``torch._weights_only_unpickler``); a test holds
it against the installed torch. A name that is not on it may stand for any function of any installed package, and a
loader that trusts the file would call it.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "DTYPES", "STORAGES"]

_PLAIN = {
    "Double": "F64",
    "Float": "F32",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
}
"""The older types of torch and the names that safetensors gives them."""
_QUANTISED = ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")

_UNTYPED = "torch.storage.UntypedStorage"
"""The storage of the types that have none of their own: bytes."""

STORAGES: dict[str, str | None] = {
    **{f"torch.{kind}Storage": dtype for kind, dtype in _PLAIN.items()},
    **{f"torch.cuda.{kind}Storage": dtype for kind, dtype in _PLAIN.items()},
    **{f"torch.{kind}Storage": None for kind in ("ComplexDouble", *_QUANTISED)},
    **{"torch.cuda.ComplexDoubleStorage": None, "torch.ComplexFloatStorage": "C64"},
    **{"torch.cuda.ComplexFloatStorage": "C64", _UNTYPED: "U8"},
}
"""Storage classes and the types of their elements, named as in safetensors; None for a type that has no such name."""

DTYPES: dict[str, str | None] = {
    **{"torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"},
    **{"torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8"},
    **{"torch.uint64": "U64", "torch.uint32": "U32", "torch.uint16": "U16", "torch.uint8": "U8"},
    **{"torch.float8_e4m3fn": "F8_E4M3", "torch.float8_e5m2": "F8_E5M2", "torch.float8_e8m0fnu": "F8_E8M0"},
    **{"torch.float8_e4m3fnuz": "F8_E4M3FNUZ", "torch.float8_e5m2fnuz": "F8_E5M2FNUZ"},
    **{"torch.bool": "BOOL", "torch.complex64": "C64"},
    **{f"torch.complex{bits}": None for bits in (32, 128)},
    **{f"torch.{sign}int{bits}": None for sign in ("", "u") for bits in range(1, 8)},
    **{f"torch.bits{kind}": None for kind in ("8", "16", "1x8", "2x4", "4x2")},
    **{f"torch.{kind.lower()}": None for kind in _QUANTISED},
    "torch.float4_e2m1fn_x2": None,
}
"""Types that a pickle may name; None where safetensors has no name for them."""

_SPARSE = tuple(kind for kind in _PLAIN if kind != "Bool")
_TENSORS = (
    *(f"torch.{kind}Tensor" for kind in _PLAIN),
    *(f"torch.cuda.{kind}Tensor" for kind in _PLAIN),
    *(f"torch.{place}.{kind}Tensor" for place in ("sparse", "cuda.sparse") for kind in _SPARSE),
)
_REBUILDS = (
    *("parameter", "parameter_with_state", "qtensor", "tensor", "tensor_v2", "tensor_v3", "sparse_tensor"),
    *("meta_tensor_no_storage", "nested_tensor", "wrapper_subclass"),
    *("device_tensor_from_numpy", "device_tensor_from_cpu_tensor"),
)

ALLOWED: frozenset[str] = frozenset(
    (
        *("collections.OrderedDict", "collections.Counter", "_codecs.encode"),
        *("builtins.bytearray", "builtins.set", "builtins.complex"),
        *("torch.nn.parameter.Parameter", "torch.serialization._get_layout", "torch.Size", "torch.Tensor"),
        *("torch.device", "torch.storage.TypedStorage", "torch._tensor._rebuild_from_type_v2"),
        *(f"torch.per_tensor_{kind}" for kind in ("affine", "symmetric")),
        *(f"torch.per_channel_{kind}" for kind in ("affine", "symmetric", "affine_float_qparams")),
        *(f"torch._utils._rebuild_{kind}" for kind in _REBUILDS),
        *_TENSORS,
        *STORAGES,
        *DTYPES,
    )
)
"""All that a pickle may name."""
