"""The load tests themselves: configs, verdicts, reports, and a no-op that returns recorded responses."""

import base64
import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.storage.v1 import images_pb2, images_pb2_grpc
from frontispiece.types.v1.image_pb2 import StoredImage
from PIL import Image

from bench.load import configs, preparation, report, stack
from bench.load.contracts import method, requests
from bench.load.ghz import Measurement, read
from bench.load.session import Row, by_step, median

VALUES = {
    "post_slug": "a-post",
    "task_id": str(uuid.uuid4()),
    "ended_task_id": str(uuid.uuid4()),
    "image_key": "generated/1790000000-x.png",
    "upload": preparation.upload(b"x" * 300_000, "{{newUUID}}"),
}


def measurement(**changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "count": 100,
        "seconds": 1.0,
        "rps": 100.0,
        "requested_rps": 100.0,
        "p50": 2.0,
        "p95": 3.0,
        "p99": 4.0,
        "non_ok_percent": 0.0,
        "codes": {"OK": 100},
    }
    return Measurement(**{**values, **changes})


class TestConfigs:
    @pytest.mark.parametrize("call", configs.calls())
    @pytest.mark.parametrize("profile", [*configs.profiles(), configs.KNEE])
    def test_every_call_has_every_profile(self, call: str, profile: str) -> None:
        for phase in configs.phases(call, profile, VALUES, knee=1000):
            assert requests(phase.rpc, phase.config["data"])
            assert configs.service(call) in ("posts", "storage", "generator")
            assert "%" not in str({key: value for key, value in phase.config.items() if key != "data"})

    def test_the_expected_calls_are_measured(self) -> None:
        expected = {"CreateTask", "GetTask", "ListTasks", "WatchTask", "ListPosts", "GetPost", "StoreImage", "GetImage"}
        assert {*expected, "Generate", "Check"} == set(configs.calls())

    def test_a_share_is_one_of_the_knee(self) -> None:
        (phase,) = configs.phases("GetPost", "latency", VALUES, knee=1000)
        assert phase.config["rps"] == 700
        with pytest.raises(ValueError, match="the knee was not measured"):
            configs.phases("GetPost", "latency", VALUES)

    def test_a_request_id_is_new_every_time(self) -> None:
        data = configs.phases("CreateTask", "smoke", VALUES)[0].config["data"]
        (first,), (second,) = (requests("frontispiece.posts.v1.TaskService/CreateTask", data) for _ in range(2))
        assert isinstance(first, tasks_pb2.CreateTaskRequest)
        assert isinstance(second, tasks_pb2.CreateTaskRequest)
        assert first.request_id != second.request_id

    def test_an_upload_is_a_header_and_chunks(self) -> None:
        data = configs.phases("StoreImage", "smoke", VALUES)[0].config["data"]
        header, *chunks = requests("frontispiece.storage.v1.ImageService/StoreImage", data)
        assert isinstance(header, images_pb2.StoreImageRequest)
        assert header.header.size_bytes == 300_000
        assert [len(chunk.chunk) for chunk in chunks] == [262_144, 37_856]

    def test_noise_is_a_readable_png(self) -> None:
        with Image.open(io.BytesIO(preparation.noise(64, 32))) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("PNG", (64, 32))


