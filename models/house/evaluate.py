"""Does the picture answer the prompt? Held prompts, a judge trained on renders, a floor and a ceiling, and a table."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from models.house import classifier, scenes, sprites
from models.house.architecture import PRESETS
from models.house.captions import caption
from models.house.export import DEFAULTS
from models.house.scenes import IMAGE_PX, Repertoire, Scene
from models.house.vocabulary import COLOURS, held_out
from services.generator.sdxl.prompts import embed, stack

PROMPTS, PAIRS, SHEET = 200, 60, (8, 6)
_SEED = 31_337
# Written for the evaluation, in whole sentences; training makes up its own from lists of words (prose.py).
_BEFORE = (
    "",
    "",
    "",
    "Could you draw ",
    "For next Tuesday's front page I am looking for a cheerful visual: ",
    "Digital artwork depicting ",
    "A children's encyclopedia entry begins with ",
    "Header image of our recipe column, ",
    "The essay argues that boredom is useful, so let us see ",
    "Hand-crafted vector graphic, ",
)
_AFTER = (
    ", rendered with smooth gradients and generous negative space so that a headline fits above it",
    ". Keep the outlines thick, avoid clutter, and do not add any lettering",
    ", ultra detailed, octane render, 8k, trending on artstation",
    ". The overall feeling ought to be optimistic and somewhat nostalgic, like an afternoon spent with grandparents",
    ", shot on 35mm with a shallow depth of field, volumetric lighting, rule of thirds",
    ". Our readers are busy commuters who glance at their phones, so the motif must be recognisable at thumbnail size",
    ", in the manner of a mid-century travel poster, with restrained shading and a slight paper grain",
    ", friendly, centered, isolated, simple shapes, sticker design",
    ". It accompanies an interview about how small teams decide what to build next and what to leave out",
    ", masterpiece, best quality, highly detailed, sharp focus, no watermark, no signature, no blur",
)
_BATCH = 10
_FRAME_PX = 10

Painter = Callable[[Sequence[tuple[Scene, str]]], Tensor]


@dataclass(frozen=True)
class Score:
    """Shares from 0 to 1: the named subject first, among the first five; the named background colour; both."""

    top1: float
    top5: float
    colour: float
    both: float

    def __str__(self) -> str:
        return f"top1={self.top1:.3f} top5={self.top5:.3f} colour={self.colour:.3f}"


def held_prompts(repertoire: Repertoire) -> list[tuple[Scene, str]]:
    """200 scenes and captions of pairs of subject and plain colour that no training scene ever showed.

    All such pairs come before any comes again, in other words and from another seed.
    """
    rng = random.Random(_SEED)
    unseen = [(i, colour) for i in repertoire.subjects for colour in COLOURS if held_out(i, colour)]
    rounds = (rng.sample(unseen, len(unseen)) for _ in range(PROMPTS // len(unseen) + 1))
    order = list(chain.from_iterable(rounds))[:PROMPTS]
    chosen = [scenes.single(subject, colour, rng, repertoire) for subject, colour in order]
    return [(scene, caption(scene, rng)) for scene in chosen]


def prose_prompts(repertoire: Repertoire) -> list[tuple[Scene, str]]:
    """The held prompts with 5 to 70 words around them that tell nothing about the scene."""
    rng = random.Random(_SEED + 3)
    return [
        (scene, rng.choice(_BEFORE) + text.rstrip(".") + "".join(rng.sample(_AFTER, rng.choice((1, 1, 2, 3)))))
        for scene, text in held_prompts(repertoire)
    ]


def pair_prompts(repertoire: Repertoire) -> list[tuple[Scene, str]]:
    """60 scenes of two different subjects side by side, and their captions; none if the model learns no such scenes."""
    if not repertoire.paired:
        return []
    rng = random.Random(_SEED + 1)
    chosen = []
    for _ in range(PAIRS):
        left, right = rng.sample(repertoire.subjects, 2)
        chosen.append(scenes.pair(left, right, rng.choice(list(COLOURS)), rng))
    return [(scene, caption(scene, rng)) for scene in chosen]


def sheet_prompts(repertoire: Repertoire) -> list[str]:
    """48 captions of scenes of every kind that the model learns, as the seed gives them."""
    rng = random.Random(_SEED + 2)
    return [caption(scenes.draw(rng, repertoire), rng) for _ in range(SHEET[0] * SHEET[1])]


def background_colours(images: Tensor) -> list[str]:
    """The plain colour nearest to the median of each image's frame; images (batch, 3, 256, 256) in -1 to 1."""
    frame = torch.ones(IMAGE_PX, IMAGE_PX, dtype=torch.bool, device=images.device)
    frame[_FRAME_PX:-_FRAME_PX, _FRAME_PX:-_FRAME_PX] = False
    median = (images[:, :, frame].median(dim=2).values + 1) * 127.5
    palette = torch.tensor([list(colour) for colour in COLOURS.values()], device=images.device, dtype=median.dtype)
    return [list(COLOURS)[i] for i in torch.cdist(median, palette).argmin(1).tolist()]


