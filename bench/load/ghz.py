"""Running ghz and reading its report."""

import asyncio
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.load.configs import Phase

MISSING = "ghz is not on PATH: go install github.com/bojand/ghz/cmd/ghz@v0.121.0"


class GhzError(RuntimeError):
    """ghz is not there, or refuses its config."""


@dataclass(frozen=True)
class Measurement:
    """What one run of ghz saw. Latencies of answered calls, in milliseconds."""

    count: int
    seconds: float
    rps: float
    wanted_rps: float
    p50: float
    p95: float
    p99: float
    non_ok_percent: float
    codes: dict[str, int]

    def stored(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def find() -> str:
    """The path of ghz. Raises GhzError."""
    path = shutil.which("ghz")
    if path is None:
        raise GhzError(MISSING)
    return path


async def run(phase: Phase, host: str, protoset: Path, scratch: Path) -> tuple[Measurement, list[dict[str, Any]]]:
    """One run against `host`; what it saw, and its single calls (at most a million). Raises GhzError."""
    safe = re.sub(r"\W+", "-", f"{phase.config['name']} {host}")
    config, report = scratch / f"{safe}.config.json", scratch / f"{safe}.report.json"
    # No message size limit is set: ghz then has none; one alone would bring back gRPC's default for the other.
    whole = {**phase.config, "host": host, "insecure": True, "format": "json", "output": str(report)}
    config.write_text(json.dumps({**whole, "protoset": str(protoset)}))
    process = await asyncio.create_subprocess_exec(
        find(), "--config", str(config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise GhzError(f"{phase.config['name']}: {output.decode(errors='replace').strip()[:2000]}")
    content = json.loads(report.read_text())
    report.unlink()  # with a row for every call it can have 100 MB
    return read(content, float(phase.config.get("rps", 0)), int(phase.config.get("skipFirst", 0)))


def read(report: dict[str, Any], wanted_rps: float, skipped: int) -> tuple[Measurement, list[dict[str, Any]]]:
    """A report as a measurement. ghz's own average and rps count failures as calls, so rates are made anew."""
    codes = {str(code): int(count) for code, count in (report.get("statusCodeDistribution") or {}).items()}
    total = sum(codes.values())
    ok = codes.get("OK", 0)
    seconds = report["total"] / 1e9
    percentiles = {entry["percentage"]: entry["latency"] / 1e6 for entry in report.get("latencyDistribution") or []}
    measurement = Measurement(
        count=total,
        seconds=round(seconds, 3),
        rps=round((ok + skipped) / seconds, 1) if seconds else 0.0,
        wanted_rps=wanted_rps,
        p50=round(percentiles.get(50, 0.0), 3),
        p95=round(percentiles.get(95, 0.0), 3),
        p99=round(percentiles.get(99, 0.0), 3),
        non_ok_percent=round(100 * (total - ok) / total, 3) if total else 100.0,
        codes=codes,
    )
    return measurement, list(report.get("details") or [])
