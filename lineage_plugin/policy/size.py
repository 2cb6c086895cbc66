"""Sizes as people write them, on the command line and in a policy."""

from __future__ import annotations

import re

__all__ = ["size_in_bytes"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) *([KMGT]I?|)B?\Z", re.ASCII | re.IGNORECASE)


def size_in_bytes(text: str) -> int | None:
    """Return a number of bytes.

    Args:
        text: A number with a decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB) unit; bytes without one.

    Returns:
        The number of bytes; None when the text is no size or less than one byte.
    """
    match = _SIZE.match(text.strip()) if len(text) <= 40 else None
    octets = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    return octets if octets >= 1 else None
