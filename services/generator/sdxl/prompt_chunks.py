"""Texts of any length, cut into chunks that a CLIP text encoder can read.

CLIP reads 77 tokens, two of them marks. A longer text is read in chunks of 75, and what the encoder says of them is put
one after the other: the UNet's cross-attention takes any number of tokens. No word is torn apart at the end of a chunk.
"""

from collections.abc import Sequence
from typing import Any

import torch

COUNTS = (1, 2, 4, 8, 16, 32)
"""How many chunks a text may become; it is filled up with empty ones. Each count divides the next, see `repeat_tokens`.

The largest holds every 2,000 characters of English with SDXL's vocabulary, and most with the house model's small one.
"""

_WORD_END = "</w>"


class PromptTooLong(Exception):
    """The text has more tokens than the chunks hold; the message says how many."""


def split_into_chunks(texts: Sequence[str], tokenizer: Any) -> list[list[list[int]]]:
    """For each text its chunks, for each chunk its token ids with the marks and the padding. Raises PromptTooLong."""
    encoded = tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False, verbose=False)
    return [[_frame(ids, tokenizer) for ids in _split(ids, tokenizer)] for ids in encoded.input_ids]


def repeat_tokens(tokens: torch.Tensor, length: int) -> torch.Tensor:
    """`tokens` (n, d) repeated to (length, d), so that rows of different lengths fit into one batch.

    Attention to a text that is there k times is attention to the text: each of its weights is split into k equal parts.
    """
    return tokens if len(tokens) == length else tokens.repeat(length // len(tokens), 1)


def _split(ids: list[int], tokenizer: Any) -> list[list[int]]:
    room = tokenizer.model_max_length - 2
    rest, parts = ids, []
    while len(rest) > room:
        words = tokenizer.convert_ids_to_tokens(rest[:room])
        # A word longer than a chunk is torn all the same.
        end = next((place for place in range(room, 0, -1) if words[place - 1].endswith(_WORD_END)), room)
        parts.append(rest[:end])
        rest = rest[end:]
    parts.append(rest)
    count = next((count for count in COUNTS if count >= len(parts)), None)
    if count is None:
        raise PromptTooLong(f"is {len(ids)} tokens long, must be at most about {COUNTS[-1] * room} for this model")
    return [*parts, *[[]] * (count - len(parts))]


def _frame(ids: list[int], tokenizer: Any) -> list[int]:
    padding = [tokenizer.pad_token_id] * (tokenizer.model_max_length - 2 - len(ids))
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
