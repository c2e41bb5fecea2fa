"""The glossary's page: the report's own terms are written into it, so that the two cannot contradict each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from python_page import definitions

__all__ = ["PAGE", "defined", "filled", "report_terms", "rows"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "glossary.md"
BLOCK = re.compile(r"(<!-- report: written by scripts/docs -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """``text`` with the report's terms as its source has them now."""
    lines = [
        "| term | meaning |",
        "|---|---|",
        *(f"| {term} | {meaning} |" for term, meaning in report_terms().items()),
    ]
    return BLOCK.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text)


def report_terms() -> dict[str, str]:
    """Term -> its sentences in the report, read without importing the report."""
    node = definitions()["TERMS"].node
    assert isinstance(node, ast.Assign)
    return dict(ast.literal_eval(node.value))


def defined(text: str) -> list[str]:
    """Every term that the page defines itself, in its order: those of the four-column table."""
    return [row[0] for row in rows(BLOCK.sub("", text), "Words of the rest") if len(row) == 4]


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below ``heading``, row by row, without the head."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:2] == "| "
    ]
    return cells[1:]
