"""Licences of models: what they ask of those who publish a derivative, each fact with its clause and its source.

    >>> from lineage_plugin.licences import Ancestor, find, judge
    >>> base = Ancestor("meta-llama/Llama-3.1-8B", "llama3.1")
    >>> [judgement.verdict for judgement in judge(find("apache-2.0"), "finetune", [base])]
    ['incompatible']

``data/`` holds the facts: ``licences.json`` (licences, their other spellings, duties), ``families.json`` (ids of
well-known models) and ``spdx.txt`` (identifiers of the SPDX list, in lower case). They are read at first use. Nothing
here asks the network, and nothing here is legal advice.
"""

from lineage_plugin.licences.facts import Fact, Kind, Licence, family_licence, find, is_spdx, licences, stated
from lineage_plugin.licences.judge import Ancestor, Judgement, Verdict, judge

__all__ = [
    "Ancestor",
    "Fact",
    "Judgement",
    "Kind",
    "Licence",
    "Verdict",
    "family_licence",
    "find",
    "is_spdx",
    "judge",
    "licences",
    "stated",
]
