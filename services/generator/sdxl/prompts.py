"""Prompts to embeddings, with the most recent ones kept: the same negative prompt comes with every request."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.generator.sdxl.device_sync import to_device
from services.generator.sdxl.prompt_chunks import cut, widen


@dataclass(frozen=True)
class Embedding:
    """What the UNet is told of one text: `tokens` (77 for each of its chunks, d) and `pooled` (p) of the first."""

    tokens: torch.Tensor
    pooled: torch.Tensor


class PromptEncoder:
    """The text encoders of one pipeline. Not thread-safe: neither are the tokenizers."""

    def __init__(self, pipeline: Any, device: str, capacity: int) -> None:
        """Use the encoders of `pipeline`, which are on `device`; keep up to `capacity` embeddings."""
        self._pipeline = pipeline
        self._device = device
        self._capacity = capacity
        self._known: OrderedDict[tuple[str, Hashable], Embedding] = OrderedDict()

    def encode(self, texts: Sequence[str], variant: Hashable = ()) -> list[Embedding]:
        """The embeddings of `texts`, in order; those not known are encoded together.

        `variant` tells apart what the encoders' weights are at the time: LoRAs change them. Raises PromptTooLong.
        """
        unknown = [text for text in dict.fromkeys(texts) if (text, variant) not in self._known]
        fresh = dict(zip(unknown, self._encode(unknown), strict=True)) if unknown else {}
        result = [fresh[text] if text in fresh else self._known[text, variant] for text in texts]
        for text, embedding in zip(texts, result, strict=True):
            self._known[text, variant] = embedding
            self._known.move_to_end((text, variant))
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return result

    def encode_negative(
        self, texts: Sequence[str], like: Sequence[Embedding], variant: Hashable = ()
    ) -> list[Embedding]:
        """The embeddings to guide away from; an empty text is zeros where the checkpoint was trained so."""
        if not self._pipeline.config.force_zeros_for_empty_prompt:
            return self.encode(texts, variant)
        given = iter(self.encode([text for text in texts if text], variant))
        return [
            next(given) if text else Embedding(torch.zeros_like(some.tokens), torch.zeros_like(some.pooled))
            for text, some in zip(texts, like, strict=True)
        ]

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> list[Embedding]:
        return embed(self._pipeline, texts, self._device)


def embed(pipeline: Any, texts: Sequence[str], device: Any) -> list[Embedding]:
    """What the pipeline's own `encode_prompt` answers, for texts of one chunk. Raises PromptTooLong.

    That method waits for the device, reads every text twice, and leaves out what comes after the first chunk.
    """
    pairs = ((pipeline.tokenizer, pipeline.text_encoder), (pipeline.tokenizer_2, pipeline.text_encoder_2))
    # Both tokenizers know the same words, and cut every text alike; only what they pad with differs.
    cuts = [(cut(texts, tokenizer), encoder) for tokenizer, encoder in pairs if encoder is not None]
    parts = [_read(chunks, encoder, device) for chunks, encoder in cuts]
    tokens = torch.cat([part.hidden_states[-2] for part in parts], dim=-1)
    pooled = parts[-1][0]
    embeddings, first = [], 0
    for chunks in cuts[-1][0]:
        end = first + len(chunks)
        embeddings.append(Embedding(tokens[first:end].flatten(0, 1), pooled[first]))
        first = end
    return embeddings


def stack(embeddings: Sequence[Embedding]) -> tuple[torch.Tensor, torch.Tensor]:
    """All as one batch: `tokens` (n, those of the longest, d) and `pooled` (n, p)."""
    longest = max(len(embedding.tokens) for embedding in embeddings)
    tokens = torch.stack([widen(embedding.tokens, longest) for embedding in embeddings])
    return tokens, torch.stack([embedding.pooled for embedding in embeddings])


def _read(texts: list[list[list[int]]], encoder: Any, device: Any) -> Any:
    ids = torch.tensor([chunk for chunks in texts for chunk in chunks])
    return encoder(to_device(ids, device), output_hidden_states=True)
