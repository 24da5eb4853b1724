"""The list of codes: every reason that a service or the gateway can give is in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc

from gateway.codes import CODES

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
NEVER_SENT = {
    "MIGRATION_CHANGED": "the migration stops",
    "READER_TOO_SLOW": "the response has begun, and is broken off",
    "SCHEMA_OUTDATED": "posts does not start",
    "SETTING_INVALID": "a process does not start",
}


def trees() -> list[ast.Module]:
    files = [path for folder in ("services", "rpc", "gateway") for path in (ROOT / folder).rglob("*.py")]
    return [ast.parse(path.read_text()) for path in files]


def positions(modules: list[ast.Module]) -> dict[str, int]:
    """For each function and class with a parameter `reason` or `code`, its position."""
    found = {}
    for node in (one for tree in modules for one in ast.walk(tree)):
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in node.args.args]
        elif isinstance(node, ast.ClassDef):
            names = [
                one.target.id
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            ]
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                    names = [argument.arg for argument in one.args.args[1:]]
        else:
            continue
        for name in {"reason", "code"}.intersection(names):
            found[node.name] = names.index(name)
    return found


def reasons() -> Iterator[str]:
    """Every reason and code in the source, and the names of the gRPC codes, which stand for a missing reason."""
    yield from {one.name for one in grpc.StatusCode} - {"OK"}
    modules = trees()
    known = positions(modules)
    for node in (one for tree in modules for one in ast.walk(tree)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        given = [one.value for one in node.keywords if one.arg in {"reason", "code"}]
        if name in known:
            given += node.args[known[name] :][:1]
        for argument in given:
            if not isinstance(argument, ast.JoinedStr):  # made from a noun or a code, see below
                texts = (one.value for one in ast.walk(argument) if isinstance(one, ast.Constant))
                yield from (text for text in texts if isinstance(text, str) and NAME.fullmatch(text))


def test_every_code_is_listed_in_words() -> None:
    found = set(reasons())
    assert {"SLUG_TAKEN", "DATABASE_TIMEOUT", "GENERATOR_STALLED", "BODY_TOO_LARGE"} <= found
    assert sorted(found - CODES.keys() - NEVER_SENT.keys()) == []
    assert NEVER_SENT.keys() <= found
    assert all(text.endswith(".") for text in CODES.values())


def test_codes_that_are_made_from_a_noun_are_listed() -> None:
    made = {f"{noun}_NOT_FOUND" for noun in ("AUTHOR", "CATEGORY", "IMAGE", "POST", "TASK")}
    made |= {f"TASK_{state}" for state in ("CANCELLED", "REJECTED")}
    made |= {
        f"{service}_{code}" for service in ("GENERATOR", "STORAGE") for code in ("UNAVAILABLE", "INTERNAL", "UNKNOWN")
    }
    assert made <= CODES.keys()
