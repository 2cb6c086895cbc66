"""What the codes LIN4xx mean: the policy's own findings."""

from __future__ import annotations

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final[dict[str, str]] = {
    "LIN401": """
        Report a base that the policy does not allow.

        The card, or `adapter_config.json`, declares a base that fits none of the patterns under `bases.allow` in the
        [policy](policy.md). The weights have no say in it.

        Do: use a base that is allowed, or have it added.

        Example::

            bases: {allow: [acme/*]}        # and the card says base_model: other/base-7b
        """,
    "LIN402": """
        Report an exception of the policy that has expired.

        An exception of the [policy](policy.md) is about this model, and its `expires` has passed: it excuses nothing
        any more.

        Do: remove it, or decide anew and set another date.
        """,
}
