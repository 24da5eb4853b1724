"""LitServe around the stock pipeline, with its dynamic batching: `python litserve_server.py FOLDER PORT BATCH`."""

import sys
from typing import Any

import litserve
import stock
from fastapi import Response


class Api(litserve.LitAPI):
    """One batch, one call of the pipeline."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker's process."""
        self.pipeline = stock.load(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The body is the request."""
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        """A list, also when it is one."""
        return inputs

    def predict(self, wanted: Any) -> list[Any]:
        """One image for each."""
        return stock.paint(self.pipeline, wanted if isinstance(wanted, list) else [wanted])

    def unbatch(self, output: list[Any]) -> list[Any]:
        """One answer for each."""
        return output

    def encode_response(self, output: Any) -> Response:
        """PNG bytes."""
        return Response(stock.png(output[0] if isinstance(output, list) else output), media_type="image/png")


if __name__ == "__main__":
    # Each call waits for this window unless the batch is full: just long enough for eight clients to come back.
    api = Api(max_batch_size=int(sys.argv[3]), batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
