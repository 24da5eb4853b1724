"""One load test of one call: its knee, then each phase of the profile, always ours and the no-op in turn."""

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

from bench.load import configs
from bench.load.configs import Phase
from bench.load.contracts import method
from bench.load.ghz import Ghz, Measurement
from bench.load.stack import Targets

KNEE_ROUNDS = 3

ROUNDS = ("light", "latency")
"""The profiles that are measured several times."""

NOT_MEASURED = Measurement(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, {})


@dataclass
class Row:
    """The result of one call in one phase."""

    call: str
    phase: str
    ours: Measurement
    noop: Measurement
    knee: float | None = None
    noop_knee: float | None = None
    floor_knee: float | None = None
    typical_knee: float | None = None
    cpu_ms: float | None = None
    noop_cpu_ms: float | None = None
    memory_mib: tuple[float, float] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def p50_ratio(self) -> float | None:
        """Our median latency over the no-op's."""
        return round(self.ours.p50 / self.noop.p50, 2) if self.noop.p50 and self.ours.p50 else None

    @property
    def cpu_ratio(self) -> float | None:
        """Our processor time for a call over the no-op's."""
        return round(self.cpu_ms / self.noop_cpu_ms, 2) if self.cpu_ms and self.noop_cpu_ms else None

    @property
    def knee_share(self) -> float | None:
        """Our highest rate of calls, as a share of the no-op's."""
        return round(self.typical_knee / self.noop_knee, 3) if self.typical_knee and self.noop_knee else None


@dataclass(frozen=True)
class Knees:
    """Most calls a second: the lowest of ours and their median, and the medians of the no-op and the floor."""

    ours: float | None = None
    typical: float | None = None
    noop: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Session:
    """What all measurements of a run share."""

    ghz: Ghz
    ours: Targets
    noop: Targets
    floor: Targets
    values: Mapping[str, Any]
    protoset: Path
    scratch: Path
    rounds: int
    report: Callable[[str], None]

    async def measure(self, call: str, profile: str, knees: Knees) -> list[Row]:
        """Every phase of a profile for a call. Raises GhzError."""
        rows = []
        for phase in configs.phases(call, profile, self.values, knees.ours):
            row = await self._compare(phase, self.rounds if profile in ROUNDS else 1)
            row.knee, row.typical_knee = knees.ours, knees.typical
            row.noop_knee, row.floor_knee = knees.noop, knees.floor
            self.report(f"{call} {phase.name}: p50 {row.ours.p50} ms, no-op {row.noop.p50 or None} ms")
            rows.append(row)
        return rows

    async def knees(self, call: str, profile: str) -> Knees:
        """The knees of a call, where the profile is given in shares of them. Raises GhzError."""
        if not self._needs_knee(call, profile):
            return Knees()
        (phase,) = configs.phases(call, configs.KNEE, self.values)
        targets = [self.ours, self.noop]
        if method(phase.rpc).client_streaming:  # its response means that the bytes are on disk
            targets.append(self.floor)
        rounds = [[(await self._run(phase, target)).rps for target in targets] for _ in range(KNEE_ROUNDS)]
        ours, noop, *floor = [statistics.median(found) for found in zip(*rounds, strict=True)]
        # Calls are sent at a share of the lowest: 70 % of a knee that was measured while the neighbours slept is past
        # it when they wake.
        lowest = min(found[0] for found in rounds)
        self.report(f"{call}: knee at {ours:.0f}/s (lowest {lowest:.0f}), the no-op's at {noop:.0f}/s")
        return Knees(lowest, ours, noop, floor[0] if floor else None)

    def _needs_knee(self, call: str, profile: str) -> bool:
        try:
            configs.phases(call, profile, self.values)
        except ValueError:
            return True
        return False

    async def _compare(self, phase: Phase, rounds: int) -> Row:
        service = configs.service(phase.call)
        ours: list[Measurement] = []
        noop: list[Measurement] = []
        cpu: list[float] = []
        noop_cpu: list[float] = []
        steps: list[dict[str, Any]] = []
        before = self.ours.resident_mib(service)
        for _ in range(rounds):
            pairs = [(self.ours, ours, cpu)]
            if phase.name != "soak":  # it looks for growth and rare failures, which a no-op does not have
                pairs.append((self.noop, noop, noop_cpu))
            for targets, found, costs in pairs:
                begin = targets.cpu_seconds(service)
                measured, details = await self._details(phase, targets)
                end = targets.cpu_seconds(service)
                found.append(measured)
                if begin is not None and end is not None and measured.count:
                    costs.append((end - begin) * 1e3 / measured.count)
                if targets is self.ours and phase.config.get("load-schedule") == "step":
                    steps = by_step(phase, details)
        after = self.ours.resident_mib(service)
        return Row(
            phase.call,
            phase.name,
            median(ours),
            median(noop) if noop else NOT_MEASURED,
            cpu_ms=round(statistics.median(cpu), 3) if cpu else None,
            noop_cpu_ms=round(statistics.median(noop_cpu), 3) if noop_cpu else None,
            memory_mib=(before, after) if before is not None and after is not None else None,
            steps=steps,
        )

    async def _run(self, phase: Phase, targets: Targets) -> Measurement:
        return (await self._details(phase, targets))[0]

    async def _details(self, phase: Phase, targets: Targets) -> tuple[Measurement, list[dict[str, Any]]]:
        host = targets.hosts[configs.service(phase.call)]
        return await self.ghz.run(phase, host, self.protoset, self.scratch)


