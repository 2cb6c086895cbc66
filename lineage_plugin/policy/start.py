"""A policy file to start from."""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import date, timedelta
from pathlib import Path

from lineage_plugin._links import DOCS, HOME
from lineage_plugin.errors import UsageError
from lineage_plugin.policy.load import load_preset
from lineage_plugin.text import one_line

__all__ = ["starter", "write_new"]

_EXAMPLE_DAYS = 180

_TEXT = """\
# yaml-language-server: $schema={home}/raw/main/lineage_plugin/policy/lineage-policy-1.schema.json
# What this project makes of the findings of lineage. Every setting is explained here:
# {docs}/policy.md
# To use one that is commented out, remove its "#". Then: lineage policy validate
version: 1

# What holds where this file says nothing else. "solo" is for people who publish their own models: errors fail, all
# else is advice. "strict" is for organisations: what is not declared, pinned, licensed or compared fails.
preset: {preset}

# The lowest level of finding that fails: error, warning, note or never.
#fail-on: {fail_on}

# What an undecided verdict counts as: pass (exit code 0), fail (1) or undecided (3).
#undecided: {undecided}

# Whether a comment in a card, such as "# lineage: ignore[LIN205] reason", may ignore a finding: allow or deny.
#ignore-comments: {ignore_comments}

# Claim a relation from an e-value of 10 to this power.
#bar: 9

# Read at most this much of each model.
#budget: 64MB

# Levels of findings by code: error, warning, note or off. The codes:
# {docs}/findings.md
#levels:
#  LIN205: warning

# Bases that cards may declare; "*" stands for any characters but a slash.
#bases:
#  allow:
#    - acme/*

# Findings that are excused for some models, for a reason, up to and including a day (UTC).
#exceptions:
#  - model: acme/legacy-*
#    codes: [LIN101]
#    reason: trained before we kept model cards
#    expires: {expires}
"""


def starter(preset: str, today: date) -> str:
    """Return a policy file that names a preset and shows all other settings in comments.

    Args:
        preset: The preset; the settings shown are what it says.
        today: The day from which the example of an exception holds for half a year.
    """
    says = load_preset(preset)
    return _TEXT.format(
        home=HOME,
        docs=DOCS,
        preset=preset,
        fail_on=says.fail_on,
        undecided=says.undecided,
        ignore_comments=says.ignore_comments,
        expires=(today + timedelta(days=_EXAMPLE_DAYS)).isoformat(),
    )


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet: all of it or nothing, and over nothing.

    Args:
        path: The file.
        text: Its content.

    Raises:
        UsageError: When anything of that name is there, or it cannot be written.
    """
    shown = one_line(str(path), 160)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        if os.path.lexists(path):
            raise FileExistsError
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a renaming, a link never replaces what has appeared there since.
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except FileExistsError:
        help_ = "edit it, or remove it first; 'lineage policy validate' checks it"
        raise UsageError(f"{shown}: is there already, and nothing was changed; {help_}") from None
    except OSError as error:
        raise UsageError(f"{shown}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
