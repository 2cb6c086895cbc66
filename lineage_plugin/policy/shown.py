"""The policy that holds, as text for people, JSON for programs and a policy file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from lineage_plugin.findings import CODES
from lineage_plugin.policy.view import PolicyView, Setting, ShownException
from lineage_plugin.text import one_line

__all__ = ["as_json", "as_text", "as_yaml"]

SCHEMA = "lineage-policy-view/1"

_DEFAULT_WORDS = {"budget": "the plan's own", "bases.allow": "any"}


def as_text(view: PolicyView) -> str:
    """Return a view for people."""
    lines = [f"Policy  {_heading(view)}", ""]
    lines += _table([("setting", "value", "from"), *((s.name, _value(s), _source(s, view)) for s in view.settings)])
    lines.append("")
    levels = [(level.name, _value(level), _source(level, view), CODES[level.name].title) for level in view.levels]
    lines += _table([("code", "level", "from", "finding"), *levels])
    for one in view.exceptions:
        exemption = one.exemption
        where = f"{_file(view)}:{exemption.line}"
        lines += [
            "",
            f"Exception  {', '.join(exemption.codes)} of {exemption.model}: {_how_long(one)} ({where})",
            f"           {exemption.reason}",
        ]
        if one.about_model is False:
            lines.append(f"           not about {one_line(view.model, 200)}")
    if view.left_out:
        lines += ["", "Left out, since the file came with the model and nobody named it with --policy:"]
        lines += [f"  {one.what}{'' if one.line is None else f' ({_file(view)}:{one.line})'}" for one in view.left_out]
    return "".join(f"{line}\n" for line in lines)


def as_json(view: PolicyView) -> str:
    """Return a view for programs."""
    policy = view.policy
    document = {
        "schema": SCHEMA,
        "model": None if view.model is None else one_line(view.model, 1000),
        "file": None if policy is None else one_line(policy.file, 1000),
        "preset": None if policy is None else policy.preset,
        "stricter_only": policy is not None and policy.stricter_only,
        "settings": {one.name: _plain(one) for one in view.settings},
        "levels": {one.name: _plain(one) for one in view.levels},
        "exceptions": [
            {
                "model": one.exemption.model,
                "codes": list(one.exemption.codes),
                "reason": one.exemption.reason,
                "expires": one.exemption.expires.isoformat(),
                "days_left": one.days_left,
                "about_model": one.about_model,
                "line": one.exemption.line,
            }
            for one in view.exceptions
        ],
        "left_out": [{"what": one.what, "line": one.line} for one in view.left_out],
    }
    return json.dumps(document, indent=2) + "\n"


def as_yaml(view: PolicyView) -> str:
    """Return a view as a policy file that says all of it without a preset; the defaults stand in comments."""
    lines = [f"# Written out: {_heading(view)}", "version: 1"]
    for one in view.settings:
        if one.name != "bases.allow":
            lines.append(_yaml_line(one, view))
    stated = any(one.source != "default" for one in view.levels)
    lines.append("levels:" if stated else "# levels:")
    lines += [_yaml_line(one, view, "  ") for one in view.levels]
    (allow,) = (one for one in view.settings if one.name == "bases.allow")
    if isinstance(allow.value, tuple):
        lines += ["bases:", f"  allow:  # {_source(allow, view)}", *(f"    - {_text(one)}" for one in allow.value)]
    else:
        lines.append("# bases: any may be declared")
    if view.exceptions:
        lines.append("exceptions:")
    for shown in view.exceptions:
        exemption = shown.exemption
        lines += [
            f"  - model: {_text(exemption.model)}  # {_file(view)}:{exemption.line}, {_how_long(shown)}",
            f"    codes: [{', '.join(exemption.codes)}]",
            f"    reason: {_text(exemption.reason)}",
            f"    expires: {exemption.expires.isoformat()}",
        ]
    lines += [f"# left out, since the file came with the model: {one.what}" for one in view.left_out]
    return "".join(f"{line}\n" for line in lines)


def _heading(view: PolicyView) -> str:
    """Say which file it is, how it came to count, and for what."""
    policy, model = view.policy, "" if view.model is None else f" for {one_line(view.model, 200)}"
    if policy is None:
        return f"there is no policy file{model}; the defaults hold, as in the preset solo"
    preset = "no preset" if policy.preset is None else f"preset {policy.preset}"
    only = "; it came with the model, so it can only make a check stricter" if policy.stricter_only else ""
    return f"{_file(view)} ({preset}){model}{only}"


def _file(view: PolicyView) -> str:
    # A name that ends in a colon must not make "::", which starts a command in a CI log.
    return "" if view.policy is None else one_line(view.policy.file, 160).rstrip(": ")


def _source(setting: Setting, view: PolicyView) -> str:
    if setting.source == "file":
        return f"{_file(view)}:{setting.line}"
    preset = None if view.policy is None else view.policy.preset
    return f"preset {preset}" if setting.source == "preset" else "default"


def _value(setting: Setting) -> str:
    value = setting.value
    if value is None:
        return _DEFAULT_WORDS[setting.name]
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _plain(setting: Setting) -> dict[str, object]:
    value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
    return {"value": value, "source": setting.source, "line": setting.line}


def _yaml_line(setting: Setting, view: PolicyView, indent: str = "") -> str:
    mark = "# " if setting.source == "default" else ""
    return f"{f'{indent}{mark}{setting.name}: {_value(setting)}':<28}  # {_source(setting, view)}"


def _text(value: str) -> str:
    """Return a text as YAML has it in any place: JSON's way of writing it is one of YAML's."""
    return json.dumps(value, ensure_ascii=False)


def _how_long(one: ShownException) -> str:
    day = one.exemption.expires.isoformat()
    if one.days_left < 0:
        return f"expired on {day}"
    left = "today is its last day" if one.days_left == 0 else f"{_days(one.days_left)} left"
    return f"until {day}, {left}"


def _days(days: int) -> str:
    return f"{days:,} day" + ("" if days == 1 else "s")


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
