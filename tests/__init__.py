"""Tests of lineage-plugin."""
