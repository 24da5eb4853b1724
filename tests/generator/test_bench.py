"""The benchmark itself: it keeps what it has, and its GPU rows run, small, without a GPU."""

import json
import math
from pathlib import Path

from bench.generator.gpu import GpuRun
from bench.generator.report import Report


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
    only = {"G1", "G2", "G3", "G4", "G6", "G7", "G8", "G9", "G10", "G12", "G5"}
    GpuRun(report, tmp_path, "cpu", dry=True, only=only).run()
    assert not [row for row in report.rows if row.what.startswith(("failed", "skipped"))]
    assert only <= {row.id for row in report.rows}
    assert all(math.isfinite(row.value) for row in report.rows)