class TestReports:
    def test_failures_do_not_count_in_the_rate(self) -> None:
        found, _ = read(
            {
                "total": 2_000_000_000,
                "statusCodeDistribution": {"OK": 150, "Unavailable": 50},
                "latencyDistribution": [{"percentage": 50, "latency": 1_500_000}],
            },
            100,
            0,
        )
        assert (found.rps, found.non_ok_percent, found.p50, found.count) == (75, 25, 1.5, 200)

    def test_the_middle_round_counts_and_every_failure(self) -> None:
        rounds = [measurement(p50=3.0), measurement(p50=1.0, codes={"OK": 90, "Internal": 10}), measurement(p50=2.0)]
        found = median(rounds)
        assert found.p50 == 2.0
        assert found.codes == {"OK": 290, "Internal": 10}
        assert found.non_ok_percent == pytest.approx(100 * 10 / 300, abs=0.01)

    def test_steps_are_separated_by_time(self) -> None:
        (phase,) = configs.phases("GetPost", "step", VALUES, knee=100)
        calls = [
            {"timestamp": f"2026-11-21T06:00:{second:02}.5+00:00", "latency": (1 + second // 5) * 1e6, "status": "OK"}
            for second in range(10)
        ]
        steps = by_step(phase, calls)
        assert [(step["requested_rps"], step["p50"]) for step in steps] == [(20, 1.0), (40, 2.0)]


class TestVerdicts:
    @pytest.mark.parametrize(
        ("ours", "noop", "expected"),
        [
            ({}, {}, "ok"),
            ({"p50": 9.0}, {"p50": 2.0}, "p50 4.5× > 2.0×"),
            ({"p50": 0.9}, {"p50": 0.1}, "ok"),  # below the floor
            ({"non_ok_percent": 5.0, "codes": {"OK": 95, "Internal": 5}}, {}, "5.0 % failed: {'Internal': 5}"),
            ({"rps": 80.0}, {}, "80 of 100 rps"),
            ({"p99": 900.0}, {}, "p99 900 ms > 500"),
            ({"count": 0}, {}, "no call succeeded"),
        ],
    )
    def test_a_verdict_names_the_broken_limits(self, ours: dict[str, Any], noop: dict[str, Any], expected: str) -> None:
        limits = report.Limits(min_rate_share=0.9, max_p50_ratio=2.0, max_p99_ms=500, p50_floor_ms=1.0)
        row = Row("GetPost", "latency", measurement(**ours), measurement(**noop))
        assert ("; ".join(limits.broken_by(row)) or "ok") == expected

    def test_a_knee_and_memory_have_limits_too(self) -> None:
        row = Row(
            "StoreImage",
            "soak",
            measurement(),
            measurement(),
            knee=18,
            typical_knee=20,
            noop_knee=100,
            memory_mib=(50, 200),
        )
        limits = report.Limits(min_knee_share=0.6, max_growth_mib=100)
        assert limits.broken_by(row) == ["knee 20% < 60%", "grew by 150 MiB"]

    @pytest.mark.parametrize("profile", configs.profiles())
    def test_every_profile_has_limits_that_can_be_read(self, profile: str) -> None:
        for call in configs.calls():
            assert report.limits(profile, call).max_non_ok_percent >= 0

    def test_the_table_has_a_cell_for_every_column(self) -> None:
        lines = report.table("latency", [Row("GetPost", "latency", measurement(), measurement())]).splitlines()
        assert len({line.count("|") for line in lines}) == 1


async def test_the_noop_returns_the_recorded_responses(tmp_path: Path) -> None:
    post = posts_pb2.GetPostResponse(post=posts_pb2.Post(id="1", title="recorded"))
    events = [tasks_pb2.WatchTaskResponse(event=tasks_pb2.TaskEvent(sequence=number)) for number in (1, 2)]
    stored = images_pb2.StoreImageResponse(image=images_pb2.Image(image=StoredImage(key="k")))
    recorded = {
        "frontispiece.posts.v1.PostService/GetPost": [post],
        "frontispiece.posts.v1.TaskService/WatchTask": events,
        "frontispiece.storage.v1.ImageService/StoreImage": [stored],
    }
    recording = tmp_path / "recording.json"
    recording.write_text(
        json.dumps(
            {
                call: [base64.b64encode(m.SerializeToString()).decode() for m in found]
                for call, found in recorded.items()
            }
        )
    )
    async with stack.noop(recording) as targets, grpc.aio.insecure_channel(targets.hosts["posts"]) as channel:
        posts: Any = posts_pb2_grpc.PostServiceStub(channel)
        assert await posts.GetPost(posts_pb2.GetPostRequest(slug="any"), timeout=10) == post
        tasks: Any = tasks_pb2_grpc.TaskServiceStub(channel)
        assert [e async for e in tasks.WatchTask(tasks_pb2.WatchTaskRequest(task_id="any"), timeout=10)] == events
        images: Any = images_pb2_grpc.ImageServiceStub(channel)
        parts = iter([images_pb2.StoreImageRequest(chunk=b"x" * 1000)] * 3)
        assert await images.StoreImage(parts, timeout=10) == stored
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await posts.ListPosts(posts_pb2.ListPostsRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (targets.cpu_seconds("posts") or 0) > 0


async def test_the_floor_server_stores_uploads(tmp_path: Path) -> None:
    stored = images_pb2.StoreImageResponse(image=images_pb2.Image(image=StoredImage(key="k")))
    recording, folder = tmp_path / "recording.json", tmp_path / "kept"
    folder.mkdir()
    response = base64.b64encode(stored.SerializeToString()).decode()
    recording.write_text(json.dumps({"frontispiece.storage.v1.ImageService/StoreImage": [response]}))
    async with stack.noop(recording, folder) as targets, grpc.aio.insecure_channel(targets.hosts["storage"]) as channel:
        images: Any = images_pb2_grpc.ImageServiceStub(channel)
        parts = iter([images_pb2.StoreImageRequest(chunk=b"x" * 1000)] * 3)
        assert await images.StoreImage(parts, timeout=10) == stored
    (kept,) = folder.iterdir()
    assert kept.read_bytes() == b"x" * 3000
    assert kept.name.endswith(hashlib.sha256(b"x" * 3000).hexdigest())


def test_a_method_is_found_by_its_name() -> None:
    found = method("frontispiece.storage.v1.ImageService/GetImage")
    assert (found.client_streaming, found.server_streaming) == (False, True)
    with pytest.raises(KeyError):
        method("frontispiece.storage.v1.ImageService/Nothing")
