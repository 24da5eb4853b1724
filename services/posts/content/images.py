"""Pictures that a caller names by key: what storage and the record know about them."""

from dataclasses import replace

from rpc import errors
from services.posts.clients.storage import StorageClient, StoredImage
from services.posts.database.database import Database
from services.posts.models import FeaturedImage, Parameters
from services.posts.validation import MAX_INITIAL_BYTES, MAX_INITIAL_PIXELS

_INITIAL_KEY = "parameters.initial_image.key"

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
            image_source=known or "upload",
        )

    async def checked(self, parameters: Parameters) -> Parameters:
        """`parameters` with the URL of the image to begin from, if there is one.

        Raises FailedPrecondition when it is not in storage, InvalidArgument for one that no generator takes,
        Unavailable when storage does not say.
        """
        initial = parameters.initial_image
        if initial is None:
            return parameters
        try:
            stored = await self._storage.describe(initial.key)
        except errors.NotFound:
            problem = errors.FieldViolation(_INITIAL_KEY, f"there is no image {initial.key}")
            raise errors.FailedPrecondition(
                f"{problem.field}: {problem.description}", reason="IMAGE_NOT_FOUND", violations=[problem]
            ) from None
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument.field(_INITIAL_KEY, error.message) from None
        except errors.RpcError as error:
            raise errors.Unavailable(
                "storage does not say whether it has the image to begin from", reason="STORAGE_UNAVAILABLE"
            ) from error
        _check_size(stored)
        return replace(parameters, initial_image=replace(initial, url=stored.url))


def _check_size(stored: StoredImage) -> None:
    if stored.size_bytes > MAX_INITIAL_BYTES:
        raise errors.InvalidArgument.field(
            _INITIAL_KEY, f"the image must have at most {MAX_INITIAL_BYTES} bytes, has {stored.size_bytes}"
        )
    if stored.width * stored.height > MAX_INITIAL_PIXELS:
        raise errors.InvalidArgument.field(
            _INITIAL_KEY,
            f"the image must have at most {MAX_INITIAL_PIXELS} pixels, is {stored.width} x {stored.height}",
        )
