from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.tiny import build_refiner, make_checkpoint
from tests.generator.harness import Client, sdxl, serve


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_checkpoint(folder, size=64)
    return folder


@pytest.fixture(scope="session")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiners") / "tiny-refiner"
    build_refiner(size=64, channels=(32, 64)).save_pretrained(folder)
    return folder


@pytest.fixture
def engine(checkpoint: Path) -> SdxlEngine:
    made = sdxl(checkpoint)
    made.warm_up()
    return made


@pytest.fixture
async def client(checkpoint: Path) -> AsyncIterator[Client]:
    async with serve(sdxl(checkpoint)) as made:
        yield made
