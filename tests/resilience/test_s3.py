"""The whole system with images in S3: objects, URLs and an outage."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.test_publishing import paint
from tests.s3_server import SeaweedFS
from tests.stack import Stack, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as server:
        yield server


async def _paint(stack: Stack) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=stack.base_url, headers=stack.authorization, timeout=120) as client:
        return await paint(client, num_inference_steps=2)


async def _fetch(url: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=30, follow_redirects=True) as client:
        return await client.get(url)


@pytest.mark.timeout(900)
async def test_images_are_in_the_bucket_and_an_outage_loses_none(s3: SeaweedFS, tmp_path: Path) -> None:
    with running(tmp_path / "var", s3.environment) as stack:
        painted = await _paint(stack)
        assert painted["image_source"] == "sdxl-s3"
        key = painted["images"][0]["key"]
        assert painted["image_url"] == f"{stack.base_url}/media/{key}"
        held = s3.client().get_object(Bucket="images", Key=key)
        data = held["Body"].read()
        assert hashlib.sha256(data).hexdigest() == painted["images"][0]["sha256"]
        assert held["ContentType"] == "image/png"
        assert "max-age=31536000" in held["CacheControl"]
        assert "immutable" in held["CacheControl"]
        assert held["Metadata"]["task-id"] == painted["task_id"]
        assert held["Metadata"]["generated-date"]
        assert not held.get("ContentEncoding")
        assert (await _fetch(painted["image_url"])).content == data

        s3.kill()
        spooled = await _paint(stack)
        assert spooled["image_source"] == "sdxl-local"
        response = await _fetch(spooled["image_url"])
        assert hashlib.sha256(response.content).hexdigest() == spooled["images"][0]["sha256"]

        s3.start()
        spooled_key = spooled["images"][0]["key"]
        async with asyncio.timeout(240):
            while "Contents" not in s3.client().list_objects_v2(Bucket="images", Prefix=spooled_key):
                await asyncio.sleep(0.5)
        moved = await _fetch(spooled["image_url"])
        assert moved.content == response.content


@pytest.mark.timeout(600)
async def test_with_a_cdn_image_urls_begin_with_it(s3: SeaweedFS, tmp_path: Path) -> None:
    variables = {**s3.environment, "AWS_CLOUDFRONT_DOMAIN": "d111111abcdef8.cloudfront.net"}
    with running(tmp_path / "var", variables) as stack:
        painted = await _paint(stack)
        key = painted["images"][0]["key"]
        assert painted["image_url"] == f"https://d111111abcdef8.cloudfront.net/{key}"
        async with httpx2.AsyncClient(base_url=stack.base_url) as client:
            response = await client.get(f"/media/{key}")
        assert response.status_code == 302
        assert response.headers["location"] == painted["image_url"]
