"""Mosec (a Rust front with dynamic batching) around the stock pipeline: `python mosec_server.py --port PORT …`.

The folder and the batch come from the environment, as the command line is Mosec's own.
"""

import os
from typing import Any

import stock
from mosec import Server, Worker


class Painter(Worker):
    """One batch, one call of the pipeline."""

    def __init__(self) -> None:
        """Load the model, in the worker's process."""
        super().__init__()
        self.pipeline = stock.load(os.environ["RIVAL_FOLDER"])
        self.resp_mime_type = "image/png"

    def forward(self, data: Any) -> list[Any]:
        """PNG bytes for each request."""
        return [stock.png(image) for image in stock.paint(self.pipeline, data)]

    def serialize(self, data: bytes) -> bytes:
        """They are bytes already."""
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Painter, num=1, max_batch_size=int(os.environ["RIVAL_BATCH"]), max_wait_time=10, timeout=600)
    server.run()
