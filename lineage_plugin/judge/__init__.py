"""Judgement: evidence to relation, findings and verdict, as immutable values.

:mod:`relation` names the relation that the evidence supports, :mod:`assemble` makes it the comparison of a report,
:mod:`lineage` turns comparisons into findings (LIN1xx) and a verdict, :mod:`types` holds the values.
"""
