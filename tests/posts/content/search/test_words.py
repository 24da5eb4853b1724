"""Words of posts and queries: whatever a title says is found, whole and by part, in every script, at a bounded cost."""

import asyncio
import random
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content.search.words import MAX_WORDS, fold, lexemes, terms, tsquery

MATCHES = "SELECT array_to_tsvector($1::text[]) @@ $2::text::tsquery"


def query(text: str) -> str | None:
    """The tsquery of a text."""
    chosen = terms(text)
    return None if chosen is None else tsquery(chosen)


async def found(sql: Any, text: str, words: str) -> bool:
    """Whether a post with this text is found by these words."""
    return bool(await sql.fetchval(MATCHES, lexemes("", text), query(words)))


TEXT = (
    "Life after COVID-19. The CVE-2026-2332 note of 2024-05-01, see example.com/path and foo.png; sea/shore, GPT-4o and"
    " SDXL-1.0, v2.5 price 3.50, well-known snake_case, e-mail to ana@example.org, 1e5 0x1F -7 +49 a's O'Neil ﬁsh ¾"
)


@pytest.mark.parametrize(
    "words",
    [
        "covid-19",
        "COVID",
        "19",
        "cve-2026-2332",
        "2332",
        "2024-05-01",
        "05",
        "example.com",
        "com",
        "path",
        "example.com/path",
        "foo.png",
        "png",
        "sea/shore",
        "shore",
        "gpt-4o",
        "4o",
        "sdxl-1.0",
        "1.0",
        "v2.5",
        "3.50",
        "50",
        "well-known",
        "known",
        "snake_case",
        "case",
        "e-mail",
        "ana@example.org",
        "example.org",
        "1e5",
        "0x1f",
        "-7",
        "7",
        "+49",
        "49",
        "o'neil",
        "neil",
        "fish",
        "FISH",
        "cov",
        "after_life",
    ],
)
async def test_a_word_of_the_text_is_found(sql: Any, words: str) -> None:
    assert await found(sql, TEXT, words)


@pytest.mark.parametrize("words", ["ovid", "covid-77", "2025", "ample", "!!!", "'", "- - -", "GPT4"])
async def test_other_words_are_not_found(sql: Any, words: str) -> None:
    assert not await found(sql, TEXT, words)


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("東京の夜", "東京", True),
        ("東京の夜", "夜", True),
        ("東京の夜", "京の", True),
        ("東京の夜", "東の", False),
        ("東京の夜", "朝", False),
        ("新闻和天气", "天气", True),
        ("カメラと写真", "ｶﾒﾗ", True),
        ("がくせい", "かくせい", False),
        ("안녕하세요 세계", "하세", True),
        ("สวัสดีชาวโลก", "ชาวโลก", True),
        ("हिन्दी में समाचार", "समाचार", True),
        ("हिन्दी", "हिन्दी", True),
        ("Новости дня", "НОВОСТИ", True),
        ("Ελληνικά", "ελληνικα", True),
        ("مَرْحَبًا بالعالم", "مرحبا", True),
        ("Größe", "GRÖSSE", True),
        ("Łódź", "łódz", True),
        ("GPT東京", "gpt", True),
        ("GPT東京", "東京", True),
        ("İstanbul", "istanbul", True),
    ],
)
async def test_scripts(sql: Any, text: str, words: str, expected: bool) -> None:
    assert await found(sql, text, words) is expected


async def test_every_part_of_a_text_is_found(sql: Any) -> None:
    """Random texts of letters, digits, signs and scripts; parts cut at spaces, and at random in unspaced scripts."""
    chance = random.Random(20261128)
    letters = "abcdeÄéñßøКлжαβ中文字東京のカナ한국0123456789-._/'@+:;,!?()&|*<>\\\"\u00ad\u200b"
    for _ in range(300):
        words = ["".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(chance.randint(1, 12))]
        part = " ".join(chance.sample(words, min(3, len(words))))
        if query(part):
            assert await found(sql, " ".join(words), part), (words, part)


def test_a_blank_query_lists_everything_and_one_without_letters_nothing() -> None:
    assert query("  \n") is None
    assert query("!?") == ""


@pytest.mark.parametrize(
    "text",
    ["b " * 100, " ".join("abcdefghijklmnopqrstuvwxyz"), " ".join(f"{a}{b}" for a in "abcdef" for b in "abcdef")],
)
def test_a_hostile_query_has_few_words_and_no_prefix_of_one_letter(text: str) -> None:
    terms = str(query(text)).split(" & ")
    assert len(terms) <= MAX_WORDS
    assert len(set(terms)) == len(terms)
    assert not any(len(term) < 6 and term.endswith(":*") for term in terms)  # 'b':* has five characters


def test_a_single_letter_counts_only_alone() -> None:
    assert query("a fox") == "'fox':*"
    assert query("a 1") == "'a' & '1'"


@pytest.mark.parametrize(
    "text", ["中" * 100_000, "字東" * 50_000, "\U0001f9ea" * 100_000, "x" * 100_000, "é" * 100_000]
)
async def test_the_longest_texts_fit_into_a_tsvector(sql: Any, text: str) -> None:
    await sql.fetchval("SELECT length(array_to_tsvector($1::text[]))", lexemes("title", text))


async def test_a_long_text_of_different_characters_fits_into_a_tsvector(sql: Any) -> None:
    chance = random.Random(5)
    for low, high in ((0x4E00, 0x9FFF), (0x20000, 0x2A6DF), (0xAC00, 0xD7A3)):
        text = "".join(chr(chance.randint(low, high)) for _ in range(100_000))
        await sql.fetchval("SELECT length(array_to_tsvector($1::text[]))", lexemes("", text))


def test_folding_is_stable() -> None:
    for text in ("ÀÉÎ Straße ﬁ ½ Ⅷ ＡＢ", "が", "한국어", "İ"):
        assert fold(fold(text)) == fold(text)


async def test_searches_take_no_connection_from_editors(idle: Any, sql: Any) -> None:
    """While every connection for searches is busy, lists and editors go on."""
    async with sql.transaction():
        await sql.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        searches = [idle.posts.ListPosts(p.ListPostsRequest(query="fox"), timeout=20) for _ in range(8)]
        await asyncio.sleep(0)
        created = await idle.create()
        assert (await idle.get(created.id)).id == created.id
        assert (await idle.posts.ListTags(p.ListTagsRequest(), timeout=5)).tags is not None
        results = await asyncio.gather(*searches, return_exceptions=True)
    codes = {result.code() for result in results if isinstance(result, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    assert (await idle.posts.ListPosts(p.ListPostsRequest(query="fox"), timeout=5)).posts is not None
