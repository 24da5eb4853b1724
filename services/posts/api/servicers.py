"""The RPCs of posts: decode the request, call the domain, return its result."""

from collections.abc import AsyncIterator
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2_grpc
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import context, errors
from services.posts.api import decode, masks
from services.posts.content.addresses import Addresses
from services.posts.content.change_feed import ChangeFeed
from services.posts.content.images import Images
from services.posts.content.repository import Posts
from services.posts.content.taxonomy import Taxonomy
from services.posts.tasks.create import TaskCreator
from services.posts.tasks.events import TaskEvents
from services.posts.tasks.repository import Tasks

Call = Any  # the context of a call; the generated stubs name a private class


class TaskServicer(tasks_pb2_grpc.TaskServiceServicer):
    """frontispiece.posts.v1.TaskService."""

    def __init__(self, tasks: Tasks, creator: TaskCreator, events: TaskEvents, addresses: Addresses) -> None:
        """Serve these. `addresses` completes every message."""
        self._addresses = addresses
        self._tasks = tasks
        self._creator = creator
        self._events = events

    async def CreateTask(self, request: t.CreateTaskRequest, call: Call) -> t.CreateTaskResponse:
        """Add a task to the queue."""
        if request.parameters.initial_image.mask:
            request = await masks.off_the_loop(lambda: decode.new_task(request))
        else:
            request = decode.new_task(request)
        task = await self._creator.create(context.principal.get(), request)
        return t.CreateTaskResponse(task=self._addresses.fill_task(task))

    async def GetTask(self, request: t.GetTaskRequest, call: Call) -> t.GetTaskResponse:
        """Return one task."""
        return t.GetTaskResponse(task=self._addresses.fill_task(await self._tasks.get(decode.task_id(request.task_id))))

    async def ListTasks(self, request: t.ListTasksRequest, call: Call) -> t.ListTasksResponse:
        """List tasks, newest first."""
        page = await self._tasks.list(request.state, decode.page_size(request), request.page_token)
        return t.ListTasksResponse(
            tasks=map(self._addresses.fill_task, page.items), next_page_token=page.next_page_token
        )

    async def WatchTask(self, request: t.WatchTaskRequest, call: Call) -> AsyncIterator[t.WatchTaskResponse]:
        """Stream the events of a task."""
        after = min(request.after_sequence, 2**62)  # PostgreSQL has no unsigned integers
        async for event in self._events.follow(decode.task_id(request.task_id), after):
            yield t.WatchTaskResponse(event=self._addresses.fill_event(event))

    async def CancelTask(self, request: t.CancelTaskRequest, call: Call) -> t.CancelTaskResponse:
        """Cancel a task."""
        task = await self._tasks.cancel(context.principal.get(), decode.task_id(request.task_id), request.etag)
        return t.CancelTaskResponse(task=self._addresses.fill_task(task))

    async def RetryTask(self, request: t.RetryTaskRequest, call: Call) -> t.RetryTaskResponse:
        """Queue a task again."""
        task = await self._tasks.retry(context.principal.get(), request, decode.task_id(request.task_id))
        return t.RetryTaskResponse(task=self._addresses.fill_task(task))

    async def ApproveTask(self, request: t.ApproveTaskRequest, call: Call) -> t.ApproveTaskResponse:
        """Approve an image and create the post."""
        task_id, new = decode.task_id(request.task_id), self._addresses.rewrite(decode.approval(request))
        response = await self._tasks.approve(context.principal.get(), request, task_id, new)
        self._addresses.fill_task(response.task)
        self._addresses.fill_post(response.post)
        return response

    async def RejectTask(self, request: t.RejectTaskRequest, call: Call) -> t.RejectTaskResponse:
        """Reject the images."""
        task = await self._tasks.reject(context.principal.get(), request, decode.task_id(request.task_id))
        return t.RejectTaskResponse(task=self._addresses.fill_task(task))


