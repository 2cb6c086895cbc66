"""Escaping for Markdown, checked with the parser that GitHub renders with."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.report.markup import code, fenced, html_code, row, text, verbatim
from lineage_plugin.text import one_line

EXTENSIONS = ["table", "autolink", "strikethrough", "tagfilter", "tasklist"]
VOID = {"br", "hr", "img", "input"}

REFERENCES = re.compile(
    r"(?<![a-z0-9_])@[a-z0-9]"  # a mention of a person or a team
    r"|#[0-9]"  # an issue, of this or another repository
    r"|\bgh-[0-9]"
    r"|(?<![a-z0-9])[0-9a-f]{7,40}(?![a-z0-9])"  # a commit
    r"|:[a-z0-9_+-]+:"  # emoji
    r"|\$|://|\bwww\.|\[\^",  # mathematics, addresses, footnotes
    re.IGNORECASE,
)
"""What GitHub makes something of in the text of a page, outside ``pre``, ``code`` and ``a``."""

NASTY = (
    "<script>alert(1)</script>",
    "<img src=https://evil.example/pixel.png>",
    "![x](https://evil.example/pixel.png)",
    "[click](https://evil.example)",
    "[click][1]",
    "[1]: https://evil.example",
    "<https://evil.example> https://evil.example www.evil.example ftp://evil.example",
    "me@evil.example mailto:me@evil.example xmpp:me@evil.example/x",
    "@octocat (@octocat) @org/team ,@octocat. a@b /@octocat",
    "fixes #123, owner/repo#1 GH-1 gh-26: CVE-2026-1234 jlord@a5c3785ed8d6a35868bc169f07e40e889087fd2e",
    "a5c3785ed8d6a35868bc169f07e40e889087fd2e a5c3785 1234567",
    "&lt;b&gt; &#64;octocat &amp; & &commat;octocat",
    "a | b || c \\| d \\\\| e |",
    "`code` ``two`` ``` ` `` a`b `a|b` x`y`z `",
    "`@octocat` `` `x` `` $`x`$ `",
    "\\`@octocat\\`",
    "$x$ $$y$$ a$b$c \\(x\\) \\\\(x\\\\) \\[x\\]",
    ":smile: :+1: a:b:c ::x:: :tada:",
    "# heading",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "1) item",
    "===",
    "---",
    ":-:",
    "| --- |",
    "~~~",
    "```",
    "/approve",
    "~~struck~~ ~one~ *em* **strong** _em_ __strong__ a_b_c",
    "[^1] [^1]: note",
    "- [ ] task",
    "[!NOTE]",
    "</details></summary></code></sub> <!-- comment",
    "<!-- -->@octocat",
    "--> <![CDATA[ x ]]> <?php ?> <!DOCTYPE html>",
    "javascript:alert(1) data:text/html,x",
    "trailing backslash \\",
    "hard  break  ",
    "\u202eevil\u202c \u200b@\u200boctocat \uff20octocat README.md",
    "{{ 7*7 }} {% x %}",
    "x\n\n# y\r\n| a |\n",
    "\x00\x1b[31m",
)


def rendered(markdown: str) -> str:
    """Return what GitHub's parser makes of it; raw HTML is kept, so that the most an attacker may get shows."""
    return cmarkgfm.markdown_to_html_with_extensions(markdown, options=Options.CMARK_OPT_UNSAFE, extensions=EXTENSIONS)


