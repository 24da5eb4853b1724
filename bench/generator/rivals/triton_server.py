"""NVIDIA Triton, by PyTriton, around the stock pipeline: `python triton_server.py FOLDER PORT BATCH`."""

import base64
import sys
from typing import Any

import numpy as np
import stock
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if __name__ == "__main__":
    folder, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pipeline = stock.load(folder)

    @batch
    def paint(request: Any) -> dict[str, Any]:
        """One batch, one call of the pipeline."""
        import json

        images = stock.paint(pipeline, [json.loads(text) for (text,) in request])
        return {"png": np.array([[base64.b64encode(stock.png(image))] for image in images])}

    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    with Triton(config=TritonConfig(log_verbose=0, **ports)) as triton:
        triton.bind(
            model_name="sdxl",
            infer_func=paint,
            inputs=[Tensor(name="request", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="png", dtype=bytes, shape=(1,))],
            config=ModelConfig(max_batch_size=size, runner=DynamicBatcher(max_queue_delay_microseconds=10_000)),
        )
        triton.serve()
