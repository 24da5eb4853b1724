"""The ways of a search: whichever is taken, the posts are the same."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content.search import periods, searches
from services.posts.content.search.frequencies import Frequencies
from services.posts.content.search.words import Term
from tests.posts.conftest import Client

FILL = """
WITH made AS (
    INSERT INTO posts (id, slug, state, title, content, featured_image, author_id, category_id, created_by, updated_by,
        create_time, publish_time, search)
    SELECT gen_random_uuid(), 'p-' || n, CASE WHEN n % 5 = 0 THEN 'draft' ELSE 'published' END, 'Post ' || n, '',
        '{"image": {"key": "k", "url": "u"}}',
        (SELECT id FROM authors LIMIT 1), (SELECT id FROM categories LIMIT 1), 'x', 'x',
        t.time, CASE WHEN n % 5 <> 0 THEN t.time END,
        array_to_tsvector(array_remove(ARRAY['all', 'n' || n, CASE WHEN n % 3 = 0 THEN 'third' END,
            CASE WHEN n % 3 = 1 THEN 'other' END, CASE WHEN n % 20 = 0 THEN 'twentieth' END], NULL))
    FROM generate_series(1, 300) n, LATERAL (
        SELECT timestamptz '2026-01-01' + n * n * interval '20 minutes' + (n % 7) * interval '1 second' AS time
    ) t
    RETURNING id, slug
), tag AS (INSERT INTO tags (name, identity) VALUES ('even', 'even') RETURNING id)
INSERT INTO post_tags (post_id, tag_id, position)
SELECT made.id, tag.id, 0 FROM made, tag WHERE substr(slug, 3)::integer % 2 = 0
"""

QUERIES: dict[str, Any] = {
    "all": lambda n: True,
    "third": lambda n: n % 3 == 0,
    "third other": lambda n: False,
    "twentieth": lambda n: n % 20 == 0,
    "all twentieth": lambda n: n % 20 == 0,
    "third twentieth": lambda n: n % 60 == 0,
    "n17": lambda n: n == 17 or 170 <= n < 180,
    "nowhere": lambda n: False,
}


@pytest.mark.parametrize(
    ("looked", "look_costs", "few", "analyzed"),
    [
        pytest.param(50, 0.0, 1000, True, id="looks"),
        pytest.param(4, 15.0, 0, True, id="newest of the index"),
        pytest.param(1000, 15.0, 1000, True, id="index"),
        pytest.param(50, 0.0, 0, True, id="looks, then the index"),
        pytest.param(50, 0.0, 10, False, id="no statistics"),
    ],
)
async def test_every_way_finds_the_same(
    idle: Client, sql: Any, monkeypatch: pytest.MonkeyPatch, looked: int, look_costs: float, few: int, analyzed: bool
) -> None:
    monkeypatch.setattr(searches, "LOOKED", looked)
    monkeypatch.setattr(searches, "_FEW", few)
    monkeypatch.setattr(searches, "_LOOK", look_costs)
    monkeypatch.setattr(searches, "_SPARE", 1)
    await sql.execute(FILL)
    if analyzed:
        await sql.execute("ANALYZE posts")
    else:
        await sql.execute("DELETE FROM pg_statistic WHERE starelid = 'posts'::regclass")
    for query, matches in QUERIES.items():
        for tag in ("", "even"):
            for state, wanted in ((p.POST_STATE_PUBLISHED, (1, 2, 3, 4)), (p.POST_STATE_UNSPECIFIED, (0, 1, 2, 3, 4))):
                numbers = [n for n in range(300, 0, -1) if matches(n) and n % 5 in wanted and (not tag or n % 2 == 0)]
                request = p.ListPostsRequest(query=query, state=state, tag=tag, page_size=7)
                found: list[str] = []
                while True:
                    page = await idle.posts.ListPosts(request, timeout=10)
                    found += [post.slug for post in page.posts]
                    if not page.next_page_token:
                        break
                    request.page_token = page.next_page_token
                assert found == [f"p-{n}" for n in numbers], (query, tag, state)


class TestPeriods:
    async def test_posts_have_the_numbers_that_cover_their_time(self, sql: Any) -> None:
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        origin = datetime(2000, 1, 1, tzinfo=UTC)
        for _ in range(200):
            first, more = origin + timedelta(hours=chance.uniform(0, 5e5)), 10 ** chance.uniform(-2, 5)
            last = first + timedelta(hours=more)
            numbers = set(periods.covering(first, last))
            assert len(numbers) < 100
            hours = [first, last, first + (last - first) * chance.random()]
            outside = [first - timedelta(hours=1), last + timedelta(hours=1)]
            for moment, wanted in [(one, 1) for one in hours] + [(one, 0) for one in outside]:
                assert len(numbers & set(await sql.fetchval("SELECT periods_of($1)", moment))) == wanted


class TestFrequencies:
    frequencies = Frequencies(1000, {"sea": 0.5, "seal": 0.1, "season": 0.1, "set": 0.02})

    @pytest.mark.parametrize(
        ("term", "share"),
        [
            (Term("sea"), 0.5),
            (Term("sea", begins=True), 1 - 0.5 * 0.9 * 0.9),
            (Term("seal", begins=True), 0.1),
            (Term("se", begins=True), 1 - 0.5 * 0.9 * 0.9 * 0.98),
            (Term("other"), 0.001),
            (Term("other", begins=True), 0.001),
        ],
    )
    def test_shares(self, term: Term, share: float) -> None:
        assert self.frequencies.share(term) == pytest.approx(share)

    def test_without_statistics_every_word_is_asked_of_the_index(self) -> None:
        words = [Term("a"), Term("sea", begins=True)]
        assert searches.rarest(words, Frequencies()) == words

    def test_the_index_is_not_asked_for_a_word_that_is_frequent_beside_a_rare_one(self) -> None:
        words = [Term("sea"), Term("other")]
        assert searches.rarest(words, self.frequencies) == [Term("other")]
