"""The plan of a shape gives the documents that the shape itself gives."""

import orjson
import pytest
from frontispiece.posts.v1 import posts_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from gateway.schemas import post_documents, posts
from gateway.schemas.documents import Plan, time

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.builds(Timestamp, seconds=st.integers(0, 2**33), nanos=st.integers(0, 999_999_999))


@st.composite
def messages(draw: st.DrawFn) -> posts_pb2.Post:
    """A post with all fields, some of them empty."""
    made = posts_pb2.Post(state=draw(st.sampled_from([1, 2])), tags=draw(st.lists(TEXTS, max_size=3)))
    for name in ("id", "slug", "title", "content", "task_id", "created_by", "updated_by", "etag", "excerpt", "html"):
        setattr(made, name, draw(TEXTS))
    for person in (made.author, made.category):
        person.id, person.slug, person.name = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    made.featured_image.alt_text = draw(TEXTS)
    image = made.featured_image.image
    image.url, image.key, image.thumbhash = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    image.file.width, image.file.height = draw(st.integers(0, 9000)), draw(st.integers(0, 9000))
    made.create_time.CopyFrom(draw(TIMES))
    made.update_time.CopyFrom(draw(TIMES))
    if draw(st.booleans()):
        made.publish_time.CopyFrom(draw(TIMES.filter(lambda one: one.seconds)))
    return made


@given(messages(), st.booleans())
def test_a_post_is_that_of_its_shape(message: posts_pb2.Post, editor: bool) -> None:
    document = post_documents.post_document(message, editor=editor)
    assert document == posts.post(message, editor=editor).model_dump()
    assert list(document) == list(posts.Post.model_fields)
    assert orjson.loads(orjson.dumps(document)) == document


@pytest.mark.parametrize(
    ("plan", "message", "shape"),
    [
        (
            post_documents.author_document,
            posts_pb2.Author(id="1", slug="a", name="A", is_default=True),
            posts.ListedAuthor,
        ),
        (post_documents.category_document, posts_pb2.Category(id="1", slug="a", name="A"), posts.ListedCategory),
        (post_documents.tag_document, posts_pb2.Tag(name="sea", post_count=4), posts.TagCount),
    ],
    ids=["author", "category", "tag"],
)
def test_lists_are_those_of_their_shapes(plan: Plan, message: posts_pb2.Author, shape: type[posts.Author]) -> None:
    assert plan(message) == shape.from_messages(message).model_dump()


@given(TIMES)
def test_a_time_is_written_as_protobuf_writes_it(moment: Timestamp) -> None:
    assert time(moment) == moment.ToJsonString()


def test_a_field_that_the_message_does_not_have_is_refused_at_once() -> None:
    with pytest.raises(KeyError):
        Plan(posts.FeaturedImage, posts_pb2.FeaturedImage)
