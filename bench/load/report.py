"""The table of results, and its comparison with `bench/ghz/thresholds.toml`."""

import json
import os
import platform
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.load.configs import FOLDER
from bench.load.session import Row

COLUMNS = (
    "call",
    "phase",
    "rps (requested)",
    "p50 ms",
    "p99 ms",
    "non-OK %",
    "no-op p50",
    "no-op p99",
    "p50 ratio",
    "CPU ms/call (no-op)",
    "knee rps (share of no-op)",
    "verdict",
)


@dataclass(frozen=True)
class Limits:
    """The limits of a row. None: no limit."""

    max_non_ok_percent: float = 0.0
    min_rate_share: float | None = None
    max_p50_ratio: float | None = None
    max_cpu_ratio: float | None = None
    target_p50_ratio: float | None = None
    max_p99_ms: float | None = None
    min_knee_share: float | None = None
    p50_floor_ms: float = 0.0
    max_growth_mib: float | None = None

    def broken_by(self, row: Row) -> list[str]:
        """The limits that the row breaks, in words."""
        found = (self._failures(row), self._speed(row), self._cost(row), self._knee(row), self._memory(row))
        return [text for text in found if text]

    def missed_by(self, row: Row) -> str:
        """The target that the row misses, in words. It breaks no limit."""
        ratio = row.p50_ratio
        missed = ratio is not None and self.target_p50_ratio is not None and ratio > self.target_p50_ratio
        return f"p50 over the target of {self.target_p50_ratio:g}×" if missed else ""

    def _failures(self, row: Row) -> str:
        if not row.ours.count:
            return "no call succeeded"
        if row.ours.non_ok_percent > self.max_non_ok_percent:
            codes = {code: count for code, count in row.ours.codes.items() if code != "OK"}
            return f"{row.ours.non_ok_percent} % failed: {codes}"
        return ""

    def _speed(self, row: Row) -> str:
        if self.max_p99_ms is not None and row.ours.p99 > self.max_p99_ms:
            return f"p99 {row.ours.p99:.0f} ms > {self.max_p99_ms:.0f}"
        requested = row.ours.requested_rps
        if self.min_rate_share is not None and requested and row.ours.rps < requested * self.min_rate_share:
            return f"{row.ours.rps:.0f} of {requested:.0f} rps"
        ratio = row.p50_ratio
        slow = ratio is not None and self.max_p50_ratio is not None and ratio > self.max_p50_ratio
        return f"p50 {ratio}× > {self.max_p50_ratio}×" if slow and row.ours.p50 > self.p50_floor_ms else ""

    def _cost(self, row: Row) -> str:
        ratio = row.cpu_ratio
        costly = ratio is not None and self.max_cpu_ratio is not None and ratio > self.max_cpu_ratio
        return f"CPU {ratio}× > {self.max_cpu_ratio}×" if costly else ""

    def _knee(self, row: Row) -> str:
        share = row.knee_share
        low = share is not None and self.min_knee_share is not None and share < self.min_knee_share
        return f"knee {share:.0%} < {self.min_knee_share:.0%}" if low else ""

    def _memory(self, row: Row) -> str:
        if self.max_growth_mib is None or row.memory_mib is None:
            return ""
        growth = row.memory_mib[1] - row.memory_mib[0]
        return f"grew by {growth:.0f} MiB" if growth > self.max_growth_mib else ""


def limits(profile: str, call: str, path: Path = FOLDER / "thresholds.toml") -> Limits:
    """The limits of a call under a profile: those of the profile, over them those of the call."""
    content = tomllib.loads(path.read_text()).get(profile, {})
    return Limits(**{**content.get("default", {}), **content.get(call, {})})


def is_broken(profile: str, row: Row) -> bool:
    """Whether the row breaks a limit."""
    return bool(limits(profile, row.call).broken_by(row))


def verdict(profile: str, row: Row) -> str:
    """`ok`, or the limits that the row breaks. A missed target is reported and breaks nothing."""
    found = limits(profile, row.call)
    return "; ".join(found.broken_by(row)) or ", ".join(text for text in ("ok", found.missed_by(row)) if text)


def table(profile: str, rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = _markdown(COLUMNS, [_cells(profile, row) for row in rows])
    for row in rows:
        if row.steps:
            lines += ["", f"{row.call}, step by step:", ""]
            lines += _markdown(tuple(row.steps[0]), [[str(value) for value in step.values()] for step in row.steps])
        if profile == "soak" and row.memory_mib:
            lines += ["", f"{row.call}: memory {row.memory_mib[0]:.0f} → {row.memory_mib[1]:.0f} MiB"]
    for text in dict.fromkeys(filter(None, map(_floor, rows))):  # the phases of a spike share a knee
        lines += ["", text]
    return "\n".join(lines)


def _floor(row: Row) -> str:
    """How a call compares with a server that only writes its uploads to disk. Empty for a call that stores nothing."""
    if not (row.floor_knee and row.noop_knee and row.typical_knee):
        return ""
    of_noop, of_floor = row.floor_knee / row.noop_knee, row.typical_knee / row.floor_knee
    return (
        f"{row.call}: a server that only hashes, writes and fsyncs sustains {row.floor_knee:.0f} a second, "
        f"{of_noop:.0%} of the no-op; ours sustains {of_floor:.0%} of that."
    )


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in rows),
    ]


def _cells(profile: str, row: Row) -> list[str]:
    ours, noop = row.ours, row.noop
    requested = f" ({ours.requested_rps:.0f})" if ours.requested_rps else ""
    cpu = f"{row.cpu_ms:.2f} ({row.noop_cpu_ms:.2f})" if row.cpu_ms is not None and row.noop_cpu_ms is not None else ""
    knee = f"{row.typical_knee:.0f} ({row.knee_share:.0%})" if row.typical_knee and row.knee_share else ""
    return [
        row.call,
        row.phase,
        f"{ours.rps:.0f}{requested}",
        f"{ours.p50:.2f}",
        f"{ours.p99:.2f}",
        f"{ours.non_ok_percent:g}",
        f"{noop.p50:.2f}" if noop.count else "",
        f"{noop.p99:.2f}" if noop.count else "",
        f"{row.p50_ratio:.2f}" if row.p50_ratio else "",
        cpu,
        knee,
        verdict(profile, row),
    ]


def circumstances(ghz: str) -> str:
    """Date and machine, in a few lines. Absolute figures mean nothing without them."""
    return "\n".join(
        [
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_output('git', 'rev-parse', '--short', 'HEAD')}",
            f"- {os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}, load average at the end "
            + " ".join(f"{value:.1f}" for value in os.getloadavg()),
            f"- {_version(ghz)}; it runs on the same cores as the servers",
        ]
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(ghz: str) -> str:
    for line in _output("go", "version", "-m", ghz).splitlines():
        if line.split()[:1] == ["mod"]:
            return "ghz " + line.split()[2]
    return "ghz " + _output(ghz, "--version")


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return (done.stdout or done.stderr).strip() or "unknown"


def write(folder: Path, profile: str, rows: Sequence[Row], heading: str) -> Path:
    """The table and the numbers, without the single calls; the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M}-{profile}.md"
    path.write_text(f"# {profile}\n\n{heading}\n\n{table(profile, rows)}\n")
    content: list[dict[str, Any]] = [
        {
            **asdict(row),
            "p50_ratio": row.p50_ratio,
            "cpu_ratio": row.cpu_ratio,
            "knee_share": row.knee_share,
            "verdict": verdict(profile, row),
        }
        for row in rows
    ]
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return path
