"""Evidence: coins, e-values, effects and inheritance, from two opened checkpoints.

The stages, in the order of the data: :mod:`match` pairs the groups of two models, :mod:`plan` says what to read,
:mod:`sample` reads it, :mod:`ledger` tosses the coins (with :mod:`coins`, :mod:`repeats` and :mod:`order`),
:mod:`evalue` weighs them, :mod:`effects`, :mod:`inheritance` and :mod:`direction` measure what is shared, and
:mod:`gather` drives the rounds.
"""
