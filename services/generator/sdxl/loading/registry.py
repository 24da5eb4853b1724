"""The models: those that requests may name, those of them that are in memory, and the one being loaded."""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch

from services.generator.engine import CheckpointError
from services.generator.models import Lora, ModelInfo
from services.generator.sdxl.loading import checkpoints, model_info
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.model_info import Entry
from services.generator.sdxl.lora import LoraSwitch
from services.generator.sdxl.previews import TinyDecoder
from services.generator.sdxl.prompts import PromptEncoder
from services.generator.sdxl.schedulers import SchedulerCache
from services.generator.sdxl.unet import UnetOptions, UnetRunner
from services.generator.sdxl.vae_decode import VaeDecoder
from services.generator.sdxl.vae_encode import VaeEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LibraryOptions:
    """Where models come from and how they are loaded; see the settings of the same names."""

    models_dir: Path
    device: str
    dtype: torch.dtype
    vae: str = ""
    refiner: str = ""
    preview_decoder: Path | None = None
    loras_dir: Path | None = None
    memory_budget_bytes: int = 0
    prompt_cache: int = 256
    unet: UnetOptions = field(default_factory=UnetOptions)


@dataclass(eq=False)
class LoadedModel:
    """A model in memory, with everything that paints with it."""

    pipeline: Any
    device: str
    schedules: SchedulerCache
    prompts: PromptEncoder
    encoder: VaeEncoder
    decoder: VaeDecoder
    unet: UnetRunner
    loras: LoraSwitch
    size_bytes: int = 0

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of an image of that size."""
        scale = self.pipeline.vae_scale_factor
        return self.pipeline.unet.config.in_channels, height // scale, width // scale


class Quantize(Protocol):
    """Makes the UNet of a model faster and less exact, in place."""

    def __call__(self, model: LoadedModel, info: ModelInfo, *, is_refiner: bool) -> float:
        """The relative difference that it makes to what the UNet predicts. Raises CheckpointError if it is too much."""


class ModelRegistry:
    """Finds all models at the start and keeps in memory the ones used last, within the budget.

    All methods belong to the engine thread; only the loading itself has a thread of its own.
    """

    def __init__(
        self, sources: Sequence[ModelSource], options: LibraryOptions, quantize: Quantize | None = None
    ) -> None:
        """The first source is the default. Nothing is read yet. `quantize` is done to each model that is loaded."""
        self._sources = sources
        self._options = options
        self._quantize = quantize
        self._entries: dict[str, Entry] = {}
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading = ""
        self._arrivals: queue.SimpleQueue[LoadedModel | Exception] = queue.SimpleQueue()
        self._failures: dict[str, Exception] = {}
        self._tiny: TinyDecoder | None = None

    @property
    def models(self) -> list[ModelInfo]:
        """What requests may name, the default first; empty before `find`."""
        return [entry.info for entry in self._entries.values() if not entry.checkpoint.is_refiner]

    def find(self) -> None:
        """Bring all models to this machine and check them. Raises CheckpointError."""
        self._entries = {}
        for source in self._sources:
            entry = model_info.describe(checkpoints.find(source, self._options.models_dir), self._options.loras_dir)
            if entry.info.id in self._entries:
                raise CheckpointError(f"two models are called {entry.info.id!r}; give them names")
            self._entries[entry.info.id] = entry
            log.info("model found", extra={"model": entry.info.id, "revision": entry.info.revision})
        if self._options.refiner:
            self._find_refiner(ModelSource.parse("", self._options.refiner))
        if self._options.preview_decoder is not None:
            self._tiny = TinyDecoder(self._options.preview_decoder, self._options.device, self._options.dtype)
            self._tiny.check_fits(self._default.info.id, model_info.latent_channels(self._default))

    @property
    def _default(self) -> Entry:
        return next(iter(self._entries.values()))

    def _find_refiner(self, source: ModelSource) -> None:
        """Offer the refiner to every model whose latents are like its own. Raises CheckpointError."""
        checkpoint = checkpoints.find(source, self._options.models_dir, is_refiner=True)
        refiner = model_info.describe(checkpoint, None)
        name, revision = refiner.info.id, refiner.info.revision
        if name in self._entries:
            raise CheckpointError(f"the refiner and a model are both called {name!r}; rename its folder")
        fitting = [key for key, entry in self._entries.items() if model_info.can_refine(refiner, entry)]
        if not fitting:
            raise CheckpointError(f"{checkpoint.path}: the refiner suits none of the models")
        for key in fitting:
            entry = self._entries[key]
            self._entries[key] = replace(entry, info=replace(entry.info, refiner=name, refiner_revision=revision))
        self._entries[name] = refiner
        log.info("refiner found", extra={"model": name, "revision": revision, "refines": fitting})

    def ensure_loaded(
        self, wanted: Sequence[tuple[str, ...]], in_use: frozenset[str], when_loaded: Callable[[], None]
    ) -> Sequence[bool]:
        """For each request that waits, by the models it needs, whether `get` would answer, or raise, at once.

        Begins to load the first model that is missing; `when_loaded` is called on the loading thread. While it finds no
        room beside models `in_use`, nobody behind is let past: those would keep their models in use for ever.
        """
        self._take_arrival(block=False)
        # Each new request has its model tried anew: the file may have been repaired meanwhile.
        still_wanted = {name for names in wanted for name in names}
        self._failures = {name: error for name, error in self._failures.items() if name in still_wanted}
        verdicts: list[bool] = []
        for names in wanted:
            missing = [name for name in names if name not in self._loaded]
            hopeless = not self._failures.keys().isdisjoint(names)
            verdicts.append(hopeless or not missing)
            if missing and not hopeless and not self._loading:
                # What this request needs besides must stay; if that alone leaves no room, the budget is too small.
                has_room = self._make_room(in_use.union(names))
                if not has_room and in_use:
                    break
                self._begin_loading(missing[0], when_loaded)
            if not hopeless:
                in_use = in_use.union(names)
        return verdicts + [False] * (len(wanted) - len(verdicts))

    def get(self, name: str, loras: tuple[Lora, ...] = (), in_use: frozenset[str] = frozenset()) -> LoadedModel:
        """The model in memory with these LoRAs in place.

        One that was not prepared is loaded while the caller waits, if need be beyond the budget; models `in_use` are
        not unloaded. Raises CheckpointError, or what loading it raised.
        """
        if name == self._loading:
            self._take_arrival(block=True)
        if name in self._failures:
            raise self._failures[name]
        if name not in self._loaded:
            self._make_room(in_use)
            self._loaded[name] = self._load(self._entries[name])
        self._loaded.move_to_end(name)
        model = self._loaded[name]
        model.loras.apply(loras)
        return model

    def loaded_names(self) -> list[str]:
        """Names of the models in memory, the least recently used first."""
        return list(self._loaded)

    def _begin_loading(self, name: str, when_loaded: Callable[[], None]) -> None:
        def load() -> None:
            try:
                self._arrivals.put(self._load(self._entries[name], in_background=True))
            except Exception as error:
                self._arrivals.put(error)
            when_loaded()

        self._loading = name
        threading.Thread(target=load, name=f"load {name}", daemon=True).start()

    def _take_arrival(self, *, block: bool) -> None:
        try:
            arrived = self._arrivals.get(block)
        except queue.Empty:
            return
        name, self._loading = self._loading, ""
        if isinstance(arrived, Exception):
            self._failures[name] = arrived
        else:
            self._loaded[name] = arrived

    def _make_room(self, in_use: frozenset[str]) -> bool:
        """Unload until what remains, plus a model as large as the largest so far, is within the budget.

        False when models `in_use` leave too little room for that.
        """
        budget = self._options.memory_budget_bytes
        while budget and self._loaded:
            sizes = [model.size_bytes for model in self._loaded.values()]
            if sum(sizes) + max(sizes) <= budget:
                return True
            name = next((name for name in self._loaded if name not in in_use), None)
            if name is None:
                return False
            del self._loaded[name]
            log.info("model unloaded", extra={"model": name})
            if self._options.device == "cuda":
                torch.cuda.empty_cache()
        return True

    def _load(self, entry: Entry, *, in_background: bool = False) -> LoadedModel:
        begin = time.monotonic()
        is_default = entry is self._default
        vae = checkpoints.find_vae(self._options.vae, self._options.models_dir) if is_default else None
        pipeline = checkpoints.load(entry.checkpoint, self._options.dtype, vae, in_background=in_background)
        pipeline.to(self._options.device)
        unet = UnetRunner(pipeline, self._options.unet)
        if self._options.unet.channels_last:
            pipeline.vae.to(memory_format=torch.channels_last)
        model = LoadedModel(
            pipeline=pipeline,
            device=self._options.device,
            schedules=SchedulerCache({**pipeline.scheduler.config, **entry.scheduler_config}),
            prompts=PromptEncoder(pipeline, self._options.device, self._options.prompt_cache),
            encoder=VaeEncoder(pipeline.vae),
            decoder=VaeDecoder(pipeline.vae, self._tiny if model_info.share_latents(entry, self._default) else None),
            unet=unet,
            loras=LoraSwitch(pipeline, self._options.loras_dir),
        )
        if self._quantize is not None:
            difference = self._quantize(model, entry.info, is_refiner=entry.checkpoint.is_refiner)
            self._entries[entry.info.id] = replace(entry, info=replace(entry.info, fp8_difference=difference))
        model.size_bytes = _size_bytes(pipeline)
        seconds, mib = round(time.monotonic() - begin, 1), round(model.size_bytes / 2**20)
        log.info("model loaded", extra={"model": entry.info.id, "seconds": seconds, "mib": mib})
        return model


def _size_bytes(pipeline: Any) -> int:
    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    tensors = (chain(module.parameters(), module.buffers()) for module in modules if module is not None)
    return sum(tensor.numel() * tensor.element_size() for tensor in chain.from_iterable(tensors))
