"""Model cards, good, odd and hostile, with what must be read from them.

A case gives the bases as ``(id, revision, line)`` and the findings as ``(code, level, line)``, in the order in which
they are reported; each line is the one a reader of the file would point at.
"""

# One case a line, as a table.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

Base = tuple[str, str | None, int | None]
Found = tuple[str, str, int | None]

HASH = "5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9"


@dataclass(frozen=True)
class Case:
    name: str
    content: str | bytes | None
    bases: tuple[Base, ...] = ()
    findings: tuple[Found, ...] = ()
    relation: str | None = None
    effective: str | None = None
    says: str = ""  # a fragment that some message must contain


def block(*lines: str, end: str = "\n", body: str = "# Model\n") -> str:
    """A card whose first front matter line is line 2, with a licence as its last one unless it has one of its own."""
    licence = () if any("license:" in line for line in lines) else ("license: mit",)
    return bare(*lines, *licence, end=end, body=body)


def bare(*lines: str, end: str = "\n", body: str = "# Model\n") -> str:
    """A card whose first front matter line is line 2, and no more than these lines."""
    return end.join(["---", *lines, "---", body])


def base(id_: str, line: int, revision: str | None = HASH) -> tuple[Base, ...]:
    return ((id_, revision, line),)


def unpinned(line: int) -> Found:
    return ("LIN205", "note", line)


def no_base(line: int | None) -> Found:
    return ("LIN201", "warning", line)


def no_licence(line: int) -> Found:
    return ("LIN206", "warning", line)


def broken(line: int | None, level: str = "error") -> Found:
    return ("LIN207", level, line)


PIN = f"base_model_revision: {HASH}"

GOOD = [
    Case("pinned", block("base_model: owner/name", PIN), base("owner/name", 2)),
    Case("unpinned", block("license: mit", "base_model: owner/name"), base("owner/name", 3, None), (unpinned(3),)),
    Case("pinned inline", block(f"base_model: owner/name@{HASH}"), base("owner/name", 2)),
    Case("canonical", block("base_model: gpt2", PIN), base("gpt2", 2)),
    Case("quoted", block("base_model: 'owner/name'", PIN), base("owner/name", 2)),
    Case("quoted with blanks", block('base_model: "  owner/name  "', PIN), base("owner/name", 2)),
    Case("finetune", block("base_model: o/n", PIN, "base_model_relation: finetune"), base("o/n", 2), (), "finetune", "finetune"),
    Case("adapter", block("base_model: o/n", PIN, "base_model_relation: adapter"), base("o/n", 2), (), "adapter", "adapter"),
    Case("quantized", block("base_model_relation: quantized", "base_model: o/n", PIN), base("o/n", 3), (), "quantized", "quantized"),
    Case("list of one", block("base_model:", "- o/n", PIN), base("o/n", 3)),
    Case(
        "two bases are a merge",
        block("base_model:", "  - a/b", "  - c/d", f"base_model_revision: [{HASH}, v1.0]"),
        (("a/b", HASH, 3), ("c/d", "v1.0", 4)),
        effective="merge",
    ),
    Case(
        "flow list over lines",
        block("base_model: [a/b,", "  c/d]"),
        (("a/b", None, 2), ("c/d", None, 3)),
        (unpinned(2), unpinned(3)),
        effective="merge",
    ),
    Case("value on the next line", block("base_model:", "  owner/name", PIN), base("owner/name", 3)),
    Case("folded block", block("base_model: >-", "", "  owner/name", PIN), base("owner/name", 4)),
    Case("literal block", block("base_model: |", "  owner/name", PIN), base("owner/name", 3)),
    Case("comments and blank lines", block("# why", "", "base_model: owner/name  # the base", PIN), base("owner/name", 4)),
    Case("flow mapping", block("{base_model: o/n, license: mit,", f" base_model_revision: {HASH}}}"), base("o/n", 2)),
    Case("same id at two commits", block("base_model: [o/n@aaaaaaa, o/n@bbbbbbb]"), (("o/n", "aaaaaaa", 2), ("o/n", "bbbbbbb", 2)), effective="merge"),
    Case("hash that is a number", block("base_model: o/n", "base_model_revision: 1234567"), base("o/n", 2, "1234567")),
    Case("hash that is a float", block("base_model: o/n", "base_model_revision: 12345e7"), base("o/n", 2, "12345e7")),
    Case("one of two pinned", block("base_model: [a/b, c/d]", f"base_model_revision: [null, {HASH}]"), (("a/b", None, 2), ("c/d", HASH, 2)), (unpinned(2),), effective="merge"),
    Case("carriage returns", block("license: mit", "base_model: o/n", PIN, end="\r\n"), base("o/n", 3)),
    Case("old line ends", block("license: mit", "base_model: o/n", PIN, end="\r"), base("o/n", 3)),
    Case("byte order mark", b"\xef\xbb\xbf" + block("base_model: o/n", PIN).encode(), base("o/n", 2)),
    Case("byte order mark in text", "\ufeff" + block("base_model: o/n", PIN), base("o/n", 2)),
    Case("blank lines first", "\n\n" + block("base_model: o/n", PIN), base("o/n", 4)),
    Case("no body", f"---\nbase_model: o/n\n{PIN}\nlicense: mit\n---", base("o/n", 2)),
    Case("closing fence with blanks", f"---\nbase_model: o/n\n{PIN}\nlicense: mit\n---  \n# x", base("o/n", 2)),
    Case("fences in the body", block("base_model: o/n", PIN, body="text\n---\nbase_model: other/one\n---\n"), base("o/n", 2)),
    Case("dashes inside a value", block("base_model: o/n", PIN, "title: a --- b", "x: '----'"), base("o/n", 2)),
    Case("alias", block("x: &b o/n", "base_model: *b", PIN), base("o/n", 3)),
    Case("alias of a list", block("x: &b [o/n]", "base_model: *b", PIN), base("o/n", 2)),
    Case("unicode around", block("title: 模型 🤗", "base_model: o/n", PIN, "x: é"), base("o/n", 3)),
    Case("unicode line separator", block("title: a\u2028 b\u0085 c", "base_model: o/n", PIN), base("o/n", 3), (broken(2, "warning"), broken(2, "warning"))),
    Case("explicit string tag", block("base_model: !!str 1234", PIN), base("1234", 2)),
    Case("explicit key", block("? base_model", ": o/n", PIN), base("o/n", 3)),
    Case("evaluation results", block("model-index:", "- name: x", "  results: []", "base_model: o/n", PIN), base("o/n", 5)),
    Case("large body", block("base_model: o/n", PIN, body="word " * 500_000), base("o/n", 2)),
    Case("document end", block("base_model: o/n", PIN, "license: mit", "..."), base("o/n", 2)),
]  # fmt: skip

