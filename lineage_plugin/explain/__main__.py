"""Write the pages of all finding codes: ``python -m lineage_plugin.explain docs``."""

from __future__ import annotations

import sys
from pathlib import Path

from lineage_plugin.explain.markdown import index, markdown
from lineage_plugin.explain.pages import pages

__all__ = ["files", "main"]


def files() -> dict[str, str]:
    """Return the content of the generated files by their path below ``docs``."""
    found = pages()
    return {"findings.md": index(found), **{f"rules/{page.code}.md": markdown(page) for page in found}}


def main(arguments: list[str]) -> int:
    """Write the index and the pages into a folder; pages of codes that are no more are removed."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m lineage_plugin.explain FOLDER\n")
        return 2
    folder, written = Path(arguments[0]), files()
    (folder / "rules").mkdir(exist_ok=True)
    for path in (folder / "rules").glob("LIN*.md"):
        if f"rules/{path.name}" not in written:
            path.unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
