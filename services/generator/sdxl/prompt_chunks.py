"""Splits texts of any length into chunks that a CLIP text encoder accepts.

CLIP accepts 77 tokens, of which two mark the beginning and the end. A longer text is encoded in chunks of 75 tokens,
and the outputs are concatenated: the cross-attention of the UNet accepts any number of tokens. A word is not split
between two chunks.
"""

from collections.abc import Sequence
from typing import Any

import torch

COUNTS = (1, 2, 4, 8, 16, 32)
"""The possible numbers of chunks; a text is padded with empty chunks. Each divides the next, see `repeat_tokens`.

The largest holds 2,000 characters of English with the vocabulary of SDXL, and mostly with that of the default model.
"""

_WORD_END = "</w>"


class PromptTooLong(Exception):
    """The text has more tokens than the chunks hold. The message names both numbers."""


def split_into_chunks(texts: Sequence[str], tokenizer: Any) -> list[list[list[int]]]:
    """For each text its chunks, for each chunk its token ids with marks and padding. Raises PromptTooLong."""
    encoded = tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False)
    return [[_frame(ids, tokenizer) for ids in _split(ids, tokenizer)] for ids in encoded.input_ids]


def repeat_tokens(tokens: torch.Tensor, length: int) -> torch.Tensor:
    """`tokens` (n, d) repeated to (length, d), so that texts of different lengths fit into one batch.

    Attention to a text that is repeated k times equals attention to the text: each weight is split into k equal parts.
    """
    return tokens if len(tokens) == length else tokens.repeat(length // len(tokens), 1)


def _split(ids: list[int], tokenizer: Any) -> list[list[int]]:
    room = tokenizer.model_max_length - 2
    rest, parts = ids, []
    while len(rest) > room:
        words = tokenizer.convert_ids_to_tokens(rest[:room])
        # A word longer than a chunk is split.
        end = next((place for place in range(room, 0, -1) if words[place - 1].endswith(_WORD_END)), room)
        parts.append(rest[:end])
        rest = rest[end:]
    parts.append(rest)
    count = next((count for count in COUNTS if count >= len(parts)), None)
    if count is None:
        most = COUNTS[-1] * room
        raise PromptTooLong(f"must have at most about {most} tokens for this model; has {len(ids)} tokens")
    return [*parts, *[[]] * (count - len(parts))]


def _frame(ids: list[int], tokenizer: Any) -> list[int]:
    padding = [tokenizer.pad_token_id] * (tokenizer.model_max_length - 2 - len(ids))
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
