"""The generator process: `python -m services.generator`."""

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from frontispiece.generator.v1 import generator_pb2_grpc

from rpc import logs, server
from rpc.server import Service
from rpc.settings import announce, load
from services.generator.engine import CheckpointError
from services.generator.generate import Generator
from services.generator.scheduling.runner import THREAD_NAME, EngineRunner
from services.generator.servicer import SERVICE_NAME, GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import open_stock

if TYPE_CHECKING:
    from services.generator.sdxl.engine import SdxlEngine

log = logging.getLogger(__name__)

HOUSE_MODEL = Path(__file__).parents[2] / "models" / "house" / "weights"
EXIT_CHECKPOINT = 2
EXIT_LOST = 70


async def main(settings: GeneratorSettings) -> int:
    """Serve until a signal comes or the engine fails. Returns the exit code.

    Serves from the start; health is NOT_SERVING until the default model is in memory. Raises what the loading raised.
    """
    runner = EngineRunner(
        lambda: make_engine(settings),
        queue_capacity=settings.queue_capacity,
        decode_chunk=settings.decode_chunk,
        step_timeout_seconds=settings.step_timeout_seconds,
    )
    stop = asyncio.Event()
    # Imports and weights make a million objects, none of which is garbage: to look for some takes a sixth of the start.
    gc.disable()

    async def is_ready() -> bool:
        return runner.is_ready

    async with open_stock(settings) as stock, runner:
        watcher = asyncio.create_task(_watch(runner, stop))
        await server.serve([service(Generator(runner, stock))], settings, is_ready=is_ready, stop=stop)
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        return EXIT_LOST if runner.lost.is_set() else 0


async def _watch(runner: EngineRunner, stop: asyncio.Event) -> None:
    """Set `stop` when the engine cannot be loaded or is lost. Raises what the loading raised."""
    try:
        engine = await runner.ready()
        log.info("model ready", extra={"models": [model.id for model in engine.models], "device": engine.device})
        # Objects that exist now stay. Without freeze() each garbage collection would visit them, and delay calls.
        gc.collect()
        gc.freeze()
        gc.enable()
        await runner.lost.wait()
    finally:
        gc.enable()
        stop.set()


def service(generator: Generator) -> Service:
    """The gRPC service."""
    servicer = GeneratorServicer(generator)
    return Service(SERVICE_NAME, lambda grpc: generator_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, grpc))


def silence_libraries() -> None:
    """Let diffusers and transformers log errors only: they would log prompts, and draw progress bars into the log.

    Call it before the modules of the engine are imported: the libraries also warn while they are imported.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def make_engine(settings: GeneratorSettings) -> "SdxlEngine":
    """The engine for these settings. Imports PyTorch, which takes seconds. Raises CheckpointError."""
    # Threads that spin while they wait for each other are up to twenty times slower where cores are shared with other
    # processes. Must be set before PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from services.generator.sdxl.loading.lean_import import lean_import

    with lean_import() if settings.compile == "off" else contextlib.nullcontext():
        silence_libraries()
        from services.generator.sdxl.engine import SdxlEngine
    from services.generator.sdxl.loading.checkpoints import ModelSource

    if settings.model == "house":
        default = ModelSource("house", str(HOUSE_MODEL))
    elif settings.model == "tiny":
        from services.generator.sdxl.loading.tiny import make_checkpoint

        folder = settings.models_dir / "tiny"
        make_checkpoint(folder)
        default = ModelSource("tiny", str(folder))
    else:
        default = ModelSource.parse("", settings.model)
    further = [ModelSource.parse(name, text) for name, text in settings.further_models.items()]
    return SdxlEngine([default, *further], settings)


def run() -> int:
    """Run the process. Returns its exit code: 0, 2 for a checkpoint that cannot be used, 70 when the engine is lost."""
    settings = load(GeneratorSettings)
    logs.configure("generator", settings.log_level, settings.log_format)
    announce(settings)
    codes: list[int] = []

    async def serve() -> None:
        codes.append(await main(settings))

    try:
        server.run(serve())
    except CheckpointError as error:
        log.critical("%s", error)
        return EXIT_CHECKPOINT
    return codes[0]


if __name__ == "__main__":
    code = run()
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        # It loads a model, or hangs inside the driver: an ordinary exit would wait for it, or crash beside it.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