NO_BASE = [
    Case("no card", None, (), (no_base(None),), says="there is no README.md"),
    Case("empty file", "", (), (no_base(None),), says="empty"),
    Case("white space", b" \r\n\t\n", (), (no_base(None),), says="empty"),
    Case("no front matter", "# Title\n\ntext\n", (), (no_base(1),), says="no front matter"),
    Case("front matter too late", "# Title\n---\nbase_model: o/n\n---\n", (), (no_base(1),), says="no front matter"),
    Case("empty front matter", "---\n---\n# Title\n", (), (no_base(1),)),
    Case("blank front matter", "---\n\n---\n# Title\n", (), (no_base(1),)),
    Case("comment only", bare("# base_model: o/n"), (), (no_base(1),)),
    Case("other keys", "\n" + block("license: mit"), (), (no_base(2),)),
    Case("null", block("license: mit", "base_model:"), (), (no_base(3),), says="base_model is empty"),
    Case("tilde", block("base_model: ~"), (), (no_base(2),)),
    Case("empty string", block("base_model: '  '"), (), (no_base(2),)),
    Case("empty list", block("license: mit", "base_model: []"), (), (no_base(3),)),
    Case("list of nothing", block("base_model:", "-", "- ''"), (), (no_base(2), broken(3, "warning"), broken(4, "warning"))),
    Case("hyphen in the key", block("license: mit", "base-model: o/n"), (), (no_base(3),), says='"base-model"'),
    Case("capital key", block("Base_Model: o/n"), (), (no_base(2),), says='"Base_Model"'),
    Case("relation alone", block("base_model_relation: finetune"), (), (no_base(1),), "finetune", "finetune"),
    Case("nested key", block("model:", "  base_model: o/n"), (), (no_base(1),)),
]  # fmt: skip

