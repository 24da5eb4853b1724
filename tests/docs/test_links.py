"""The documents refer to files that exist."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
SKIPPED = {".git", ".venv", "build", "node_modules", "var"}


def _documents() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(folder, name) for name in files if name.endswith(".md"))


def test_every_relative_link_resolves() -> None:
    broken = []
    for document in _documents():
        text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path) and not (document.parent / path).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_path_in_the_glossary_exists() -> None:
    paths = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", (ROOT / "docs" / "glossary.md").read_text())
    assert len(paths) > 30
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_decision_has_one_format_and_a_line_in_the_table() -> None:
    table = (DECISIONS / "README.md").read_text()
    for decision in sorted(DECISIONS.glob("0*.md")):
        text = decision.read_text()
        header = re.match(
            r"# (\d{4}): (.+)\n\nStatus: (accepted|superseded by \d{4})\. Date: (\d{4}-\d\d-\d\d)\.\n", text
        )
        assert header, f"{decision.name} does not begin with number, title, status and date"
        number, title, status, date = header.groups()
        assert decision.name.startswith(f"{number}-")
        assert f"| [{number}]({decision.name}) | {title} | {status} | {date} |" in table
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], decision.name
