"""Lineage evidence for model checkpoints."""
