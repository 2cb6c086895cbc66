"""Measurements behind the figures that README and docs quote; `scripts/bench` runs them."""