class PostServicer(posts_pb2_grpc.PostServiceServicer):
    """frontispiece.posts.v1.PostService."""

    def __init__(
        self, posts: Posts, taxonomy: Taxonomy, images: Images, changes: ChangeFeed, addresses: Addresses
    ) -> None:
        """Serve these. `addresses` completes every message."""
        self._changes = changes
        self._addresses = addresses
        self._posts = posts
        self._taxonomy = taxonomy
        self._images = images

    async def CreatePost(self, request: p.CreatePostRequest, call: Call) -> p.CreatePostResponse:
        """Create a post."""
        new = self._addresses.rewrite(decode.new_post(request))
        image = await self._images.featured(request.featured_image_key, new.alt_text or new.title)
        post = await self._posts.create(context.principal.get(), request, new, image)
        return p.CreatePostResponse(post=self._addresses.fill_post(post))

    async def GetPost(self, request: p.GetPostRequest, call: Call) -> p.GetPostResponse:
        """Return a post by id or slug."""
        drafts = request.include_drafts
        match request.WhichOneof("name"):
            case "id":
                post = await self._posts.get(decode.post_id(request.id), include_drafts=drafts)
            case "slug":
                post = await self._posts.get_by_slug(request.slug, include_drafts=drafts)
            case _:
                raise errors.InvalidArgument.field("name", "id or slug must be set")
        return p.GetPostResponse(post=self._addresses.fill_post(post))

    async def ListPosts(self, request: p.ListPostsRequest, call: Call) -> p.ListPostsResponse:
        """List posts, newest first."""
        response = await self._posts.list(
            decode.post_filter(request),
            decode.page_size(request),
            request.page_token,
            with_content=request.view != p.POST_VIEW_SUMMARY,
        )
        for post in response.posts:
            self._addresses.fill_post(post)
        return response

    async def UpdatePost(self, request: p.UpdatePostRequest, call: Call) -> p.UpdatePostResponse:
        """Change a post."""
        post_id, change = decode.post_id(request.id), self._addresses.rewrite(decode.post_change(request))
        image = await self._images.featured(change.image_key, "") if change.image_key else None
        post = await self._posts.update(context.principal.get(), post_id, request.etag, change, image)
        return p.UpdatePostResponse(post=self._addresses.fill_post(post))

    async def PublishPost(self, request: p.PublishPostRequest, call: Call) -> p.PublishPostResponse:
        """Publish a draft."""
        post = await self._posts.publish(context.principal.get(), decode.post_id(request.id), request.etag)
        return p.PublishPostResponse(post=self._addresses.fill_post(post))

    async def UnpublishPost(self, request: p.UnpublishPostRequest, call: Call) -> p.UnpublishPostResponse:
        """Make a published post a draft again."""
        post = await self._posts.unpublish(context.principal.get(), decode.post_id(request.id), request.etag)
        return p.UnpublishPostResponse(post=self._addresses.fill_post(post))

    async def DeletePost(self, request: p.DeletePostRequest, call: Call) -> p.DeletePostResponse:
        """Delete a post."""
        await self._posts.delete(decode.post_id(request.id), request.etag)
        return p.DeletePostResponse()

    async def CreateAuthor(self, request: p.CreateAuthorRequest, call: Call) -> p.CreateAuthorResponse:
        """Add an author."""
        author = await self._taxonomy.create_author(context.principal.get(), *decode.named(request))
        return p.CreateAuthorResponse(author=author)

    async def ListAuthors(self, request: p.ListAuthorsRequest, call: Call) -> p.ListAuthorsResponse:
        """List authors by name."""
        return await self._taxonomy.authors(decode.page_size(request), request.page_token)

    async def CreateCategory(self, request: p.CreateCategoryRequest, call: Call) -> p.CreateCategoryResponse:
        """Add a category."""
        category = await self._taxonomy.create_category(context.principal.get(), *decode.named(request))
        return p.CreateCategoryResponse(category=category)

    async def ListCategories(self, request: p.ListCategoriesRequest, call: Call) -> p.ListCategoriesResponse:
        """List categories by name."""
        return await self._taxonomy.categories(decode.page_size(request), request.page_token)

    async def ListTags(self, request: p.ListTagsRequest, call: Call) -> p.ListTagsResponse:
        """List the tags of published posts, the most used first."""
        return await self._taxonomy.tags(decode.page_size(request), request.page_token)

    async def WatchChanges(self, request: p.WatchChangesRequest, call: Call) -> AsyncIterator[p.WatchChangesResponse]:
        """Notify of changes."""
        async for _ in self._changes.watch():
            yield p.WatchChangesResponse()