def median(found: list[Measurement]) -> Measurement:
    """The rounds of one phase as one: the round whose median latency is in the middle; failures of all rounds."""
    middle = sorted(found, key=lambda measured: measured.p50)[len(found) // 2]
    codes: dict[str, int] = {}
    for measured in found:
        for code, count in measured.codes.items():
            codes[code] = codes.get(code, 0) + count
    total = sum(codes.values())
    failed = total - codes.get("OK", 0)
    return Measurement(
        count=total,
        seconds=round(sum(measured.seconds for measured in found), 3),
        rps=middle.rps,
        requested_rps=middle.requested_rps,
        p50=middle.p50,
        p95=middle.p95,
        p99=statistics.median(measured.p99 for measured in found),
        non_ok_percent=round(100 * failed / total, 3) if total else 100.0,
        codes=codes,
    )


def by_step(phase: Phase, details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of a step schedule, step by step. The knee is the step where latency begins to rise."""
    seconds = float(str(phase.config["load-step-duration"]).removesuffix("s"))
    ended = [(_seconds(call["timestamp"]), call) for call in details]
    if not ended:
        return []
    start = min(at for at, _ in ended)
    steps: dict[int, list[dict[str, Any]]] = {}
    for at, call in ended:
        steps.setdefault(int((at - start) / seconds), []).append(call)
    found = []
    for number, step in sorted(steps.items()):
        latencies = sorted(call["latency"] / 1e6 for call in step if call["status"] == "OK")
        requested = phase.config["load-start"] + number * phase.config["load-step"]
        if (
            len(latencies) < 2 or requested > phase.config["load-end"]
        ):  # responses that arrived after the end of the last step
            continue
        found.append(
            {
                "requested_rps": requested,
                "rps": round(len(latencies) / seconds, 1),
                "p50": round(statistics.median(latencies), 2),
                "p99": round(latencies[int(len(latencies) * 0.99)], 2),
                "non_ok": len(step) - len(latencies),
            }
        )
    return found


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


async def build_protoset(path: Path) -> None:
    """Our contracts as `buf build` sees them, and the health service, for ghz. Raises CalledProcessError."""
    # Not Path(sys.executable).resolve(): beside the link, in the virtual environment.
    buf = Path(sys.executable).parent / "buf"
    protos = Path(__file__).parent.parent.parent / "protos"
    await asyncio.to_thread(
        subprocess.run, [str(buf), "build", "--as-file-descriptor-set", "-o", str(path)], cwd=protos, check=True
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    files.file.add().ParseFromString(health_pb2.DESCRIPTOR.serialized_pb)
    path.write_bytes(files.SerializeToString())
