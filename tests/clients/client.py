"""What a user of openapi-python-client writes: upload a picture, make a post of it, change its title, delete it."""

import base64
import io
import json
import sys
from typing import Any

from frontispiece_client import AuthenticatedClient
from frontispiece_client.api.media import upload_image
from frontispiece_client.api.posts import create_post, delete_post, get_post, list_posts, update_post
from frontispiece_client.api.tasks import create_task
from frontispiece_client.models import ListPostsState, NewPost, NewTask, PostChange, UploadForm
from frontispiece_client.types import File

base_url, token, pixels = sys.argv[1:]
client = AuthenticatedClient(base_url=base_url, token=token, raise_on_unexpected_status=True, timeout=60)
picture = base64.b64decode(pixels)

image: Any = upload_image.sync(client=client, body=UploadForm(File(io.BytesIO(picture), "picture.png", "image/png")))
raw: Any = upload_image.sync(client=client, body=File(io.BytesIO(picture)))
assert (raw.width, raw.height) == (image.width, image.height)

new = NewPost(title="From Python", featured_image_key=image.key, content="It stays.", tags=["client"])
post: Any = create_post.sync(client=client, body=new)
body = PostChange(title="Renamed")
assert body.to_dict() == {"title": "Renamed"}
changed: Any = update_post.sync(post.id, client=client, body=body, if_match=post.etag)
refused: Any = delete_post.sync(post.id, client=client, if_match=post.etag)
listed: Any = list_posts.sync(client=client, state=ListPostsState.ANY, tag="client")
task: Any = create_task.sync(client=client, body=NewTask(prompt="a door in a wall"))
delete_post.sync_detailed(post.id, client=client)
gone: Any = get_post.sync(post.id, client=client)

print(
    json.dumps(
        {
            "image": image.to_dict(),
            "post": post.to_dict(),
            "changed": changed.to_dict(),
            "refused": refused.code,
            "titles": [one.title for one in listed.posts],
            "task": task.to_dict(),
            "gone": gone.code,
        }
    )
)
