"""Addresses of ours: the URL of each image in a response, and absolute URLs in texts.

The database keeps the keys of images. A URL is made when a message leaves the service, from the settings of now.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import TypeVar

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1.generation_pb2 import GenerationParameters
from frontispiece.types.v1.image_pb2 import StoredImage

from rpc.image_urls import MEDIA_PATH, ImageUrls, ImageUrlSettings
from services.posts.content.etags import etag
from services.posts.database.database import Connection, Database
from services.posts.models import NewPost, PostChange

WrittenT = TypeVar("WrittenT", NewPost, PostChange)

KEY_PREFIX = "generated/"
"""How the key of every image begins."""

REMEMBER = """
INSERT INTO addresses (url, is_cdn) SELECT * FROM unnest($1::text[], $2::boolean[]) ON CONFLICT DO NOTHING
"""

KNOWN = "SELECT url, is_cdn FROM addresses ORDER BY length(url) DESC, url"


@dataclass(frozen=True)
class Addresses:
    """The addresses of now, and those that were served earlier."""

    urls: ImageUrls
    site: str
    """The base URL of the gateway, without a slash at its end."""
    former: tuple[tuple[str, bool], ...] = ()
    """Earlier addresses that differ, each with whether it was that of a CDN."""

    @classmethod
    async def load(cls, settings: ImageUrlSettings, database: Database) -> "Addresses":
        """The addresses of these settings, which the database remembers from now on. Raises Unavailable."""
        urls = ImageUrls.of(settings)
        current = [(settings.public_base_url, False)]
        if urls.cdn_base_url:
            current.append((urls.cdn_base_url, True))

        async def work(connection: Connection) -> list[tuple[str, bool]]:
            await connection.execute(REMEMBER, *map(list, zip(*current, strict=True)))
            return [(row["url"], row["is_cdn"]) for row in await connection.fetch(KNOWN)]

        known = await database.transaction(work)
        return cls(urls, settings.public_base_url, tuple(one for one in known if one not in current))

    @property
    def version(self) -> str:
        """Differs when the address of an image or a page differs: 8 hex digits."""
        return hashlib.sha256(f"{self.site} {self.urls.cdn_base_url}".encode()).hexdigest()[:8]

    @property
    def image_bases(self) -> tuple[str, ...]:
        """What stands before the key in the absolute URLs of images, now and earlier."""
        sites = [self.site, *(url for url, is_cdn in self.former if not is_cdn)]
        cdns = [url for url in (self.urls.cdn_base_url, *(url for url, is_cdn in self.former if is_cdn)) if url]
        return tuple([site + MEDIA_PATH.rstrip("/") for site in sites] + cdns)

    def image_url(self, image: StoredImage) -> str:
        """The URL of a stored image."""
        return self.urls.url(image.key, in_bucket=image.in_bucket)

    def fill_post(self, post: p.Post) -> p.Post:
        """Set what depends on addresses: the URL of the image, and the etag. Returns the same message."""
        image = post.featured_image.image
        image.url = self.image_url(image)
        post.etag = self._etag(post.etag, in_bucket=image.in_bucket)
        return post

    def fill_task(self, task: t.Task) -> t.Task:
        """Set what depends on addresses: the URLs of its images, and the etag. Returns the same message."""
        for found in task.images:
            self._fill_image(found)
        self._fill_parameters(task.parameters)
        task.etag = self._etag(task.etag, in_bucket=all(found.image.in_bucket for found in task.images))
        return task

    def fill_event(self, event: t.TaskEvent) -> t.TaskEvent:
        """Set the URL of the image of an event, if it has one. Returns the same message."""
        if event.HasField("image"):
            self._fill_image(event.image)
        return event

    def _fill_image(self, image: t.TaskImage) -> None:
        image.image.url = self.image_url(image.image)
        self._fill_parameters(image.generation.parameters)

    def _fill_parameters(self, parameters: GenerationParameters) -> None:
        if parameters.HasField("initial_image"):
            # Whether this image is in the bucket is not known. The gateway serves it wherever it is.
            parameters.initial_image.url = self.urls.url(parameters.initial_image.key, in_bucket=False)

    def rewritten(self, text: str) -> str:
        """A text with the earlier absolute URLs of our images and posts replaced by those of now."""
        for url, is_cdn in self.former:
            if is_cdn:
                text = text.replace(f"{url}/{KEY_PREFIX}", f"{self.site}{MEDIA_PATH}{KEY_PREFIX}")
            else:
                text = text.replace(f"{url}{MEDIA_PATH}{KEY_PREFIX}", f"{self.site}{MEDIA_PATH}{KEY_PREFIX}")
                text = text.replace(f"{url}/posts/", f"{self.site}/posts/")
        return text

    def rewrite(self, written: WrittenT) -> WrittenT:
        """A post to write, with the text `rewritten`: a page may have been open since before the change."""
        if not written.content:
            return written
        return replace(written, content=self.rewritten(written.content))

    def _etag(self, plain: str, *, in_bucket: bool) -> str:
        return etag(int(plain.strip('"')), self.version + ("b" if in_bucket else ""))
