"""Fingerprints: a model in kilobytes, from which coins are tossed as from its weights; and the registry of them."""
