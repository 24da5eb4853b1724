"""Prompts to embeddings: what the pipeline's own method answers, and what is kept."""

from pathlib import Path

import diffusers
import pytest
import torch

from services.generator.sdxl.prompts import Prompt, PromptEncoder

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
