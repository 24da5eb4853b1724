"""The picture of a post that is made by hand: what storage and the record know about a key."""

from rpc import errors
from services.posts.clients import StorageClient
from services.posts.database import Database
from services.posts.models import FeaturedImage

IMAGE_SOURCE = "SELECT image_source FROM task_images WHERE key = $1 LIMIT 1"


class Pictures:
    """Finds stored images by key."""

    def __init__(self, record: Database, storage: StorageClient) -> None:
        """Ask these two."""
        self._record = record
        self._storage = storage

    async def find(self, key: str, alt_text: str) -> FeaturedImage:
        """The stored image under `key`. Raises FailedPrecondition when there is none, InvalidArgument for a bad key."""
        try:
            stored = await self._storage.describe(key)
        except errors.NotFound:
            raise errors.FailedPrecondition(f"there is no image {key!r}", reason="IMAGE_NOT_FOUND") from None
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument.field("featured_image_key", error.message) from None
        known = await self._record.fetchval(IMAGE_SOURCE, key)
        return FeaturedImage(
            key=stored.key,
            url=stored.url,
            alt_text=alt_text,
            width=stored.width,
            height=stored.height,
            thumbhash=stored.thumbhash,
            image_source=known or ("sdxl-s3" if stored.is_in_s3 else "sdxl-local"),
        )
