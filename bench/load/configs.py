"""The ghz configs of `bench/ghz`: a call's file, over it the profile's, over it the file of both."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "ghz"

KNEE = "knee"
"""The profile that measures the highest rate of calls that a server sustains. Other rates are a share of it."""

_ORDER = ("Check", "GetPost", "ListPosts", "GetTask", "ListTasks", "WatchTask", "CreateTask", "GetImage", "StoreImage")

_SERVICES = {
    "frontispiece.posts": "posts",
    "frontispiece.storage": "storage",
    "frontispiece.generator": "generator",
    "grpc.health": "posts",
}


@dataclass(frozen=True)
class Phase:
    """One run of ghz: `config` has every key but host, protoset and output."""

    call: str
    name: str
    config: dict[str, Any]

    @property
    def rpc(self) -> str:
        """The full name, "package.Service/Method"."""
        return str(self.config["call"])


def calls() -> list[str]:
    """The names of the calls, in a fixed order, cheap reads first."""
    names = {path.stem for path in (FOLDER / "calls").glob("*.json") if "." not in path.stem}
    order = ["Check", "GetPost", "ListPosts", "GetTask", "ListTasks", "WatchTask", "CreateTask", "GetImage"]
    return sorted(
        names, key=lambda name: (order.index(name) if name in order else len(order), name == "Generate", name)
    )


def profiles() -> list[str]:
    """The names of the profiles that can be asked for."""
    return sorted(path.stem for path in (FOLDER / "profiles").glob("*.json") if path.stem != KNEE)


def service(call: str) -> str:
    """The process that serves a call: posts, storage or generator."""
    rpc = str(_read(FOLDER / "calls" / f"{call}.json")["call"])
    return next(name for package, name in _SERVICES.items() if rpc.startswith(package))


def phases(call: str, profile: str, values: Mapping[str, Any], knee: float | None = None) -> list[Phase]:
    """The runs of ghz for a call under a profile.

    `values` replaces "${name}" in the data; "70%" becomes that share of `knee`, in calls a second. Raises KeyError for
    a value that is not given and ValueError for a share without a knee.
    """
    base = _read(FOLDER / "calls" / f"{call}.json")
    own = FOLDER / "calls" / f"{call}.{profile}.json"
    override = _read(own) if own.exists() else {}
    stages = _read(FOLDER / "profiles" / f"{profile}.json")
    found = []
    for stage in stages if isinstance(stages, list) else [stages]:
        merged = {**stage, **base, **override, "name": f"{base['name']} {stage.get('name', profile)}"}
        config = {key: _resolve(value, values, knee) for key, value in merged.items()}
        found.append(Phase(call, str(stage.get("name", profile)), config))
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _resolve(value: Any, values: Mapping[str, Any], knee: float | None) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(entry, values, knee) for key, entry in value.items()}
    if isinstance(value, list):
        resolved = [_resolve(entry, values, knee) for entry in value]
        return resolved[0] if len(resolved) == 1 and isinstance(resolved[0], list) else resolved
    if not isinstance(value, str):
        return value
    if name := re.fullmatch(r"\$\{(\w+)\}", value):
        return values[name[1]]
    if share := re.fullmatch(r"(\d+)%", value):
        if knee is None:
            raise ValueError(f"{value} of what? the knee was not measured")
        return max(1, round(knee * int(share[1]) / 100))
    return value
