"""Two stored images, and the first author and category."""

import pytest
from frontispiece.posts.v1 import posts_pb2 as p

from tests.posts.conftest import Client
from tests.posts.content.calls import KEY
from tests.posts.leaves import ScriptedStorage


@pytest.fixture
def images(storage: ScriptedStorage) -> str:
    """Two stored images; the key of the first."""
    for name in (KEY, "generated/2-y.png"):
        storage.put(name, b"x", 64, 32)
    return KEY


@pytest.fixture
async def taxonomy(idle: Client) -> dict[str, str]:
    """The ids of the first author and category."""
    (author,) = (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors
    (category,) = (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories
    return {"author_id": author.id, "category_id": category.id}
