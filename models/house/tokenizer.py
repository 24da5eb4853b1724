"""A CLIP tokenizer with its own small vocabulary, learned from captions and the names of three thousand emoji."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from models.house.captions import caption
from models.house.scenes import FULL, draw

TOKENS = 32
_VOCABULARY = 2048
_START, _END = "<|startoftext|>", "<|endoftext|>"


def train(english: Iterable[str], seed: int) -> Any:
    """Learn byte pairs from `english` and from captions; any other word falls into known pieces, never into nothing."""
    rng = random.Random(seed)
    captions = [caption(draw(rng, FULL), rng) for _ in range(20_000)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([*captions, *english], trainer)
    merges: list[Any] = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    return CLIPTokenizer(
        vocab=_numbered([*alphabet, *(symbol + "</w>" for symbol in alphabet)], merges),
        merges=merges,
        model_max_length=TOKENS,
    )


def _numbered(symbols: list[str], merges: list[tuple[str, str]]) -> dict[str, int]:
    """Token to id in CLIP's order: symbols, then merges, then the two marks."""
    tokens = dict.fromkeys([*symbols, *(left + right for left, right in merges), _START, _END])
    return {token: number for number, token in enumerate(tokens)}
