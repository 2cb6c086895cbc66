"""GGUF files: header, number types, and the way back to the names and layouts of transformers.

What is said about the format follows its specification (``docs/gguf.md`` of ggml); what the converter of llama.cpp
does to tensors was read from its source (``conversion/*.py``, release of September 2026) and is undone in
:mod:`~lineage_plugin.checkpoint.gguf_files.names` and :mod:`~lineage_plugin.checkpoint.gguf_files.views`.
"""
