"""The RPCs of posts: messages into models, one call, models into messages."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2_grpc
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import context, errors
from services.posts.api import decode, encode
from services.posts.content.images import Pictures
from services.posts.content.repository import Posts
from services.posts.content.taxonomy import Shelves
from services.posts.tasks.events import Watchers
from services.posts.tasks.repository import Tasks

Call = Any  # the context of a call; the generated stubs name a private class


class TaskServicer(tasks_pb2_grpc.TaskServiceServicer):
    """frontispiece.posts.v1.TaskService."""

    def __init__(self, tasks: Tasks, watchers: Watchers, pictures: Pictures) -> None:
        """Serve these."""
        self._tasks = tasks
        self._pictures = pictures
        self._watchers = watchers

    async def CreateTask(self, request: t.CreateTaskRequest, call: Call) -> t.CreateTaskResponse:
        """Put a task into the queue."""
        request_id, task_id, parameters, mask = decode.new_task(request)
        principal = context.principal.get()
        try:
            checked = await self._pictures.checked(parameters)
        except errors.RpcError:
            # The answer to an earlier try may have been lost: its task is found though storage or the image is gone.
            if (earlier := await self._tasks.made(principal, request_id, task_id, parameters)) is None:
                raise
            return t.CreateTaskResponse(task=encode.task(earlier))
        task = await self._tasks.create(principal, request_id, task_id, checked, mask)
        return t.CreateTaskResponse(task=encode.task(task))

    async def GetTask(self, request: t.GetTaskRequest, call: Call) -> t.GetTaskResponse:
        """Read one task."""
        return t.GetTaskResponse(task=encode.task(await self._tasks.get(decode.task_id(request.task_id))))

    async def ListTasks(self, request: t.ListTasksRequest, call: Call) -> t.ListTasksResponse:
        """List tasks, newest first."""
        state = decode.task_state(request.state)
        page = await self._tasks.list(state, request.page_size, request.page_token)
        return t.ListTasksResponse(
            tasks=[encode.task(task) for task in page.items], next_page_token=page.next_page_token
        )

    async def WatchTask(self, request: t.WatchTaskRequest, call: Call) -> AsyncIterator[t.WatchTaskResponse]:
        """Follow a task."""
        task_id = decode.task_id(request.task_id)
        async for event in self._watchers.watch(task_id, min(request.after_sequence, 2**62)):
            yield t.WatchTaskResponse(event=encode.event(event))

    async def CancelTask(self, request: t.CancelTaskRequest, call: Call) -> t.CancelTaskResponse:
        """Stop a task."""
        task = await self._tasks.cancel(context.principal.get(), decode.task_id(request.task_id))
        return t.CancelTaskResponse(task=encode.task(task))

    async def RetryTask(self, request: t.RetryTaskRequest, call: Call) -> t.RetryTaskResponse:
        """Queue a task again."""
        task_id, request_id = decode.task_id(request.task_id), decode.retried(request)
        task = await self._tasks.retry(context.principal.get(), request_id, task_id)
        return t.RetryTaskResponse(task=encode.task(task))

    async def ApproveTask(self, request: t.ApproveTaskRequest, call: Call) -> t.ApproveTaskResponse:
        """Accept an image and make the post."""
        task_id, (request_id, draft) = decode.task_id(request.task_id), decode.approval(request)
        principal = context.principal.get()
        task, post = await self._tasks.approve(principal, request_id, task_id, request.image_index, draft)
        return t.ApproveTaskResponse(task=encode.task(task), post=encode.post(post))

    async def RejectTask(self, request: t.RejectTaskRequest, call: Call) -> t.RejectTaskResponse:
        """Refuse the images."""
        task_id, (request_id, comment) = decode.task_id(request.task_id), decode.rejection(request)
        task = await self._tasks.reject(context.principal.get(), request_id, task_id, comment)
        return t.RejectTaskResponse(task=encode.task(task))


class PostServicer(posts_pb2_grpc.PostServiceServicer):
    """frontispiece.posts.v1.PostService."""

    def __init__(self, posts: Posts, shelves: Shelves, pictures: Pictures) -> None:
        """Serve these."""
        self._posts = posts
        self._shelves = shelves
        self._pictures = pictures

    async def CreatePost(self, request: p.CreatePostRequest, call: Call) -> p.CreatePostResponse:
        """Make a post."""
        request_id, draft, key = decode.new_post(request)
        picture = await self._pictures.find(key, draft.alt_text or draft.title)
        post = await self._posts.create(context.principal.get(), request_id, draft, picture)
        return p.CreatePostResponse(post=encode.post(post))

    async def GetPost(self, request: p.GetPostRequest, call: Call) -> p.GetPostResponse:
        """Read a post by id or slug."""
        drafts = request.include_drafts
        match request.WhichOneof("name"):
            case "id":
                post = await self._posts.get(decode.post_id(request.id), include_drafts=drafts)
            case "slug":
                post = await self._posts.get_by_slug(decode.post_slug(request.slug), include_drafts=drafts)
            case _:
                raise errors.InvalidArgument.field("name", "id or slug must be set")
        return p.GetPostResponse(post=encode.post(post))

    async def ListPosts(self, request: p.ListPostsRequest, call: Call) -> p.ListPostsResponse:
        """List posts, newest first."""
        page = await self._posts.list(decode.post_filter(request), request.page_size, request.page_token)
        return encode.posts(page.items, page.next_page_token)

    async def UpdatePost(self, request: p.UpdatePostRequest, call: Call) -> p.UpdatePostResponse:
        """Change a post."""
        post_id = decode.post_id(request.id)
        change, key = decode.change(request)
        if key:
            change = replace(change, image=await self._pictures.find(key, ""))
        post = await self._posts.update(context.principal.get(), post_id, request.etag, change)
        return p.UpdatePostResponse(post=encode.post(post))

    async def PublishPost(self, request: p.PublishPostRequest, call: Call) -> p.PublishPostResponse:
        """Make a post public."""
        post = await self._posts.publish(context.principal.get(), decode.post_id(request.id))
        return p.PublishPostResponse(post=encode.post(post))

    async def UnpublishPost(self, request: p.UnpublishPostRequest, call: Call) -> p.UnpublishPostResponse:
        """Make a post a draft again."""
        post = await self._posts.unpublish(context.principal.get(), decode.post_id(request.id))
        return p.UnpublishPostResponse(post=encode.post(post))

    async def DeletePost(self, request: p.DeletePostRequest, call: Call) -> p.DeletePostResponse:
        """Delete a post."""
        await self._posts.delete(decode.post_id(request.id))
        return p.DeletePostResponse()

    async def CreateAuthor(self, request: p.CreateAuthorRequest, call: Call) -> p.CreateAuthorResponse:
        """Add an author."""
        name, slug = decode.named(request.name, request.slug)
        author = await self._shelves.create_author(context.principal.get(), name, slug)
        return p.CreateAuthorResponse(author=encode.author(author))

    async def ListAuthors(self, request: p.ListAuthorsRequest, call: Call) -> p.ListAuthorsResponse:
        """List authors by name."""
        page = await self._shelves.authors(request.page_size, request.page_token)
        return p.ListAuthorsResponse(
            authors=[encode.author(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def CreateCategory(self, request: p.CreateCategoryRequest, call: Call) -> p.CreateCategoryResponse:
        """Add a category."""
        name, slug = decode.named(request.name, request.slug)
        category = await self._shelves.create_category(context.principal.get(), name, slug)
        return p.CreateCategoryResponse(category=encode.category(category))

    async def ListCategories(self, request: p.ListCategoriesRequest, call: Call) -> p.ListCategoriesResponse:
        """List categories by name."""
        page = await self._shelves.categories(request.page_size, request.page_token)
        return p.ListCategoriesResponse(
            categories=[encode.category(one) for one in page.items], next_page_token=page.next_page_token
        )

    async def ListTags(self, request: p.ListTagsRequest, call: Call) -> p.ListTagsResponse:
        """List the tags of published posts."""
        page = await self._shelves.tags(request.page_size, request.page_token)
        return p.ListTagsResponse(tags=[encode.tag(one) for one in page.items], next_page_token=page.next_page_token)
