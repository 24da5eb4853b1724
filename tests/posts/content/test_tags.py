"""posts.tags always equals the names in post_tags, whatever is written at the same time."""

import asyncio
import functools
import random
import uuid
from typing import Any

import asyncpg
import pytest
from frontispiece.posts.v1.posts_pb2 import CreatePostRequest, FeaturedImage
from frontispiece.types.v1.image_pb2 import StoredImage

from rpc import errors
from services.posts.content.repository import Posts
from services.posts.content.tags import distinct
from services.posts.content.texts.deriving import running
from services.posts.database.database import Database, connected
from services.posts.models import NewPost, PostChange, PostFilter
from tests.posts.conftest import ADDRESSES

IMAGE = FeaturedImage(image=StoredImage(key="generated/1-x.png"), alt_text="alt", image_source="upload")
NAMES = [f"tag {number}" for number in range(12)]
EDITS = 80

DRIFTED = """
SELECT p.id, p.tags, j.names FROM posts p, LATERAL (SELECT ARRAY(
    SELECT g.name FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE pt.post_id = p.id ORDER BY pt.position
) AS names) j
WHERE p.tags <> j.names
"""


@pytest.mark.usefixtures("own_database")
async def test_concurrent_edits_keep_tags_equal(record_url: str) -> None:
    """Editors through the service and people with SQL, all at the same few posts; every snapshot is right."""
    seed = random.randrange(2**32)
    print("seed", seed)
    done: dict[str, int] = {}
    await shorten_deadlocks(record_url)
    async with connected(record_url, "test", size=10, wait_seconds=5) as database, running(()) as texts:
        posts = Posts(database, texts, ADDRESSES)
        for number in range(4):
            await posts.create("ada", CreatePostRequest(), draft(f"Post {number}", random.Random(seed + number)), IMAGE)
        tagged: list[int] = []
        checking = asyncio.create_task(check_until_cancelled(database, tagged))
        editor = functools.partial(edit, posts)
        workers = (editor, editor, editor, editor, write_sql, write_sql, rename, rename)
        await asyncio.gather(
            *(work(worker, database, random.Random(seed * 10 + n), done) for n, worker in enumerate(workers))
        )
        checking.cancel()
        [checked] = await asyncio.gather(checking, return_exceptions=True)
        assert isinstance(checked, asyncio.CancelledError), checked
        assert await database.fetch(DRIFTED) == []
        assert max(tagged) > 0
        # Conflicts are allowed; a test in which nearly everything is refused would show nothing.
        assert {name: count for name, count in done.items() if count < EDITS} == {}, done


