"""Who calls what across services, where import contracts cannot tell."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def callers(method: str) -> set[str]:
    """The folders and modules of posts and the gateway that call a method of that name, relative to the root."""
    found = set()
    for package in ("services/posts", "gateway"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                    found.add(str(path.relative_to(ROOT)))
    return found


def test_only_the_worker_calls_generate() -> None:
    assert callers("Generate") == {"services/posts/clients/generator.py"}
    assert {str(Path(path).parent) for path in callers("generate")} == {"services/posts/worker"}