RELATION = [
    Case("capital relation", block("base_model: o/n", PIN, "base_model_relation: Finetune"), base("o/n", 2), (("LIN203", "warning", 4),)),
    Case("made-up relation", block("base_model: o/n", PIN, "base_model_relation: remix"), base("o/n", 2), (("LIN203", "warning", 4),), says='"remix"'),
    Case("relation as list", block("base_model: o/n", PIN, "base_model_relation: [merge]"), base("o/n", 2), (("LIN203", "warning", 4),)),
    Case("relation as number", block("base_model: o/n", PIN, "base_model_relation: 3"), base("o/n", 2), (("LIN203", "warning", 4),)),
    Case("empty relation", block("base_model: o/n", PIN, "base_model_relation: ''"), base("o/n", 2)),
    Case("null relation", block("base_model: o/n", PIN, "base_model_relation:"), base("o/n", 2)),
    Case("unknown relation of two", block("base_model: [a/b@v1, c/d@v1]", "base_model_relation: frankenmerge"), (("a/b", "v1", 2), ("c/d", "v1", 2)), (("LIN203", "warning", 3),), effective="merge"),
    Case("moving branch", block("base_model: o/n@main"), base("o/n", 2, "main"), (unpinned(2),), says="a branch that moves"),
]  # fmt: skip

VALUES = [
    Case("number", block("base_model: 3"), (), (broken(2),), says="a number (3)"),
    Case("boolean", block("base_model: yes"), (), (broken(2),), says="a boolean"),
    Case("date", block("base_model: 2024-01-01"), (), (broken(2),), says="a date"),
    Case("mapping", block("base_model: {a: b}"), (), (broken(2),), says="a mapping"),
    Case("block mapping", block("base_model:", "  name: o/n"), (), (broken(3),)),
    Case("nested lists", block("base_model:", "- - o/n", "- a/b", PIN.replace(HASH, f"[x, {HASH}]")), base("a/b", 4), (broken(3),)),
    Case("mixed list", block("base_model:", "- a/b@v1", "- 3", "- {x: y}", "- null", "- c/d@v1"), (("a/b", "v1", 3), ("c/d", "v1", 7)), (broken(4), broken(5), broken(6, "warning")), effective="merge"),
    Case("listed twice", block("base_model:", "- a/b@v1", "- a/b@v1"), base("a/b", 3, "v1"), (broken(4, "warning"),), says="twice (first on line 3)"),
    Case("web address", block("base_model: https://huggingface.co/o/n", PIN), base("o/n", 2), (broken(2, "note"),), says="read as o/n"),
    Case("web address of a commit", block(f"base_model: https://hf.co/o/n/tree/{HASH}?x=1#y"), base("o/n", 2), (broken(2, "note"),)),
    Case("web address of a canonical model", block("base_model: https://huggingface.co/gpt2/tree/v1"), base("gpt2", 2, "v1"), (broken(2, "note"),)),
    Case("address without scheme", block("base_model: huggingface.co/o/n", PIN), base("o/n", 2), (broken(2, "note"),)),
    Case("address of a dataset", block("base_model: https://huggingface.co/datasets/o/n"), (), (broken(2),), says="not of a model"),
    Case("foreign address", block("base_model: https://example.org/o/n"), (), (broken(2),), says="outside the Hub"),
    Case("disguised host", block("base_model: https://huggingface.co@evil.example/o/n"), (), (broken(2),), says="outside the Hub"),
    Case("look-alike host", block("base_model: https://huggingface.co.evil.example/o/n"), (), (broken(2),)),
    Case("absolute path", block("base_model: /home/user/models/x"), (), (broken(2),), says="local path"),
    Case("relative path", block("base_model: ./out/checkpoint-500"), (), (broken(2),), says="local path"),
    Case("windows path", block("base_model: C:\\models\\x"), (), (broken(2),), says="local path"),
    Case("path traversal", block("base_model: ../../etc/passwd"), (), (broken(2),)),
    Case("path traversal inside", block("base_model: owner/..%2f..%2fetc"), (), (broken(2),)),
    Case("three parts", block("base_model: models/llama/7b"), (), (broken(2),), says="more parts"),
    Case("two ids in one", block("base_model: a/b, c/d"), (), (broken(2),), says="several"),
    Case("python none", block("base_model: None"), (), (broken(2, "warning"),), says="placeholder"),
    Case("template marker", block("base_model: '{{ base_model }}'"), (), (broken(2),), says="not a model id"),
    Case("more information needed", block("base_model: [More Information Needed]"), (), (broken(2, "warning"),)),
    Case("no revision after at", block("base_model: o/n@"), (), (broken(2),)),
    Case("bad revision after at", block("base_model: o/n@../x"), (), (broken(2),)),
    Case("very long id", block("base_model: " + "a" * 300_000), (), (broken(2),), says="too long"),
    Case("id of 97 characters", block("base_model: o/" + "a" * 97), (), (broken(2),)),
    Case("id of 96 characters", block("base_model: o/" + "a" * 96, PIN), base("o/" + "a" * 96, 2)),
    Case("unicode id", block("base_model: öwner/näme"), (), (broken(2),), says="öwner/näme"),
    Case("full-width id", block("base_model: ｏ/ｎ"), (), (broken(2),)),
    Case("double dash", block("base_model: o/a--b"), (), (broken(2),)),
    Case("git suffix", block("base_model: o/n.git"), (), (broken(2),)),
    Case("workflow command", block("base_model: '::error file=x::gotcha'"), (), (broken(2),), says=": :error"),
    Case("workflow command on its own line", block('base_model: "x\\n::error::gotcha"'), (), (broken(2),), says="x : :error: :gotcha"),
    Case("terminal escapes", block('base_model: "\\e[2J\\e]0;title\\aowner/name"'), (), (broken(2),), says='"owner/name" holds'),
    Case("right to left", block('base_model: "owner/\\u202Eeman"'), (), (broken(2),), says='"owner/eman" holds'),
    Case("token in an address", block("base_model: https://u:hf_abcdefghijklmnop@example.org/x"), (), (broken(2),), says="https://***@example.org/x"),
    Case("hundreds of bases", block("base_model:", *(f"- o/n{i}@v1" for i in range(300))), tuple((f"o/n{i}", "v1", 3 + i) for i in range(64)), (broken(3),), effective="merge", says="300 models"),
    Case("too few revisions", block("base_model: [a/b, c/d]", PIN), (("a/b", None, 2), ("c/d", None, 2)), (unpinned(2), unpinned(2), broken(3, "warning")), effective="merge"),
    Case("revision as mapping", block("base_model: a/b", "base_model_revision: {a/b: v1}"), base("a/b", 2, None), (unpinned(2), broken(3, "warning"))),
    Case("revision that is none", block("base_model: a/b", "base_model_revision: 'two words'"), base("a/b", 2, None), (unpinned(2), broken(3, "warning"))),
    Case("two different pins", block("base_model: a/b@v1", PIN), base("a/b", 2, "v1"), (broken(3, "warning"),), says="contradicts"),
    Case("licence as number", block("base_model: a/b", PIN, "license: 3"), base("a/b", 2), (broken(4, "warning"),)),
    Case("new version elsewhere", block("base_model: a/b", PIN, "new_version: ../x"), base("a/b", 2), (broken(4, "warning"),)),
]  # fmt: skip

