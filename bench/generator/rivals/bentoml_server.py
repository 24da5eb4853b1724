"""BentoML around the stock pipeline, with its adaptive batching: `bentoml serve bentoml_server:Sdxl`."""

import base64
import os
from typing import Any

import bentoml
import stock

BATCH = int(os.environ["RIVAL_BATCH"])


@bentoml.service(workers=1, threads=1, traffic={"timeout": 600}, metrics={"enabled": False})
class Sdxl:
    """One batch, one call of the pipeline."""

    def __init__(self) -> None:
        """Load the model, in the worker's process."""
        self.pipeline = stock.load(os.environ["RIVAL_FOLDER"])

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=600_000)
    def paint(self, wanted: list[dict[str, Any]]) -> list[str]:
        """PNG in base64 for each request."""
        return [base64.b64encode(stock.png(image)).decode() for image in stock.paint(self.pipeline, wanted)]
