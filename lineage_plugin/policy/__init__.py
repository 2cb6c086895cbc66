"""The policy file ``.lineage.yml``: what a project makes of findings, in one place and on record.

A policy is read (:mod:`~lineage_plugin.policy.load`), perhaps over a preset (``presets/``), or found where none is
named (:mod:`~lineage_plugin.policy.find`), and applied once, between judgement and report
(:mod:`~lineage_plugin.policy.apply`). It decides about levels and exit codes, never about evidence, and the report says
what it silenced. ``docs/policy.md`` describes the file, ``lineage-policy-1.schema.json`` is for editors.
"""
