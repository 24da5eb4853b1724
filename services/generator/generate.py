"""From parameters to an image: checks them, and generates the image or fetches a stock photo."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from frontispiece.types.v1 import generation_pb2 as types

from rpc.errors import InvalidArgument
from services.generator.images.initial_image import InitialImageReader
from services.generator.models import Event, ImageRequest
from services.generator.scheduling.runner import EngineRunner
from services.generator.stock.pexels import StockPhotos
from services.generator.validation import is_stock, resolve


class Generator:
    """What GeneratorService does, on values."""

    def __init__(self, runner: EngineRunner, stock: StockPhotos) -> None:
        """Generate with `runner`, fetch photos with `stock`."""
        self.runner = runner
        self.stock = stock
        self._images = InitialImageReader()

    def check(self, parameters: types.GenerationParameters) -> ImageRequest:
        """The request that the parameters ask for, without its initial image.

        Raises InvalidArgument that names every wrong field, FailedPrecondition for a stock photo when stock photos are
        not configured, Unavailable while the default model is being loaded.
        """
        engine = self.runner.engine
        request = resolve(parameters, engine.models, inspect=engine.inspect)
        if is_stock(parameters):
            self.stock.check_configured()
        return request

    async def validate(self, parameters: types.GenerationParameters) -> None:
        """Raise what `check` raises, and InvalidArgument for a mask that `generate` would refuse at every size."""
        self.check(parameters)
        if mask := parameters.initial_image.mask:
            with self._images.hold(len(mask)):
                await self._images.check_mask(mask)

    async def generate(
        self, parameters: types.GenerationParameters, *, preview_interval: int = 0, initial_image: bytes = b""
    ) -> AsyncGenerator[Event]:
        """The events of one generation; the last is the image. Closing the iteration cancels the work.

        `initial_image` is the encoded image that `parameters.initial_image` describes, b"" without one. Raises what
        `check`, `EngineRunner.generate` and `StockPhotos.fetch` raise.
        """
        request = replace(self.check(parameters), preview_interval=preview_interval)
        if is_stock(parameters):
            yield await self.stock.fetch(request.prompt, request.width, request.height)
            return
        if parameters.HasField("initial_image") != bool(initial_image):
            problem = "must be set if, and only if, parameters.initial_image is"
            raise InvalidArgument.field("initial_image", problem)
        with self._images.hold(len(initial_image) + len(parameters.initial_image.mask)):
            if initial_image:
                self.runner.check_room()  # first: to decode the image costs more than to refuse the request
                pixels = await self._images.read(parameters.initial_image, initial_image, request.width, request.height)
                request = replace(request, initial_image=pixels)
            async with contextlib.aclosing(self.runner.generate(request)) as events:
                async for event in events:
                    yield event