async def shorten_deadlocks(url: str) -> None:
    """Renames and edits lock tags and posts in opposite orders; PostgreSQL looks for that after a second."""
    connection = await asyncpg.connect(url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET deadlock_timeout = 20')
    await connection.close()


async def work(worker: Any, database: Database, chance: random.Random, done: dict[str, int]) -> None:
    for _ in range(EDITS):
        try:
            await worker(database, chance)
        except (errors.RpcError, asyncpg.IntegrityConstraintViolationError):
            continue
        name = getattr(worker, "func", worker).__name__
        done[name] = done.get(name, 0) + 1


async def check_until_cancelled(database: Database, tagged: list[int]) -> None:
    """Append to `tagged` the number of posts with tags in each snapshot: the last edits may have removed them all."""
    while True:
        assert await database.fetch(DRIFTED) == []
        tagged.append(await database.fetchval("SELECT count(*) FROM posts WHERE tags <> '{}'"))
        await asyncio.sleep(0.01)


async def edit(posts: Posts, database: Database, chance: random.Random) -> None:
    """What editors do."""
    post_id = await any_post(database, chance)
    what = chance.random()
    if what < 0.1:
        await posts.create("ada", CreatePostRequest(), draft("New", chance), IMAGE)
    elif what < 0.2 and await database.fetchval("SELECT count(*) FROM posts") > 3:
        await posts.delete(post_id)
    else:
        changed = await posts.update("bo", post_id, "", PostChange(tags=chosen(chance)))
        assert all(name.startswith("tag ") for name in changed.tags)


async def write_sql(database: Database, chance: random.Random) -> None:
    """What a person with SQL may do, without a lock on the post and many posts at a time."""
    post_id = await any_post(database, chance)
    statement, *values = chance.choice(
        [
            (
                "INSERT INTO post_tags SELECT $1, id, $2::int FROM tags ORDER BY random() LIMIT 1",
                post_id,
                chance.randrange(8),
            ),
            ("DELETE FROM post_tags WHERE post_id = $1 AND position = $2::int", post_id, chance.randrange(8)),
            ("UPDATE post_tags SET position = 7 - position WHERE post_id = $1 AND position >= $2::int", post_id, 4),
            ("DELETE FROM post_tags WHERE tag_id IN (SELECT id FROM tags ORDER BY random() LIMIT 1)",),
            (
                "INSERT INTO post_tags SELECT p.id, g.id, $1 FROM posts p,"
                " (SELECT id FROM tags ORDER BY random() LIMIT 1) g ON CONFLICT DO NOTHING",
                chance.randrange(8),
            ),
        ]
    )

    async def written(connection: Any) -> None:
        await connection.execute(statement, *values)
        await asyncio.sleep(chance.random() / 200)  # others come in between

    await database.transaction(written)


async def rename(database: Database, chance: random.Random) -> None:
    """A tag gets another name. No call of ours does that, but a person with SQL may."""

    async def renamed(connection: Any) -> None:
        await connection.execute(
            "UPDATE tags SET name = $1 WHERE id IN (SELECT id FROM tags ORDER BY random() LIMIT 1)",
            f"tag {uuid.UUID(int=chance.getrandbits(128))}",
        )
        await asyncio.sleep(chance.random() / 200)

    await database.transaction(renamed)


async def any_post(database: Database, chance: random.Random) -> uuid.UUID:
    ids = [row["id"] for row in await database.fetch("SELECT id FROM posts ORDER BY create_time LIMIT 6")]
    return chance.choice(ids)


def draft(title: str, chance: random.Random) -> NewPost:
    return NewPost(title, tags=chosen(chance))


def chosen(chance: random.Random) -> tuple[str, ...]:
    return tuple(chance.sample(NAMES, chance.randint(0, 5)))


async def test_tag_that_waits_for_another_transaction_is_not_lost(record_url: str, sql: Any) -> None:
    """Two statements give a post one tag each; the second begins before the first is committed."""
    async with connected(record_url, "test", size=4, wait_seconds=5) as database, running(()) as texts:
        post = await Posts(database, texts, ADDRESSES).create("ada", CreatePostRequest(), NewPost("One"), IMAGE)
        await database.execute("INSERT INTO tags (name) VALUES ('first'), ('second')")
        add = "INSERT INTO post_tags SELECT $1, id, $2 FROM tags WHERE name = $3"
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute(add, uuid.UUID(post.id), 0, "first")
        second = asyncio.create_task(database.execute(add, uuid.UUID(post.id), 1, "second"))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'test'"
        while not await database.fetchval(waiting):
            await asyncio.sleep(0.01)
        await transaction.commit()
        await second
        assert await database.fetchval("SELECT tags FROM posts") == ["first", "second"]


async def test_changed_position_or_name_changes_the_tags(record_url: str) -> None:
    async with connected(record_url, "test", size=2, wait_seconds=5) as database, running(()) as texts:
        posts = Posts(database, texts, ADDRESSES)
        post = await posts.create("ada", CreatePostRequest(), NewPost("One", tags=("b", "a")), IMAGE)
        await database.execute(
            "UPDATE post_tags SET position = 5 WHERE tag_id = (SELECT id FROM tags WHERE name = 'b')"
        )
        assert (await posts.get(uuid.UUID(post.id), include_drafts=True)).tags == ["a", "b"]
        await database.execute("UPDATE tags SET name = upper(name)")
        assert (await posts.get(uuid.UUID(post.id), include_drafts=True)).tags == ["A", "B"]
        assert (await posts.list(PostFilter(tag="A"), 10, "")).posts[0].id == post.id
        other = await posts.create("ada", CreatePostRequest(), NewPost("Two"), IMAGE)
        await database.execute("UPDATE post_tags SET post_id = $1 WHERE position = 5", uuid.UUID(other.id))
        assert [list(post.tags) for post in (await posts.list(PostFilter(), 10, "")).posts] == [["B"], ["A"]]


class TestIdentity:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Sea", "SEA"),
            ("Émile", "ÉMILE"),
            ("ﬁsh", "FISH"),
            ("straße", "STRASSE"),
            ("ｗｉｄｅ", "wide"),
            ("a  b", "A B"),
        ],
        ids=["case", "accent", "ligature", "german", "width", "spaces"],
    )
    async def test_spellings_of_a_tag_are_one_and_the_first_is_shown(
        self, record_url: str, one: str, other: str
    ) -> None:
        async with connected(record_url, "test", size=2, wait_seconds=5) as database, running(()) as texts:
            posts = Posts(database, texts, ADDRESSES)
            for name in (one, other):
                post = await posts.create("ada", CreatePostRequest(), NewPost("One", tags=(name,)), IMAGE)
                assert post.tags == [one]
            for name in (one, other):
                assert len((await posts.list(PostFilter(tag=name), 10, "")).posts) == 2
            assert await database.fetchval("SELECT count(*) FROM tags") == 1

    async def test_tag_of_an_earlier_version_has_an_identity(self, record_url: str) -> None:
        """A process of the version before may still run while the database has the new tables."""
        async with connected(record_url, "test", size=2, wait_seconds=5) as database, running(()) as texts:
            await database.execute("INSERT INTO tags (name) VALUES ('Old  SEA') ON CONFLICT DO NOTHING")
            await database.execute("INSERT INTO tags (name) VALUES ('old sea') ON CONFLICT DO NOTHING")
            new = NewPost("One", tags=("OLD sea",))
            post = await Posts(database, texts, ADDRESSES).create("ada", CreatePostRequest(), new, IMAGE)
            assert post.tags == ["Old  SEA"]

    def test_names_that_people_tell_apart_stay_apart(self) -> None:
        assert distinct(["resume", "résumé", "c", "c++", "C", "C#"]) == ("resume", "résumé", "c", "c++", "C#")
