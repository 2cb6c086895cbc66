"""The lint of a model card: its rules, the files beside it, what the Hub says of its bases, and the repairs."""
