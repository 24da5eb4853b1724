"""Ray Serve around the stock pipeline, with its batching: `python ray_server.py FOLDER PORT BATCH`."""

import sys
import time
from typing import Any

import ray
import stock
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

FOLDER, PORT, BATCH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


@serve.deployment(num_replicas=1, max_ongoing_requests=2 * BATCH)
class Sdxl:
    """One batch, one call of the pipeline."""

    def __init__(self, folder: str) -> None:
        """Load the model, in the replica's process."""
        self.pipeline = stock.load(folder)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.01)
    async def paint(self, wanted: list[dict[str, Any]]) -> list[bytes]:
        """PNG bytes for each request."""
        return [stock.png(image) for image in stock.paint(self.pipeline, wanted)]

    async def __call__(self, request: Request) -> Response:
        """One request, one image."""
        return Response(await self.paint(await request.json()), media_type="image/png")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Sdxl.bind(FOLDER))
    while True:
        time.sleep(3600)
