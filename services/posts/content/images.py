"""Stored images that a user names by key."""

from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.image_pb2 import StoredImage

from rpc import errors
from rpc.limits import limits
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database

_INITIAL = limits(generator_pb2.GenerateRequest, "initial_image")
_INITIAL_KEY = "parameters.initial_image.key"

IMAGE_SOURCE = "SELECT image_source FROM task_images WHERE key = $1 LIMIT 1"


def stored(image: images_pb2.Image) -> StoredImage:
    """What the database keeps of an image in storage: no URL, and whether it is in the bucket."""
    kept = StoredImage()
    kept.CopyFrom(image.image)
    kept.ClearField("url")
    kept.in_bucket = image.backend == images_pb2.IMAGE_BACKEND_S3
    return kept


class Images:
    """Finds stored images by key."""

    def __init__(self, database: Database, storage: StorageClient) -> None:
        """Ask storage for the image and the database for its source."""
        self._database = database
        self._storage = storage

    async def featured(self, key: str, alt_text: str) -> p.FeaturedImage:
        """The stored image as the image of a post.

        Raises FailedPrecondition if it does not exist, InvalidArgument for a key that storage refuses.
        """
        try:
            found = await self._storage.describe(key)
        except errors.NotFound:
            raise errors.FailedPrecondition(f"there is no image {key!r}", reason="IMAGE_NOT_FOUND") from None
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument.field("featured_image_key", error.message) from None
        source = await self._database.fetchval(IMAGE_SOURCE, key)
        return p.FeaturedImage(image=stored(found), alt_text=alt_text, image_source=source or "upload")

    async def check_initial(self, key: str) -> None:
        """Check the image that a task starts from.

        Raises FailedPrecondition if it does not exist, InvalidArgument if it is too large, Unavailable if storage does
        not answer.
        """
        try:
            found = (await self._storage.describe(key)).image
        except errors.NotFound:
            problem = errors.FieldViolation(_INITIAL_KEY, f"there is no image {key}")
            raise errors.FailedPrecondition(
                f"{problem.field}: {problem.description}", reason="IMAGE_NOT_FOUND", violations=[problem]
            ) from None
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument.field(_INITIAL_KEY, error.message) from None
        except errors.RpcError as error:
            raise errors.Unavailable(
                "storage does not say whether the initial image exists", reason="STORAGE_UNAVAILABLE"
            ) from error
        file = found.file
        if file.size_bytes > _INITIAL.max_bytes:
            raise errors.InvalidArgument.field(
                _INITIAL_KEY, f"the image must have at most {_INITIAL.max_bytes} bytes; it has {file.size_bytes}"
            )
        if file.width * file.height > _INITIAL.max_pixels:
            raise errors.InvalidArgument.field(
                _INITIAL_KEY,
                f"the image must have at most {_INITIAL.max_pixels} pixels; it is {file.width} x {file.height}",
            )
