"""Which row of one model's embedding holds the same token as which row of the other's.

Token rows have a meaning fixed from outside, so they are never coins; they are what the residual streams of two models
are laid side by side with. A changed vocabulary moves the rows, so they are matched by what the token spells:
:func:`read_vocabulary` reads the tokenizer's files, :func:`match_tokens` matches the rows of two vocabularies, and
:func:`same_tokenizer` says from file sizes alone whether reading them is needed::

    match = match_tokens(read_vocabulary(suspect), read_vocabulary(base), rows_of_suspect, rows_of_base)
    a = read_rows(suspect, "model.embed_tokens.weight", match.suspect[:256])
    b = read_rows(base, "model.embed_tokens.weight", match.base[:256])

One module a format, under :mod:`lineage_plugin.tokens.formats`; :mod:`lineage_plugin.tokens.spelling` brings tokens of
all formats to one form. Tokenizer files are as hostile as weights: nothing in them is believed before it is checked.
"""

from lineage_plugin.tokens.match import TokenMatch, match_tokens, read_rows
from lineage_plugin.tokens.read import read_vocabulary, same_tokenizer
from lineage_plugin.tokens.vocabulary import Vocabulary

__all__ = ["TokenMatch", "Vocabulary", "match_tokens", "read_rows", "read_vocabulary", "same_tokenizer"]
