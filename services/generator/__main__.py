"""The generator process: `python -m services.generator`."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from frontispiece.generator.v1 import generator_pb2_grpc

from rpc import logs, server
from rpc.server import Service
from rpc.settings import announce, load
from services.generator.engine import CheckpointError
from services.generator.scheduling.runner import EngineRunner
from services.generator.servicer import SERVICE_NAME, GeneratorServicer
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import PexelsOptions, StockPhotos, open_stock

if TYPE_CHECKING:
    from services.generator.sdxl.engine import SdxlEngine

log = logging.getLogger(__name__)

HOUSE_MODEL = Path(__file__).parents[2] / "models" / "house" / "weights"
EXIT_CHECKPOINT = 2
EXIT_LOST = 70


async def main(settings: GeneratorSettings) -> bool:
    """Serve until told to stop; False when the engine was lost and the process should be started anew."""
    engine = make_engine(settings)
    runner = EngineRunner(
        engine,
        queue_capacity=settings.queue_capacity,
        decode_chunk=settings.decode_chunk,
        step_timeout_seconds=settings.step_timeout_seconds,
    )
    async with open_stock(_pexels_options(settings)) as stock, runner:
        log.info("warm", extra={"models": [model.id for model in engine.models], "device": engine.device})
        await server.serve([service(runner, stock)], settings, stop=runner.lost)
        return not runner.lost.is_set()


def service(runner: EngineRunner, stock: StockPhotos) -> Service:
    """The gRPC service over its parts."""
    servicer = GeneratorServicer(runner, stock)
    return Service(SERVICE_NAME, lambda grpc: generator_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, grpc))


def make_engine(settings: GeneratorSettings) -> "SdxlEngine":
    """The engine for these settings. PyTorch is imported here, after the settings have been found right."""
    # Threads that spin while they wait for each other are up to twenty times slower where cores are shared, and the
    # database, the gateway and the browser are on the same ones. Must be set before PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from services.generator.quiet import silence

    silence()
    from services.generator.sdxl.engine import SdxlEngine
    from services.generator.sdxl.loading.checkpoints import ModelSource
    from services.generator.sdxl.loading.tiny import make_checkpoint
    from services.generator.sdxl.options import SdxlOptions

    if settings.model == "house":
        default = ModelSource("house", str(HOUSE_MODEL))
    elif settings.model == "tiny":
        folder = settings.models_dir / "tiny"
        make_checkpoint(folder)
        default = ModelSource("tiny", str(folder))
    else:
        default = ModelSource.parse("", settings.model)
    further = [ModelSource.parse(name, text) for name, text in settings.further_models.items()]
    return SdxlEngine([default, *further], SdxlOptions.from_settings(settings))


def _pexels_options(settings: GeneratorSettings) -> PexelsOptions:
    return PexelsOptions(
        api_key=settings.pexels_api_key.get_secret_value(),
        api_url=settings.pexels_api_url,
        image_hosts=settings.image_hosts,
        timeout_seconds=settings.pexels_timeout_seconds,
        max_bytes=settings.pexels_max_bytes,
    )


def run() -> int:
    """The exit code of the process: 0, 2 for a checkpoint that cannot be used, 70 when the engine was lost."""
    settings = load(GeneratorSettings)
    logs.configure("generator", settings.log_level, settings.log_format)
    announce(settings)
    outcome: list[bool] = []

    async def served() -> None:
        outcome.append(await main(settings))

    try:
        server.run(served())
    except CheckpointError as error:
        log.critical("%s", error)
        return EXIT_CHECKPOINT
    return 0 if outcome[0] else EXIT_LOST


if __name__ == "__main__":
    code = run()
    if code == EXIT_LOST:
        # The engine thread may hang inside the driver for ever: an ordinary exit would wait for it.
        os._exit(code)
    sys.exit(code)
