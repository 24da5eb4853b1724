"""Rows of measurements, written after each one, so that a run that is cut short keeps what it has."""

import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measurement. `ratio` is value to reference, turned so that more is better; TFLOP/s and the share of the
    measured ceiling where arithmetic is the point."""

    id: str
    what: str
    value: float
    unit: str
    reference: str = ""
    ratio: float | None = None
    tflops: float | None = None
    ceiling_share: float | None = None


@dataclass
class Report:
    """All rows of a run, and the time it may take."""

    file: Path | None
    machine: dict[str, Any]
    limit_seconds: float
    rows: list[Row] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)
    ceiling_tflops: float | None = None

    @property
    def left_seconds(self) -> float:
        """Seconds until the limit."""
        return self.limit_seconds - (time.monotonic() - self.begin)

    def add(
        self,
        id: str,
        what: str,
        value: float,
        unit: str,
        reference: str = "",
        ratio: float | None = None,
        tflop: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Print a row and write the file again; `tflop` done in `seconds` become TFLOP/s."""
        tflops = tflop / seconds if tflop and seconds else None
        share = tflops / self.ceiling_tflops if tflops and self.ceiling_tflops else None
        row = Row(id, what, _round(value), unit, reference, _round(ratio), _round(tflops), _round(share))
        self.rows.append(row)
        extra = f"  {row.tflops} TFLOP/s" if row.tflops else ""
        extra += f" = {100 * row.ceiling_share:.0f} % of the ceiling" if row.ceiling_share else ""
        compared = (
            f"  ×{row.ratio} of {reference}" if row.ratio is not None else (f"  ({reference})" if reference else "")
        )
        print(f"{id:<5} {what:<74} {row.value:>10} {unit}{compared}{extra}", flush=True)
        self.write()

    def section(self, name: str, measure: Callable[[], None], needs_seconds: float = 0.0) -> None:
        """Run a part of the benchmark; a part that fails or has no time left is noted, and the next one runs."""
        if self.left_seconds < needs_seconds:
            self.add(name, f"skipped: {self.left_seconds:.0f} s left, needs {needs_seconds:.0f} s", math.nan, "")
            return
        begin = time.monotonic()
        try:
            measure()
        except Exception as error:
            self.add(name, f"failed: {type(error).__name__}: {str(error)[:160]}", math.nan, "")
        print(f"      {name} took {time.monotonic() - begin:.1f} s", flush=True)

    def write(self) -> None:
        """Write the JSON file."""
        if self.file is not None:
            rows = [{key: _json(value) for key, value in asdict(row).items()} for row in self.rows]
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps({"machine": self.machine, "rows": rows}, indent=1) + "\n")
            self.file.with_suffix(".md").write_text(self.as_markdown())

    def as_markdown(self) -> str:
        """The rows as a table for people."""
        lines = [f"# Generator, {self.machine['device']}", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += [
            "",
            "| row | what | value | compared with | ratio | TFLOP/s | of the ceiling |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            value = f"{row.value} {row.unit}" if math.isfinite(row.value) else ""
            cells = [row.id, row.what, value, row.reference, row.ratio, row.tflops, row.ceiling_share]
            lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def describe_machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    import diffusers
    import torch
    import transformers

    machine: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "triton": _version("triton"),
    }
    if device == "cuda":
        query = "name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total"
        machine["gpu"] = nvidia_smi(query)
        machine["cuda"] = torch.version.cuda
    return machine


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def nvidia_smi(query: str) -> str:
    """What nvidia-smi answers; "" where there is none."""
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def timed(work: Callable[[], Any], synchronize: Callable[[], None] = lambda: None) -> float:
    """Seconds that `work` takes."""
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - begin


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _round(value: float | None) -> Any:
    if value is None or not math.isfinite(value):
        return value
    return float(f"{value:.4g}")


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
