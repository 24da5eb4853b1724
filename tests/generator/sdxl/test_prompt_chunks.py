"""Prompts longer than what the text encoders read at once: read in chunks, or refused by name."""

import asyncio
from pathlib import Path
from typing import Any

import diffusers
import grpc
import pytest
import torch

from rpc import errors
from services.generator.sdxl import prompt_chunks
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.prompts import Prompt, PromptEncoder
from tests.generator import tolerance
from tests.generator.diffusers_reference import difference, paint, reference, text_pipeline
from tests.generator.harness import request, sdxl, serve

# The test checkpoint's tokens are single letters, of which a chunk holds 75.
ROOM = 75
LONG = "a lighthouse at dusk above the grey sea while a red fox looks on from its rock and gulls return"  # two chunks
LONGER = f"{LONG} {LONG} {LONG}"  # four
TOO_LONG = "🦊 " * 601  # four tokens each, of which a chunk holds 72


def by_hand(text: str) -> list[str]:
    """The chunks, as texts: as many whole words as fit; a power of two of them."""
    parts: list[list[str]] = [[]]
    for word in text.split():
        if sum(len(other) for other in parts[-1]) + len(word) > ROOM:
            parts.append([])
        parts[-1].append(word)
    while len(parts) not in (1, 2, 4, 8, 16, 32):
        parts.append([])
    return [" ".join(part) for part in parts]


def embed(pipeline: Any, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the stock pipeline says of each chunk, one after the other, and of the first as a whole."""
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt=by_hand(text), do_classifier_free_guidance=False)
    return tokens.flatten(0, 1)[None], pooled[:1]


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Any:
    return text_pipeline(checkpoint)


class TestChunks:
    def test_words_stay_whole_and_none_is_lost(self, stock: Any) -> None:
        tokenizer = stock.tokenizer
        for text in (LONG, LONGER, "fox, " * 60, "über den Dächern 🦊 " * 9):
            (parts,) = prompt_chunks.split_into_chunks([text], tokenizer)
            inner = [[i for i in part if i not in tokenizer.all_special_ids] for part in parts]
            assert [i for part in inner for i in part] == tokenizer(text, add_special_tokens=False).input_ids
            assert all(len(part) == ROOM + 2 for part in parts)
            assert len(parts) in prompt_chunks.COUNTS
            assert all(tokenizer.convert_ids_to_tokens(part)[-1].endswith("</w>") for part in inner if part)

    def test_a_word_longer_than_a_chunk_is_torn(self, stock: Any) -> None:
        ((first, second),) = prompt_chunks.split_into_chunks(["x" * (ROOM + 1)], stock.tokenizer)
        assert stock.tokenizer.decode(first, skip_special_tokens=True) == "x" * ROOM
        assert stock.tokenizer.decode(second, skip_special_tokens=True).strip() == "x"

    def test_more_than_thirty_two_are_too_many(self, stock: Any) -> None:
        (parts,) = prompt_chunks.split_into_chunks(["lighthouse " * (7 * 32)], stock.tokenizer)
        assert len(parts) == 32
        with pytest.raises(prompt_chunks.PromptTooLong, match="2250 tokens"):
            prompt_chunks.split_into_chunks(["lighthouse " * (7 * 32 + 1)], stock.tokenizer)


@pytest.mark.parametrize("folder", ["checkpoint", "refiner"])
def test_embeddings_are_those_of_the_chunks(folder: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(path, use_safetensors=True)
    encoder = PromptEncoder(pipeline, "cpu", 16)
    texts = [LONG, "a fox", LONGER]
    for text, ours in zip(texts, encoder.encode([Prompt(text) for text in texts]), strict=True):
        tokens, pooled = embed(pipeline, text)
        assert len(ours.tokens) == 77 * len(by_hand(text))
        assert difference(ours.tokens[None], tokens.detach()) <= tolerance.network()
        assert difference(ours.pooled[None], pooled.detach()) <= tolerance.network()


@pytest.mark.parametrize(
    ("prompt", "negative"), [(LONG, ""), (LONG, "grey"), ("a fox", LONG), (LONGER, LONG), (LONGER, "")]
)
def test_images_are_those_of_the_chunks(engine: SdxlEngine, stock: Any, prompt: str, negative: str) -> None:
    """The stock pipeline wants both of one length: filled up by repeating, which attention does not see."""
    wanted = request(prompt=prompt, negative_prompt=negative)
    tokens, pooled = embed(stock, prompt)
    negatives, negative_pooled = embed(stock, negative)
    if not negative:
        negatives, negative_pooled = torch.zeros_like(negatives), torch.zeros_like(pooled)
    length = max(tokens.shape[1], negatives.shape[1])
    stock.scheduler.set_timesteps(4)
    theirs = stock(
        prompt_embeds=tokens.repeat(1, length // tokens.shape[1], 1),
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negatives.repeat(1, length // negatives.shape[1], 1),
        negative_pooled_prompt_embeds=negative_pooled,
        height=wanted.height,
        width=wanted.width,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="latent",
    ).images[0]
    (ours,) = paint(engine, wanted)
    assert difference(ours, theirs) <= tolerance.latents(wanted)
    assert difference(ours, reference(stock, wanted)) > 10 * tolerance.latents(
        wanted
    )  # which reads the first chunk only


def test_who_shares_steps_with_a_long_prompt_is_not_changed(engine: SdxlEngine, stock: Any) -> None:
    short = request(prompt="a fox", num_inference_steps=6)
    wanted = [
        short,
        request(prompt=LONG, seed=8),
        request(prompt=LONGER, seed=9, num_inference_steps=2),
        request(prompt="gulls", negative_prompt=LONG, seed=10, guidance_end=0.5),
    ]
    together = paint(engine, *wanted)
    assert difference(together[0], reference(stock, short)) <= tolerance.latents(short)
    for ours, alone in zip(together, wanted, strict=True):
        assert difference(ours, paint(engine, alone)[0]) <= tolerance.latents(alone)


async def test_a_text_that_is_too_long_is_refused_by_name(checkpoint: Path) -> None:
    async with serve(sdxl(checkpoint)) as client:
        texts = [{"prompt": TOO_LONG}, {"prompt": "a fox", "negative_prompt": TOO_LONG}]
        answers = await asyncio.gather(
            client.generate(prompt="a fox"),
            *(client.generate(**fields) for fields in texts),
            client.generate(prompt=LONG),
            return_exceptions=True,
        )
        for answer, field in zip(answers[1:3], ("prompt", "negative_prompt"), strict=True):
            assert isinstance(answer, grpc.aio.AioRpcError)
            error = errors.from_call(answer)
            assert isinstance(error, errors.InvalidArgument)
            assert [violation.field for violation in error.violations] == [f"parameters.{field}"]
            assert "2404 tokens" in error.message
            assert "2400" in error.message
        assert all(not isinstance(answers[i], BaseException) for i in (0, 3))
        assert (await client.generate(prompt="a fox")).generation.batch_size == 1