class Page(HTMLParser):
    """Elements, links and texts of a page."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: set[tuple[str, str, str | None]] = set()
        self.links: list[str] = []
        self.text = ""
        self.loose: list[str] = [""]
        self.rows: list[int] = []
        self.other: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {(tag, name, value) for name, value in attributes}
        self.links += [value or "" for name, value in attributes if name == "href"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1
        self.loose.append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag, tag
        self.loose.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if not {"code", "pre", "a"} & {*self.open}:
            self.loose[-1] += data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def references(self) -> list[str]:
        """Return what GitHub would look up, each text between two tags by itself."""
        return [found[0] for part in self.loose for found in REFERENCES.finditer(part)]


def assert_shows(markdown: str, value: str, *, exactly: bool = False) -> None:
    """A paragraph with nothing in it but the text, some of it as code."""
    page = Page(rendered(markdown))
    assert {*page.elements} <= {"p", "code"}, page.elements
    assert page.elements.count("p") <= 1
    assert not page.attributes
    assert not page.other
    assert page.references() == []
    said, meant = page.text.removesuffix("\n"), one_line(value, 2000)
    if not exactly:  # backticks around what is code are markup, as the author meant them
        said, meant = said.replace("`", ""), meant.replace("`", "")
    assert said == meant


def attacks() -> st.SearchStrategy[str]:
    pieces = st.sampled_from([*NASTY, *"`|\\<>&@#$:_*~[]()!-+=/. \n\"'1a", "``", "www.", "://", "x", "GH-", "&#64;"])
    return st.one_of(st.text(max_size=60), st.lists(pieces, max_size=12).map("".join))


@pytest.mark.parametrize("value", NASTY)
def test_text_shows_what_it_was_given_and_does_nothing(value: str) -> None:
    assert_shows(text(value), value)


@settings(max_examples=250, deadline=None)
@given(attacks())
@example("www.a`b` c")
@example("`a`b`")
def test_text_is_inert_whatever_it_is(value: str) -> None:
    assert_shows(text(value), value)


@settings(max_examples=150, deadline=None)
@given(attacks(), attacks())
def test_text_is_inert_below_a_paragraph_and_between_others(one: str, two: str) -> None:
    lines = [line for line in ("head", text(one), text(two)) if line]
    page = Page(rendered("\n".join(lines)))
    assert {*page.elements} <= {"p", "code"}
    assert page.elements.count("p") == 1
    assert page.references() == []


@settings(max_examples=250, deadline=None)
@given(attacks())
@example("`")
@example("a`` ` b")
def test_a_code_span_shows_exactly_the_name(value: str) -> None:
    name = one_line(value, 200) or "unnamed"
    written = code(value)
    assert rendered(written).count("<code>") == (name != "unnamed" or "`" in written)
    assert_shows(written, name, exactly=True)


@settings(max_examples=250, deadline=None)
@given(st.lists(attacks(), min_size=2, max_size=4))
@example(["\\|", "|"])
@example(["a\\\\|b", "`|`"])
def test_cells_stay_in_their_cells(values: list[str]) -> None:
    head = [row("x" for _ in values), row("---" for _ in values)]
    spans = row(code(value, cell=True) for value in values)
    sentences = row(text(value, cell=True) for value in values)
    page = Page(rendered("\n".join([*head, spans, sentences])))
    assert page.rows == [len(values)] * 3
    assert {*page.elements} <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert not page.attributes
    assert page.references() == []
    shown = "".join(one_line(value, 200) or "unnamed" for value in values)
    assert shown in page.text.replace("\n", "")


@settings(max_examples=150, deadline=None)
@given(attacks())
def test_a_name_in_a_summary_is_inert(value: str) -> None:
    source = f"<details><summary>Base {html_code(value)}</summary>\n\nbody\n\n</details>"
    page = Page(rendered(source))
    assert page.elements == ["details", "summary", "code", "p"]
    assert page.references() == []
    assert page.text.split("\n")[0] == f"Base {one_line(value, 200) or 'unnamed'}"


@settings(max_examples=150, deadline=None)
@given(st.lists(attacks(), min_size=1, max_size=4), st.sampled_from([0, 2]))
def test_nothing_ends_a_fenced_block(values: list[str], indent: int) -> None:
    lines = [verbatim(value) for value in values]
    before = ["- item", ""] if indent else []
    page = Page(rendered("\n".join([*before, *fenced(lines, "text", indent=indent)])))
    assert page.elements[-2:] == ["pre", "code"]
    assert {*page.elements} <= {"ul", "li", "p", "pre", "code"}
    shown = page.text.removeprefix("\nitem\n") if indent else page.text
    assert "\n".join(lines) in shown
    assert page.references() == []


@pytest.mark.parametrize(
    "said",
    [
        "E-value 10^459.8: independent models would ever reach it with a chance of at most 1 in 10^459.8.",
        "About 98.1% of the base is still present (95% interval 97.9% to 98.3%); 1,520 of 3,072, 0.05.",
        'The base "zoo/atlas-docs" is not pinned to a revision!',
        "layers 2-3 appear twice; 4-bit grid; 5 = 5 + 0",
    ],
)
def test_ordinary_sentences_stay_as_they_are(said: str) -> None:
    assert text(said) == said


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Add `base_model_revision: <commit hash>` below base_model.", None),
        ("ping (@octocat), #12.", "ping (`@octocat`), `#12`."),
        ("1. item", "1\\. item"),
        ("/approve", "\\/approve"),
        ("see README.md:7", "see `README.md:7`"),
    ],
)
def test_only_what_could_mean_something_becomes_code(said: str, written: str | None) -> None:
    if written is None:
        written = said.replace("base_model.", "`base_model`.")
    assert text(said) == written


def test_a_line_keeps_the_spaces_it_begins_with() -> None:
    assert verbatim("  - a  b\x1b[31m") == "  - a b"


def test_the_expression_knows_what_github_links() -> None:
    """The check above is worth nothing if it sees nothing."""
    for value in ("@octocat", "a/b#1", "#1", "GH-1", "a5c3785", ":smile:", "$x$", "https://x"):
        assert Page(rendered(value)).references() or Page(rendered(value)).links
