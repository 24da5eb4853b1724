"""The stock pipeline as all rivals use it: one thread, no progress bar, a seed an image, PNG by Pillow.

`python stock.py FOLDER` is the raw loop: it reads one JSON list of requests a line, paints them in one call of the
pipeline, and answers one JSON line: the images in base64 if `png` is asked for, else their number.
"""

import base64
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any


def load(folder: str) -> Any:
    """diffusers as it is, with as many threads as OMP_NUM_THREADS says, and warm."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from diffusers.utils import logging

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    logging.disable_progress_bar()
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    paint(pipeline, [{"prompt": "warm", "seed": 0, "steps": 2, "guidance": 5.0, "size": 64}])
    return pipeline


def paint(pipeline: Any, wanted: Sequence[dict[str, Any]]) -> list[Any]:
    """PIL images in the order of the requests. A call of the pipeline has one size, one number of steps and one scale:
    those that differ in prompt and seed only share it, the others have one after the other."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, request in enumerate(wanted):
        groups.setdefault((request["size"], request["steps"], request["guidance"]), []).append(place)
    images: list[Any] = [None] * len(wanted)
    for places in groups.values():
        for place, image in zip(places, _paint_alike(pipeline, [wanted[place] for place in places]), strict=True):
            images[place] = image
    return images


def _paint_alike(pipeline: Any, wanted: Sequence[dict[str, Any]]) -> list[Any]:
    import torch

    first = wanted[0]
    images: list[Any] = pipeline(
        [request["prompt"] for request in wanted],
        height=first["size"],
        width=first["size"],
        num_inference_steps=first["steps"],
        guidance_scale=first["guidance"],
        generator=[torch.Generator().manual_seed(request["seed"]) for request in wanted],
    ).images
    return images


def png(image: Any) -> bytes:
    """The image as PNG at Pillow's fastest level."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def main() -> None:
    """Answer lines until there are no more."""
    pipeline = load(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        images = paint(pipeline, wanted)
        encoded = [base64.b64encode(png(image)).decode() for image in images] if wanted[0].get("png") else len(images)
        print(json.dumps(encoded), flush=True)


if __name__ == "__main__":
    main()
