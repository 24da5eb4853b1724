"""The benchmark itself: it keeps what it has, and its GPU rows run, small, without a GPU."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.generator.arrivals import Speeds
from bench.generator.gpu import GpuRun
from bench.generator.parties import Wanted
from bench.generator.report import Report
from bench.generator.side_by_side import RAW, SideBySide


def test_a_part_that_fails_or_has_no_time_leaves_the_others(tmp_path: Path) -> None:
    report = Report(tmp_path / "rows.json", {"device": "cpu"}, limit_seconds=60)
    report.add("C1", "good", 2.0, "images/s", "raw", 1.5)
    report.section("C2", lambda: 1 / 0)
    report.section("C3", lambda: report.add("C3", "never", 1.0, ""), needs_seconds=100)
    report.add("C4", "better", 3.0, "ms", tflop=4.0, seconds=2.0)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["id"] for row in rows] == ["C1", "C2", "C3", "C4"]
    assert rows[0]["ratio"] == 1.5
    assert rows[1]["what"].startswith("failed: ZeroDivisionError")
    assert rows[2]["what"].startswith("skipped")
    assert (rows[1]["value"], rows[3]["tflops"]) == (None, 2.0)
    assert "| C4 | better | 3.0 ms |" in (tmp_path / "rows.md").read_text()


def test_the_gpu_rows_run_on_a_tiny_model(tmp_path: Path) -> None:
    report = Report(None, {"device": "cpu"}, limit_seconds=600)
    only = {"G1", "G2", "G3", "G4", "G6", "G7", "G8", "G9", "G10", "G12", "G5", "G2f", "G3f"}
    GpuRun(report, tmp_path, "cpu", dry=True, only=only).run()
    assert not [row for row in report.rows if row.what.startswith(("failed", "skipped"))]
    assert only <= {row.id for row in report.rows} | {"G2f", "G3f"}  # these two are more rows of G2, and of G3
    assert all(math.isfinite(row.value) for row in report.rows)


class Sleeper:
    """A party that takes as long as it says; the first of its turns twice as long, as with a neighbour."""

    def __init__(self, name: str, seconds: float, asked: list[str]) -> None:
        self.name, self.seconds, self.asked = name, seconds, asked
        self.prompts: list[str] = []

    async def paint(self, wanted: Wanted) -> bytes:
        raise AssertionError

    async def closed_loop(self, clients: int, wanted: Sequence[Wanted]) -> list[float]:
        seconds = self.seconds * (1 if self.prompts else 2)
        self.asked.append(self.name)
        self.prompts += [one.prompt for one in wanted]
        await asyncio.sleep(seconds * len(wanted))
        return [seconds] * len(wanted)

    def cpu_seconds(self) -> float:
        return 0.0


async def test_turns_alternate_and_no_prompt_comes_twice() -> None:
    asked: list[str] = []
    report = Report(None, {"device": "cpu"}, limit_seconds=60)
    raw, ours = Sleeper(RAW, 0.01, asked), Sleeper("ours", 0.005, asked)
    await SideBySide(report, "C1", [raw, ours]).measure(1, 2)
    assert asked == [RAW, "ours", "ours", RAW]
    prompts = raw.prompts + ours.prompts
    assert len(set(prompts)) == len(prompts) == 16
    (row,) = (row for row in report.rows if row.what == "1 client: ours, images a second")
    assert "paired in 2 rounds" in row.reference
    assert row.ratio is not None


def test_what_a_queue_and_windows_of_batches_make_of_arrivals() -> None:
    speeds = Speeds(one=1.0, whole=4.0, batch=4)
    assert speeds.serial([0.0, 0.5, 9.0]) == pytest.approx([1.0, 1.5, 1.0])
    # One alone; three that came meanwhile, together; one alone again.
    assert speeds.windows([0.0, 0.5, 0.0, 0.0, 9.0]) == pytest.approx([1.0, 3.5, 3.5, 3.5, 1.0])
