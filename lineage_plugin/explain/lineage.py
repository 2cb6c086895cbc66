"""What the codes LIN1xx mean: the card held against the weights."""

from __future__ import annotations

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final[dict[str, str]] = {
    "LIN101": """
        Report a declared base that the weights do not support.

        Every layer of both models was read, and the comparisons fell as they would for models trained from independent
        random starts. Layers that were moved, units that were re-ordered and a changed residual stream were looked for
        as far as the report says, and it says how much of the base could remain unnoticed. Of a base given as a
        fingerprint file, or with `--fingerprints only`, only the units of the fingerprints were compared.

        A copy whose labels were all redrawn is found by calibrated evidence only, which may miss one that was also
        trained on; a model distilled from the base gives the same answer as an unrelated one. Of a parent of a merge,
        [LIN106](rules/LIN106.md) is said instead.

        Do: correct `base_model`, or remove it if the model was trained from scratch.

        Example::

            base_model: acme/base-7b        # LIN101: the weights do not support acme/base-7b as the base
        """,
    "LIN102": """
        Report a known model that shares learned weights with this one, of which the card says nothing.

        Only with a [registry](registry.md) (`lineage scan`, or `lineage check --registry`). A model of the registry
        shares learned weights with this one, and nothing that the card declares is supported by the weights. The coins
        are those of fingerprints, their e-value divided by the number of models in the registry. Of several relatives
        the one that a parent would look like is named; that choice is an estimate, and others that fit as well are
        named with it. Where only a sibling was found, no base is suggested.

        Do: if the model was made from it, paste the lines that follow the message into the card's front matter.

        Example::

            lineage scan ./my-model
            LIN102: the weights share what acme/base-7b learned, which the card does not declare
                    base_model: acme/base-7b
                    base_model_relation: finetune
        """,
    "LIN103": """
        Report a declared relation that is not the one that the weights show.

        The base is right, but the weights are those of another kind of relative: declared `finetune`, stored as 8-bit
        floats or a combination of several parents that leaves little unexplained; declared `quantized`, stored in full
        precision with other values; or declared `adapter`, changed by more than a low-rank update. Kinds are read off
        the weights, never off names.

        As a note: the declared base looks like the descendant rather than the ancestor, which is an indication and no
        evidence. It is not said of the parents of a merge: a mean of several models is nearer to their ancestor than
        each of them.

        Do: set `base_model_relation` to what the message says.
        """,
    "LIN104": """
        Report weight files that are those of the base.

        The sha256 digests of all weight files are those of the base.

        Do: say in the card that this is a copy, or link to the original.
        """,
    "LIN105": """
        Report another member of the family that looks like a better parent than the declared base.

        Only with `--candidate` or `--registry`. The suspect has all that sets a candidate apart from the declared base,
        so it was made from that candidate: an instruct model, say, where the card names the base. As a note: it lies
        between two of them, as a merge does, and one of the two is not declared.

        This is an estimate with intervals, no exact evidence: among models that share weights no comparison is a fair
        coin any more. Where the intervals leave several parents possible, nothing is said. `--ancestor` names the model
        from which all of them descend and narrows the intervals; without it the members' cards are asked. With
        `--registry` the estimate is made from fingerprints: the suspect contains another model's weights whole, and is
        nearer to it than to the declared base by five standard errors.

        Do: name the nearer parent as `base_model`, if that is what you started from.

        Example::

            lineage check ./my-model --candidate acme/chat-7b       # card: base_model: acme/base-7b
            LIN105: acme/chat-7b is a closer parent than acme/base-7b
        """,
    "LIN106": """
        Report a declared parent of a merge that left no trace.

        Several bases are declared, and one of them has no part in the weights: its own comparison shows none, or its
        weight in the combination of all parents is 0 as far as the interval tells. The report lists every parent's
        weight. An ancestor of another parent has a weight of 0, too, when neither `--ancestor` nor the cards say that
        it is one.

        Do: remove it from `base_model`, or check that the merge used it.

        Example::

            base_model: [acme/chat-7b, acme/code-7b]
            # LIN106: acme/code-7b adds nothing to the merge that the other parents lack: weight 0.00
        """,
    "LIN107": """
        Report a model that shares its random start with the base, and not what the base learned.

        The models start from the same random weights (the comparisons show that they are dependent), but what the base
        learned is not in the suspect. Two runs from one seed look like this, and so does an early checkpoint of the
        other model, which had learned little yet. This finding rests on calibrated statistics, see
        [the method](method.md#derived-or-only-the-same-seed).

        Do: correct `base_model`, or name the start that both were trained from.
        """,
    "LIN108": """
        Report weights that were re-ordered or re-expressed in a way that leaves the outputs as they are.

        The base was found only after something had been undone that leaves the outputs of a model as they are: units in
        another order, flipped signs, a re-ordered or rotated residual stream, mixed value channels, rescaled units. The
        report says what, and whether the evidence after it is exact or calibrated. It is an observation, no accusation:
        converters and pruning tools re-order weights, too.

        Do: if you did it, say in the card how and why.
        """,
    "LIN109": """
        Report layers of a descendant that show no trace of the base.

        The model descends from the base, but some layers show no trace of it although they were compared as closely as
        the others, or correspond to no layer of the base. Layers that were repeated or moved are none of these.

        Do: say in the card which layers were replaced, inserted or trained anew.
        """,
}
