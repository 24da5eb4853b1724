"""The models: all that requests may name, those of them that are in memory, and the one that is being loaded."""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from services.generator.engine import CheckpointError
from services.generator.models import ModelInfo
from services.generator.sdxl.loading import checkpoints, model_info
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.fingerprint import combined
from services.generator.sdxl.loading.model_info import Entry
from services.generator.sdxl.options import SdxlOptions

log = logging.getLogger(__name__)


class Loaded(Protocol):
    """What the registry knows of a model in memory: its description, complete after loading, and its size."""

    @property
    def info(self) -> ModelInfo:
        """Its description."""

    @property
    def size_bytes(self) -> int:
        """The size of its weights."""


LoadedT = TypeVar("LoadedT", bound=Loaded)
LoadedT_co = TypeVar("LoadedT_co", bound=Loaded, covariant=True)


class Assemble(Protocol[LoadedT_co]):
    """Loads and assembles a model."""

    def __call__(self, entry: Entry, default: Entry, *, in_background: bool = False) -> LoadedT_co:
        """The model of `entry`; `default` is the entry of the default model. Raises CheckpointError."""


class ModelRegistry(Generic[LoadedT]):
    """Finds all models at the start, and keeps the most recently used ones in memory, within the budget.

    All methods except `peek` belong to the engine thread. Only the loading itself has a thread of its own.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        options: SdxlOptions,
        assemble: Assemble[LoadedT],
        release_memory: Callable[[], None],
    ) -> None:
        """The first source is the default model. Nothing is read yet. `release_memory` is called after an unloading."""
        self._sources = sources
        self._options = options
        self._assemble = assemble
        self._release_memory = release_memory
        self._entries: dict[str, Entry] = {}
        self._loaded: OrderedDict[str, LoadedT] = OrderedDict()
        self._loading = ""
        self._arrivals: queue.SimpleQueue[LoadedT | Exception] = queue.SimpleQueue()
        self._failures: dict[str, Exception] = {}

    @property
    def models(self) -> list[ModelInfo]:
        """The models that requests may name, the default first; empty before `find`."""
        return [entry.info for entry in self._entries.values() if not entry.checkpoint.is_refiner]

    @property
    def default(self) -> Entry:
        """The default model."""
        return next(iter(self._entries.values()))

    def find(self) -> None:
        """Download the models that are missing on this machine, and check all. Raises CheckpointError."""
        self._entries = {}
        for source in self._sources:
            entry = model_info.describe(checkpoints.find(source, self._options.models_dir), self._options.loras_dir)
            if entry.info.id in self._entries:
                raise CheckpointError(f"two models are called {entry.info.id!r}; give them names")
            self._entries[entry.info.id] = entry
            log.info("model found", extra={"model": entry.info.id, "revision": entry.info.revision})
        if vae := checkpoints.find_vae(self._options.vae, self._options.models_dir):
            default = self.default
            revision = combined(default.info.revision, vae.revision)
            self._entries[default.info.id] = replace(default, info=replace(default.info, revision=revision))
        if self._options.refiner:
            self._find_refiner(ModelSource.parse("", self._options.refiner))

    def _find_refiner(self, source: ModelSource) -> None:
        """Offer the refiner to every model that has the same kind of latents. Raises CheckpointError."""
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
        self, waiting: Sequence[tuple[str, ...]], in_use: frozenset[str], when_loaded: Callable[[], None]
    ) -> Sequence[bool]:
        """For each waiting request, by the models that it needs: whether `get` would return, or raise, at once.

        Begins to load the first missing model; `when_loaded` is called on the loading thread. While there is no room
        for it beside the models `in_use`, no later request is admitted: it would keep its models in use, and the first
        request would wait for ever.
        """
        self._take_arrival(block=False)
        # A model that failed to load is tried again for the next request: its files may have been repaired meanwhile.
        needed = {name for names in waiting for name in names}
        self._failures = {name: error for name, error in self._failures.items() if name in needed}
        verdicts: list[bool] = []
        for names in waiting:
            missing = [name for name in names if name not in self._loaded]
            failed = not self._failures.keys().isdisjoint(names)
            verdicts.append(failed or not missing)
            if missing and not failed and not self._loading:
                # The other models of this request must stay. If they alone leave no room, the budget is too small.
                has_room = self._make_room(in_use.union(names))
                if not has_room and in_use:
                    break
                self._begin_loading(missing[0], when_loaded)
            if not failed:
                in_use = in_use.union(names)
        return verdicts + [False] * (len(waiting) - len(verdicts))

    def get(self, name: str, in_use: frozenset[str] = frozenset()) -> LoadedT:
        """The model in memory.

        A model that is not in memory is loaded while the caller waits, beyond the budget if necessary; models `in_use`
        are not unloaded. Raises CheckpointError, or what the loading raised.
        """
        if name == self._loading:
            self._take_arrival(block=True)
        if name in self._failures:
            raise self._failures[name]
        if name not in self._loaded:
            self._make_room(in_use)
            self._keep(self._load(name))
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def peek(self, name: str) -> LoadedT | None:
        """The model if it is in memory. On any thread."""
        return self._loaded.get(name)

    def loaded_names(self) -> list[str]:
        """Ids of the models in memory, the least recently used first."""
        return list(self._loaded)

    def _begin_loading(self, name: str, when_loaded: Callable[[], None]) -> None:
        def load() -> None:
            try:
                self._arrivals.put(self._load(name, in_background=True))
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
            self._keep(arrived)

    def _keep(self, model: LoadedT) -> None:
        name = model.info.id
        self._loaded[name] = model
        self._entries[name] = replace(self._entries[name], info=model.info)

    def _make_room(self, in_use: frozenset[str]) -> bool:
        """Unload models until the rest, plus one as large as the largest so far, is within the budget.

        False when models `in_use` leave too little room for that.
        """
        budget = self._options.memory_budget_gib * 2**30
        while budget and self._loaded:
            sizes = [model.size_bytes for model in self._loaded.values()]
            if sum(sizes) + max(sizes) <= budget:
                return True
            name = next((name for name in self._loaded if name not in in_use), None)
            if name is None:
                return False
            del self._loaded[name]
            log.info("model unloaded", extra={"model": name})
            self._release_memory()
        return True

    def _load(self, name: str, *, in_background: bool = False) -> LoadedT:
        begin = time.monotonic()
        model = self._assemble(self._entries[name], self.default, in_background=in_background)
        seconds, mib = round(time.monotonic() - begin, 1), round(model.size_bytes / 2**20)
        log.info("model loaded", extra={"model": name, "seconds": seconds, "mib": mib})
        return model