LICENCE = [
    Case("no licence", bare("base_model: o/n", PIN), base("o/n", 2), (no_licence(1),), says="states no licence"),
    Case("no licence after blank lines", "\n\n" + bare("base_model: o/n", PIN), base("o/n", 4), (no_licence(3),)),
    Case("empty licence", block("base_model: o/n", PIN, "license:"), base("o/n", 2), (no_licence(4),), says="states no licence"),
    Case("list of empty licences", block("base_model: o/n", PIN, "license: ['', ' ']"), base("o/n", 2), (no_licence(4),)),
    Case("nothing of a model", bare("title: notes"), (), (no_base(1),)),
    Case("neither base nor licence", bare("library_name: peft"), (), (no_base(1), no_licence(1))),
    Case("unknown licence", block("license: mitt", "base_model: o/n", PIN), base("o/n", 3), (no_licence(2),), says='"mitt" is known neither'),
    Case("hundreds of licences", block("base_model: o/n", PIN, "license:", *["- x y"] * 300), base("o/n", 2), tuple(no_licence(i) for i in range(5, 21))),
]  # fmt: skip

_LAUGHS = [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]

SYNTAX = [
    Case("not closed", "---\nbase_model: o/n\n", (), (broken(1),), says="not closed"),
    Case("fence alone", "---", (), (broken(1),), says="not closed"),
    Case("fence with blanks", "\n--- \nbase_model: o/n\nlicense: mit\n" + PIN + "\n---\n", base("o/n", 3), (broken(2, "warning"),)),
    Case("list at the top", bare("- base_model", "- o/n"), (), (broken(2),), says="is a list"),
    Case("text at the top", bare("", "just words"), (), (broken(3),), says="is a string"),
    Case("number at the top", bare("42"), (), (broken(2),), says="is a number"),
    Case("colon in a value", block("license: mit", "base_model: a: b"), (), (broken(3),), says="mapping values"),
    Case("open quote", block("license: mit", "base_model: 'o/n"), (), (broken(3),)),
    Case("open quote before blank lines", bare("base_model: 'o/n", "", "", ""), (), (broken(2),)),
    Case("open bracket", block("base_model: [a/b", "license: mit"), (), (broken(3),)),
    Case("tab indentation", block("base_model:", "\t- a/b"), (), (broken(3),), says="a tab"),
    Case("wrong indentation", block("base_model:", "  - a/b", " - c/d"), (), (broken(4),)),
    Case("repeated key", block("base_model: a/b", "license: mit", "base_model: c/d", PIN), base("c/d", 4), (broken(4),), says="first on line 2"),
    Case("unfilled template", block("license: mit", "base_model: {{ base_model }}"), (), (broken(3), broken(3))),
    Case("merge key", block("x: &x {base_model: a/b}", "<<: *x"), (), (no_base(1), broken(3)), says="merge key"),
    Case("billion laughs", block("a: &a [x, x, x, x, x, x, x, x, x]", *_LAUGHS, "base_model: o/n"), (), (broken(6),), says="50,000 values"),
    Case("laughs as base", block("a: &a [x/y, x/y]", "base_model: &b [*a, *a, *a]"), (), (broken(3), broken(3), broken(3))),
    Case("self-containing list", block("x: 1", "base_model: &a [*a]"), (), (broken(3),), says="refers to itself"),
    Case("self-containing mapping", block("base_model: &a {x: *a}"), (), (broken(2),), says="refers to itself"),
    Case("undefined alias", block("x: 1", "base_model: *nowhere"), (), (broken(3),), says="not defined"),
    Case("deep flow lists", block("base_model: " + "[" * 100_000), (), (broken(2),), says="levels deep"),
    Case("deep flow mappings", block("base_model: " + "{a: " * 50_000), (), (broken(2),), says="levels deep"),
    Case("deep block lists", block("- " * 100_000), (), (broken(2),), says="levels deep"),
    Case("many values", block("x: [" + "1," * 60_000 + "]", "base_model: o/n"), (), (broken(2),), says="50,000 values"),
    Case("many repeated keys", block(*["base_model: a/b"] * 20_000, PIN), base("a/b", 20_001), tuple(broken(i) for i in range(3, 24)), says="not listed"),
    Case("huge front matter", block("x: " + "y" * 2_000_000, "base_model: o/n"), (), (broken(1),), says="exceeds 512 KiB"),
    Case("huge number", block("x: " + "9" * 400_000, "base_model: o/n", PIN), base("o/n", 3)),
    Case("huge base number", block("base_model: " + "9" * 400_000), (), (broken(2),), says="a number (999"),
    Case("python object", block("license: mit", "base_model: !!python/object/apply:os.system ['id']"), (), (broken(3),), says="YAML tag"),
    Case("python name", block("x: !!python/name:os.system", "base_model: o/n"), (), (broken(2),), says="!!python"),
    Case("local tag", block("base_model: !secret o/n"), (), (broken(2),), says="YAML tag !secret"),
    Case("binary tag", block("base_model: !!binary b3duZXIvbmFtZQ=="), (), (broken(2),)),
    Case("list tag on text", block("base_model: !!seq o/n"), (), (broken(2),), says="tagged as a list"),
    Case("two documents", "---\nbase_model: o/n\n--- x\n---\n", (), (broken(3),), says="more than one"),
    Case("directive", block("%YAML 1.1", "base_model: o/n"), (), (broken(3),)),
    Case("null byte", block("license: mit", "base_model: o/\0n"), (), (broken(3),), says="U+0000"),
    Case("raw escape", block("x: y", "base_model: o/\x1b[31mn"), (), (broken(3),), says="U+001B"),
    Case("lone surrogate", block("x: y", "base_model: o/\ud800"), (), (broken(3),), says="U+D800"),
    Case("latin-1 bytes", block("x: y", "base_model: öwner/name").encode("latin-1"), (), (broken(3),), says="not UTF-8"),
    Case("latin-1 body", block("base_model: o/n", PIN, body="Müller").encode("latin-1"), base("o/n", 2)),
    Case("utf-16", block("base_model: o/n").encode("utf-16"), (), (broken(1),), says="UTF-16"),
    Case("utf-16 without mark", block("base_model: o/n").encode("utf-16-be"), (), (broken(1),), says="UTF-8"),
    Case("binary file", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 40, (), (broken(1),), says="not UTF-8 text"),
    Case("lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", (), (broken(1),), says="LFS"),
    Case("two megabytes of line ends", "\n" * 2_000_000, (), (no_base(1),)),
    Case("two megabytes of fences", "---\n" + "x\n" * 1_000_000, (), (broken(1),), says="exceeds"),
]  # fmt: skip

CASES: tuple[Case, ...] = (*GOOD, *NO_BASE, *RELATION, *VALUES, *LICENCE, *SYNTAX)