@torch.no_grad()
def score(paint: Painter, judge: classifier.Classifier, prompts: Sequence[tuple[Scene, str]]) -> Score:
    """Paint every prompt and judge it."""
    first = five = colour = both = 0
    for start in range(0, len(prompts), _BATCH):
        asked = prompts[start : start + _BATCH]
        images = paint(asked)
        ranked = judge(images).topk(5).indices.tolist()
        for (scene, _), names, seen in zip(asked, ranked, background_colours(images), strict=True):
            wanted = scene.places[0].subject
            first += names[0] == wanted
            five += wanted in names
            colour += seen == scene.colour
            both += names[0] == wanted and seen == scene.colour
    count = len(prompts)
    return Score(first / count, five / count, colour / count, both / count)


@torch.no_grad()
def both_present(paint: Painter, judge: classifier.Classifier, prompts: Sequence[tuple[Scene, str]]) -> float:
    """The share of two-subject prompts where the judge finds each in its half, looked at closely."""
    if not prompts:
        return math.nan
    found = 0
    for start in range(0, len(prompts), _BATCH):
        asked = prompts[start : start + _BATCH]
        images = paint(asked)
        half, quarter = IMAGE_PX // 2, IMAGE_PX // 4
        sides = [images[:, :, quarter : quarter + half, x : x + half] for x in (0, half)]
        left, right = (judge(torch.nn.functional.interpolate(side, scale_factor=2.0)).argmax(1) for side in sides)
        for (scene, _), pair in zip(asked, zip(left.tolist(), right.tolist(), strict=True), strict=True):
            found += pair == tuple(place.subject for place in scene.places)
    return found / len(prompts)


def model(pipeline: Any, steps: int, guidance: float) -> Painter:
    """Paints captions with the pipeline, from seeds that depend on the caption's scene alone."""

    def paint(asked: Sequence[tuple[Scene, str]]) -> Tensor:
        return generate(pipeline, [text for _, text in asked], [scene.seed for scene, _ in asked], steps, guidance)

    return paint


