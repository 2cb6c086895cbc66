"""What the benchmark zoo is made of: trained roots, and ways in which people change a model.

============================================ ==================================================
module                                       holds
============================================ ==================================================
:mod:`benchmarks.derivations.roots`          shapes and recipes of the models trained from scratch
:mod:`benchmarks.derivations.layouts`        what every axis of every tensor of a family runs over
:mod:`benchmarks.derivations.depth`          blocks repeated, dropped, inserted, re-ordered, replaced
:mod:`benchmarks.derivations.width`          units, heads and residual channels removed; key-value heads pooled
:mod:`benchmarks.derivations.experts`        a dense model made a mixture of experts
:mod:`benchmarks.derivations.vocabulary`     tokens redrawn, re-ordered, added; tokenizer files
:mod:`benchmarks.derivations.values`         rounding, noise, low-rank updates
:mod:`benchmarks.derivations.merging`        linear, SLERP, TIES and DARE merges
:mod:`benchmarks.derivations.pairs`          which pairs the zoo holds, and what is true of each
============================================ ==================================================
"""
