"""Runs ghz and reads its report."""

import asyncio
import io
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import proto

from bench.load.configs import FOLDER, Phase
from bench.load.contracts import requests

MISSING = "ghz is not on PATH: go install github.com/bojand/ghz/cmd/ghz@v0.121.0"


PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
"""The placeholder that bench/ghz/uploads replaces by the UUID of a call."""


_CUT = "code = Canceled desc = grpc: the client connection is closing"
"""The status that ghz gives to calls that it cuts off at the end of an open loop. The server did not send it."""


class GhzError(RuntimeError):
    """ghz is not installed, or rejects its config."""


@dataclass(frozen=True)
class Measurement:
    """The result of one run of ghz. Latencies are those of successful calls, in milliseconds."""

    count: int
    seconds: float
    rps: float
    requested_rps: float
    p50: float
    p95: float
    p99: float
    non_ok_percent: float
    codes: dict[str, int]
    cut_off: int = 0


@dataclass(frozen=True)
class Ghz:
    """The programs: ghz, and our variant of it for uploads (None without Go to build it)."""

    program: str
    uploads: str | None

    @classmethod
    def find(cls) -> "Ghz":
        """Find ghz and the variant, and build the variant if it is missing. Raises GhzError."""
        path = shutil.which("ghz")
        if path is None:
            raise GhzError(MISSING)
        return cls(path, _build_uploads())

    def command(self, config: dict[str, Any], scratch: Path, name: str) -> tuple[str, dict[str, Any]]:
        """The program for a config, and the config in the form that the program expects."""
        if self.uploads is None or not isinstance(config["data"], list):
            return self.program, config
        file = scratch / f"{name}.bin"
        messages = io.BytesIO()
        for message in requests(config["call"], config["data"], new_uuid=PLACEHOLDER):
            proto.serialize_length_prefixed(message, messages)
        file.write_bytes(messages.getvalue())
        without = {key: value for key, value in config.items() if key != "data"}
        return self.uploads, {**without, "binary-file": str(file)}

    async def run(self, phase: Phase, host: str, protoset: Path, scratch: Path) -> tuple[Measurement, list[Any]]:
        """One run against `host`: its measurement, and its single calls (at most a million). Raises GhzError."""
        name = re.sub(r"\W+", "-", f"{phase.config['name']} {host}")
        file, report = scratch / f"{name}.config.json", scratch / f"{name}.report.json"
        program, config = self.command(phase.config, scratch, name)
        # No message size limit is set: ghz then has none. With one of the two set, gRPC's default applies to the other.
        config = {**config, "host": host, "insecure": True, "format": "json", "output": str(report)}
        file.write_text(json.dumps({**config, "protoset": str(protoset)}))
        process = await asyncio.create_subprocess_exec(
            program, "--config", str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise GhzError(f"{phase.config['name']}: {output.decode(errors='replace').strip()[:2000]}")
        content = json.loads(report.read_text())
        report.unlink()  # it has a row for every call and can reach 100 MB
        return read(content, float(phase.config.get("rps", 0)), int(phase.config.get("skipFirst", 0)))


def _build_uploads() -> str | None:
    if ready := shutil.which("ghz-uploads"):
        return ready
    go = shutil.which("go")
    if go is None:
        return None
    root = Path(__file__).parent.parent.parent
    binary = root / "build" / "ghz-uploads"
    done = subprocess.run(
        [go, "build", "-o", str(binary), "."], cwd=FOLDER / "uploads", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise GhzError(f"bench/ghz/uploads does not build: {done.stderr.strip()}")
    return str(binary)


def read(report: dict[str, Any], requested_rps: float, skipped: int) -> tuple[Measurement, list[dict[str, Any]]]:
    """A report as a measurement. ghz counts failures in its average and its rps, so the rates are computed here."""
    codes = {str(code): int(count) for code, count in (report.get("statusCodeDistribution") or {}).items()}
    cut = sum(int(count) for text, count in (report.get("errorDistribution") or {}).items() if _CUT in text)
    if cut:
        codes["Canceled"] -= cut
    total = sum(codes.values())
    ok = codes.get("OK", 0)
    seconds = report["total"] / 1e9
    percentiles = {entry["percentage"]: entry["latency"] / 1e6 for entry in report.get("latencyDistribution") or []}
    measurement = Measurement(
        count=total,
        seconds=round(seconds, 3),
        rps=round((ok + skipped) / seconds, 1) if seconds else 0.0,
        requested_rps=requested_rps,
        p50=round(percentiles.get(50, 0.0), 3),
        p95=round(percentiles.get(95, 0.0), 3),
        p99=round(percentiles.get(99, 0.0), 3),
        non_ok_percent=round(100 * (total - ok) / total, 3) if total else 100.0,
        codes={code: count for code, count in codes.items() if count},
        cut_off=cut,
    )
    return measurement, list(report.get("details") or [])
