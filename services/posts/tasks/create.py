"""Creating a task: the checks that need other services, and the repetition of a request whose response was lost."""

import asyncio
from collections.abc import Sequence

from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1 import generation_pb2

from rpc import errors
from services.posts.clients.generator import GeneratorClient
from services.posts.content.images import Images
from services.posts.tasks.repository import Tasks

VALIDATE_TIMEOUT_SECONDS = 1.0


class TaskCreator:
    """Creates tasks whose parameters some generator accepts and whose initial image exists."""

    def __init__(self, tasks: Tasks, images: Images, generators: Sequence[GeneratorClient]) -> None:
        """Store in `tasks`; ask `images` and all `generators`."""
        self._tasks = tasks
        self._images = images
        self._generators = generators

    async def create(self, principal: str, request: t.CreateTaskRequest) -> t.Task:
        """Queue a task, or return the task of the same earlier request.

        Raises InvalidArgument (parameters), FailedPrecondition (initial image, stock photo), AlreadyExists (another
        request with the same request_id or task_id), Unavailable.
        """
        try:
            await asyncio.gather(self._check_initial(request.parameters), self._validate(request.parameters))
        except errors.RpcError:
            # The response to an earlier call may have been lost, and a generator or the image may have changed since.
            earlier = await self._tasks.created_earlier(principal, request)
            if earlier is None:
                raise
            return earlier
        return await self._tasks.create(principal, request)

    async def _check_initial(self, parameters: generation_pb2.GenerationParameters) -> None:
        if parameters.HasField("initial_image"):
            await self._images.check_initial(parameters.initial_image.key)

    async def _validate(self, parameters: generation_pb2.GenerationParameters) -> None:
        """Raise the refusal of a generator if every generator refuses the parameters.

        One that accepts them or does not respond is enough: they are checked again when the task is executed.
        """
        results = await asyncio.gather(*(self._refusal(generator, parameters) for generator in self._generators))
        refusals = [refusal for refusal in results if refusal is not None]
        if refusals and len(refusals) == len(results):
            # A refusal that names fields is of more use than "stock photos are not configured".
            raise max(refusals, key=lambda refusal: len(refusal.violations))

    async def _refusal(
        self, generator: GeneratorClient, parameters: generation_pb2.GenerationParameters
    ) -> errors.RpcError | None:
        try:
            await generator.validate(parameters, VALIDATE_TIMEOUT_SECONDS)
        except (errors.InvalidArgument, errors.FailedPrecondition) as error:
            return error
        except errors.RpcError:
            return None
        return None