def generate(pipeline: Any, texts: list[str], seeds: list[int], steps: int, guidance: float) -> Tensor:
    """Images (batch, 3, 256, 256) in -1 to 1; texts are read in chunks, as the generator reads them."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        tokens, pooled = stack(embed(pipeline, [*texts, ""], pipeline.device))
    images: Tensor = pipeline(
        prompt_embeds=tokens[:-1],
        pooled_prompt_embeds=pooled[:-1],
        negative_prompt_embeds=tokens[-1:].repeat(len(texts), 1, 1),
        negative_pooled_prompt_embeds=pooled[-1:].repeat(len(texts), 1),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators,
        output_type="pt",
    ).images
    return images.float() * 2 - 1


def floor(pipeline: Any) -> Painter:
    """Decodes noise and ignores the caption."""

    def paint(asked: Sequence[tuple[Scene, str]]) -> Tensor:
        side = pipeline.unet.config.sample_size
        noise = torch.randn(
            len(asked), pipeline.unet.config.in_channels, side, side, generator=torch.manual_seed(len(asked))
        )
        return _decoded(pipeline, noise.to(pipeline.device))

    return paint


def ceiling(pipeline: Any, pictures: Tensor) -> Painter:
    """Encodes and decodes the render that the caption describes: no model of these latents can do better."""

    def paint(asked: Sequence[tuple[Scene, str]]) -> Tensor:
        images = scenes.paint([scene for scene, _ in asked], pictures)
        return _decoded(pipeline, pipeline.vae.encode(images).latent)

    return paint


def _decoded(pipeline: Any, latents: Tensor) -> Tensor:
    images: Tensor = pipeline.vae.decode(latents).sample.clamp(-1, 1)
    return images


def save_sheet(images: Tensor, path: Path, side: int = 160) -> None:
    """Write the pictures row by row as one PNG."""
    columns, rows = SHEET
    sheet = Image.new("RGB", (columns * side, rows * side))
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    for i, picture in enumerate(pixels):
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (i % columns * side, i // columns * side))
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def load_pipeline(folder: Path) -> Any:
    """The model as anybody loads it, with the scheduler of its defaults."""
    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Read the command line, print the table and write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/house"))
    parser.add_argument("--model", type=Path, default=Path("var/house/weights"))
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--steps", type=int, default=DEFAULTS["num_inference_steps"])
    parser.add_argument("--guidance", type=float, default=DEFAULTS["guidance_scale"])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="judge only the first so many")
    parser.add_argument("--sheet", type=Path, help="write the contact sheet here")
    options = parser.parse_args()
    pipeline = load_pipeline(options.model)
    repertoire = PRESETS[options.preset].repertoire
    pictures = sprites.load(options.work).to(pipeline.device)
    judge = classifier.load(options.work, pictures, repertoire)
    paint = model(pipeline, options.steps, options.guidance)
    print(f"{options.steps} steps, guidance {options.guidance}; the judge named ", end="")
    print(f"{classifier.accuracy(judge, pictures, repertoire):.1%} of {classifier.HELD_OUT_RENDERS} held-out renders\n")
    if options.sheet:
        texts = sheet_prompts(repertoire)
        images = [generate(pipeline, [text], [i], options.steps, options.guidance) for i, text in enumerate(texts)]
        save_sheet(torch.cat(images), options.sheet)
        print("\n".join(f"{i + 1}. {text}" for i, text in enumerate(texts)) + "\n")
    painters = {"noise (floor)": floor(pipeline), "VAE (ceiling)": ceiling(pipeline, pictures), "model": paint}
    print(tabulate(painters, judge, repertoire, options.prompts))


def tabulate(
    painters: dict[str, Painter], judge: classifier.Classifier, repertoire: Repertoire, most_prompts: int
) -> str:
    """The table of all painters, and the last one's scores as the last line."""
    singles, pairs = held_prompts(repertoire)[:most_prompts], pair_prompts(repertoire)[:most_prompts]
    prose = prose_prompts(repertoire)[:most_prompts]
    lines = [
        f"| {len(singles)} held prompts | top-1 | top-5 | colour | subject and colour | both of {len(pairs)} pairs |",
        "|---|---|---|---|---|---|",
    ]
    rows = [(name, painter, singles) for name, painter in painters.items()]
    rows.insert(-1, (f"{rows[-1][0]}, with prose around", rows[-1][1], prose))
    for name, painter, prompts in rows:
        result = score(painter, judge, prompts)
        shares = (result.top1, result.top5, result.colour, result.both, both_present(painter, judge, pairs))
        lines.append(
            f"| {name} | " + " | ".join("–" if math.isnan(share) else f"{share:.1%}" for share in shares) + " |"
        )
    return "\n".join([*lines, "", str(result)])


if __name__ == "__main__":
    main()
