"""Prompts to embeddings. Recent embeddings are cached: the same negative prompt comes with many requests."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.generator.engine import InvalidRequest
from services.generator.models import ImageRequest, Lora
from services.generator.sdxl.device_sync import to_device
from services.generator.sdxl.prompt_chunks import PromptTooLong, repeat_tokens, split_into_chunks

Chunks = list[list[list[int]]]
"""For each text its chunks, for each chunk its token ids."""


@dataclass(frozen=True)
class Prompt:
    """A text, and all else that its embedding depends on. A parameter that changes embeddings is a field here."""

    text: str
    loras: tuple[Lora, ...] = ()
    clip_skip: int = 0


@dataclass(frozen=True)
class Embedding:
    """The UNet's input for one text: `tokens` (77 × number of chunks, d), and `pooled` (p) of the first chunk."""

    tokens: torch.Tensor
    pooled: torch.Tensor


PromptPair = tuple[Embedding, Embedding]
"""The embeddings of a prompt and of its negative prompt."""


class PromptEncoder:
    """The tokenizers and text encoders of one pipeline. Belongs to the engine thread, except `problems`."""

    def __init__(self, pipeline: Any, device: str, capacity: int) -> None:
        """Use the encoders of `pipeline`, which are on `device`; cache up to `capacity` embeddings."""
        self._pipeline = pipeline
        self._device = device
        self._capacity = capacity
        self._cache: OrderedDict[Prompt, Embedding] = OrderedDict()
        self._tokenizer_lock = threading.Lock()
        encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        # hidden_states are the input of the first layer and the output of each.
        self._max_clip_skip = min(some.config.num_hidden_layers for some in encoders if some is not None) - 1

    def problems(self, request: ImageRequest) -> list[tuple[str, str]]:
        """What this model cannot encode: name of the parameter of `request`, and why. On any thread."""
        found = []
        if request.clip_skip > self._max_clip_skip:
            found.append(
                ("clip_skip", f"must be at most {self._max_clip_skip} layers for this model; is {request.clip_skip}")
            )
        for name in ("prompt", "negative_prompt"):
            try:
                self._tokenize([getattr(request, name)])
            except PromptTooLong as error:
                found.append((name, str(error)))
        return found

    def encode_requests(self, requests: Sequence[ImageRequest], loras: tuple[Lora, ...]) -> list[PromptPair]:
        """The embeddings of the prompts of each request, with `loras` in place.

        An empty negative prompt is zeros where the checkpoint was trained so. `clip_skip` is for the prompt alone, as
        in the diffusers pipelines. Raises InvalidRequest for a text that is too long, and for too large a `clip_skip`.
        """
        for request in requests:
            if request.clip_skip > self._max_clip_skip:
                raise InvalidRequest(*self.problems(request)[0])
        prompts = [Prompt(request.prompt, loras, request.clip_skip) for request in requests]
        positives = self._encode_named("prompt", prompts)
        negatives = self._encode_named(
            "negative_prompt",
            [
                Prompt(request.negative_prompt, loras)
                for request in requests
                if request.negative_prompt or not self._pipeline.config.force_zeros_for_empty_prompt
            ],
        )
        if len(negatives) == len(requests):
            return list(zip(positives, negatives, strict=True))
        encoded = iter(negatives)
        return [
            (positive, next(encoded) if request.negative_prompt else _zeros_like(positive))
            for request, positive in zip(requests, positives, strict=True)
        ]

    def encode(self, prompts: Sequence[Prompt]) -> list[Embedding]:
        """The embeddings of `prompts`, in order. Those not in the cache are encoded together. Raises PromptTooLong."""
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._cache]
        fresh = dict(zip(unknown, self._encode(unknown), strict=True)) if unknown else {}
        result = [fresh[prompt] if prompt in fresh else self._cache[prompt] for prompt in prompts]
        for prompt, embedding in zip(prompts, result, strict=True):
            self._cache[prompt] = embedding
            self._cache.move_to_end(prompt)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return result

    def _encode_named(self, name: str, prompts: list[Prompt]) -> list[Embedding]:
        try:
            return self.encode(prompts)
        except PromptTooLong as error:
            raise InvalidRequest(name, str(error)) from None

    @torch.no_grad()
    def _encode(self, prompts: list[Prompt]) -> list[Embedding]:
        tokenized = self._tokenize([prompt.text for prompt in prompts])
        return _embed(self._pipeline, tokenized, self._device, [prompt.clip_skip for prompt in prompts])

    def _tokenize(self, texts: list[str]) -> list[Chunks]:
        with self._tokenizer_lock:  # tokenizers are not thread-safe
            return _tokenize(self._pipeline, texts)


def embed(pipeline: Any, texts: Sequence[str], device: Any) -> list[Embedding]:
    """The embeddings of `texts`: for one chunk, what `encode_prompt` of the pipeline returns. Raises PromptTooLong.

    That method waits for the device, encodes every text twice, and leaves out all after the first chunk.
    """
    return _embed(pipeline, _tokenize(pipeline, texts), device, [0] * len(texts))


def stack(embeddings: Sequence[Embedding]) -> tuple[torch.Tensor, torch.Tensor]:
    """All as one batch: `tokens` (n, number of the longest, d) and `pooled` (n, p)."""
    longest = max(len(embedding.tokens) for embedding in embeddings)
    tokens = torch.stack([repeat_tokens(embedding.tokens, longest) for embedding in embeddings])
    return tokens, torch.stack([embedding.pooled for embedding in embeddings])


def _tokenize(pipeline: Any, texts: Sequence[str]) -> list[Chunks]:
    """The chunks of the texts, for each text encoder that there is.

    Both tokenizers have the same vocabulary, and split a text alike; they differ in the padding.
    """
    pairs = ((pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2))
    return [split_into_chunks(texts, tokenizer) for tokenizer, encoder in pairs if encoder is not None]


def _embed(pipeline: Any, tokenized: list[Chunks], device: Any, clip_skips: list[int]) -> list[Embedding]:
    encoders = [some for some in (pipeline.text_encoder, pipeline.text_encoder_2) if some is not None]
    parts = [_run(encoder, texts, device) for encoder, texts in zip(encoders, tokenized, strict=True)]
    pooled = parts[-1][0]
    embeddings, first = [], 0
    for chunks, clip_skip in zip(tokenized[-1], clip_skips, strict=True):
        end = first + len(chunks)
        tokens = torch.cat([part.hidden_states[-2 - clip_skip][first:end] for part in parts], dim=-1)
        embeddings.append(Embedding(tokens.flatten(0, 1), pooled[first]))
        first = end
    return embeddings


def _run(encoder: Any, texts: Chunks, device: Any) -> Any:
    ids = torch.tensor([chunk for chunks in texts for chunk in chunks])
    return encoder(to_device(ids, device), output_hidden_states=True)


def _zeros_like(embedding: Embedding) -> Embedding:
    return Embedding(torch.zeros_like(embedding.tokens), torch.zeros_like(embedding.pooled))
