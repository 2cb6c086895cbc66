"""Tests of lineage_plugin.checkpoint."""
