"""Prompts to embeddings: what the pipeline's own method answers, and what is kept."""

from pathlib import Path

import diffusers
import pytest
import torch

from services.generator.engine import InvalidRequest
from services.generator.sdxl.prompts import Prompt, PromptEncoder
from tests.generator.harness import request as image_request

TEXTS = ["a lighthouse at dusk", "", "über den Dächern 🦊"]


@pytest.mark.parametrize("folder", ["checkpoint", "refiner"])
def test_embeddings_are_those_of_the_pipeline(folder: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(path, use_safetensors=True)
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt=TEXTS, do_classifier_free_guidance=False)
    embeddings = PromptEncoder(pipeline, "cpu", 16).encode([Prompt(text) for text in TEXTS])
    for i, embedding in enumerate(embeddings):
        assert torch.equal(embedding.tokens, tokens[i])
        assert torch.equal(embedding.pooled, pooled[i])


def test_clip_skip_reads_an_earlier_layer_for_the_prompt_alone(checkpoint: Path) -> None:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(checkpoint, use_safetensors=True)
    positive, negative, _, _ = pipeline.encode_prompt(prompt=TEXTS, negative_prompt=TEXTS[::-1], clip_skip=1)
    requests = [
        image_request(prompt=TEXTS[0], negative_prompt=TEXTS[2], clip_skip=1),
        image_request(prompt=TEXTS[1], negative_prompt=TEXTS[1]),
    ]
    (skipped, opposite), (ordinary, _) = PromptEncoder(pipeline, "cpu", 16).encode_requests(requests, ())
    assert torch.equal(skipped.tokens, positive[0])
    assert torch.equal(opposite.tokens, negative[0])
    assert not torch.equal(ordinary.tokens, positive[1])


def test_more_layers_than_a_text_encoder_has_are_refused_by_name(checkpoint: Path) -> None:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(checkpoint, use_safetensors=True)
    encoder, request = PromptEncoder(pipeline, "cpu", 16), image_request(prompt="a fox", clip_skip=2)
    assert encoder.problems(request) == [("clip_skip", "must be at most 1 layers for this model; is 2")]
    with pytest.raises(InvalidRequest, match="must be at most 1 layers"):
        encoder.encode_requests([request], ())
