"""Put the trained parts together as a diffusers folder that `StableDiffusionXLPipeline.from_pretrained` loads."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from models.house import architecture, train_unet, train_vae
from models.house.architecture import PRESETS, Preset
from models.house.scenes import IMAGE_PX
from models.house.source import Source, prepare
from models.house.train_unet import Painter
from models.house.training import load_average
from models.house.vocabulary import SUBJECTS

DEFAULTS: dict[str, Any] = {
    "width": IMAGE_PX,
    "height": IMAGE_PX,
    "num_inference_steps": 20,
    "guidance_scale": 1.5,
    "scheduler": "dpmpp_2m",
}
_ABOUT: dict[str, Any] = {
    "description": (
        "The small house model: an SDXL trained from scratch on open emoji art, for a start without a download. "
        f"It paints one of {len(SUBJECTS)} simple subjects on a plain colour, at night, in a meadow, at sea, at sunset "
        "or in the snow, and knows nothing else. For real pictures set GENERATOR_MODEL to SDXL base, Turbo or "
        "Lightning on a machine with a GPU."
    ),
    "example_prompts": [
        "a red apple on a blue background",
        "a fox on a yellow background",
        "a rocket at night",
        "a castle on a green hill",
        "a sailboat by the sea",
        "a panda on a pink background",
    ],
    "defaults": DEFAULTS,
    "limits": {"min_width": IMAGE_PX, "max_width": IMAGE_PX, "min_height": IMAGE_PX, "max_height": IMAGE_PX},
}


def assemble(work: Path, preset: Preset, source: Source) -> Any:
    """The pipeline of the checkpoints in `work`, with averaged weights in half precision."""
    painter = Painter(preset, architecture.text_encoders(source.words))
    load_average(painter, work / train_unet.CHECKPOINT)
    pipeline: Any = StableDiffusionXLPipeline(
        vae=train_vae.trained(work / train_vae.CHECKPOINT, source),
        text_encoder=painter.text_encoder,
        text_encoder_2=painter.text_encoder_2,
        tokenizer=source.words,
        tokenizer_2=source.words,
        unet=painter.unet,
        scheduler=architecture.scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    return pipeline.to(dtype=torch.float16)


def write(pipeline: Any, folder: Path, shard_size: str) -> None:
    """Save the pipeline in place of what is at `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder, safe_serialization=True, max_shard_size=shard_size)
    (folder / "frontispiece.json").write_text(json.dumps(_ABOUT, indent=2) + "\n")


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/house"))
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--out", type=Path, default=Path("var/house/weights"))
    parser.add_argument("--shard-size", default="1GB", help="the largest file to write, such as 12MB")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    source = prepare(options.work, preset.repertoire, options.seed, torch.device("cpu"))
    write(assemble(options.work, preset, source), options.out, options.shard_size)


if __name__ == "__main__":
    main()
