"""Fuzzing of everything that parses files from outside: mutators, targets, and workers that survive what they find."""
