"""Links between pages lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("benchmarks/*.md")]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)|<img[^>]*src=\"([^\"]+)\"")


def broken(page, text):
    for match in LINK.finditer(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        target = (match[1] or match[2]).split("#")[0]
        if target and "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def unlisted(index, pages):
    """The pages that ``index`` has no link to."""
    targets = [m[1] or m[2] for m in LINK.finditer(index.read_text(encoding="utf-8"))]
    linked = {(index.parent / target.split("#")[0]).resolve() for target in targets if "://" not in target}
    return sorted(page.name for page in pages if page.resolve() not in linked | {index.resolve()})


@pytest.mark.parametrize("folder", [".", "results"])
def test_an_index_lists_every_page(folder):
    index = ROOT / "docs" / folder / "index.md"
    assert unlisted(index, sorted(index.parent.rglob("*.md"))) == []


def test_a_page_missing_from_an_index_is_found(tmp_path):
    (tmp_path / "index.md").write_text("[a](a.md#part)")
    assert unlisted(tmp_path / "index.md", [tmp_path / "a.md", tmp_path / "b.md"]) == ["b.md"]


def test_a_dead_link_is_found(tmp_path):
    text = 'see [a](gone.md#x), [b](https://example.org), ![c](gone.png) and <img src="lost.png">'
    assert list(broken(tmp_path / "page.md", text)) == ["gone.md", "gone.png", "lost.png"]
