"""What the batching core asks of an engine; the core knows nothing else about images."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol

from services.generator.models import ImageRequest, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CheckpointError(Exception):
    """The checkpoint cannot be used; the message says why and is fit for the log of an operator."""


class OutOfMemory(Exception):
    """The device has no room for this much at once; less may fit."""


class DeviceLost(Exception):
    """The device answers nothing sensible any more; only a new process helps."""


class InvalidImage(Exception):
    """The model painted something that is no picture: not finite, or one colour all over."""


class InvalidRequest(Exception):
    """The engine cannot paint what is asked for, for a reason that only it can see: `field` says which, `args` why."""

    def __init__(self, field: str, why: str) -> None:
        """`why` completes the sentence that begins with the field's name."""
        super().__init__(why)
        self.field = field


class Sample(Protocol):
    """One image in the making, owned by the engine."""

    @property
    def request(self) -> ImageRequest:
        """What is painted."""

    @property
    def batch_key(self) -> Hashable:
        """Samples with equal groups may share the next step, or be decoded together; it may change with a step."""

    @property
    def steps_done(self) -> int:
        """Denoising steps done."""

    @property
    def total_steps(self) -> int:
        """Denoising steps in all."""


class Engine(Protocol):
    """Paints images step by step. Every method but `models` and `device` is called from one thread only."""

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models it serves; the first is the default."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu" or "cuda"."""

    def warm_up(self) -> int:
        """Load what is needed to start, run it once, and answer how many images may share a step."""

    def in_memory(self) -> frozenset[str]:
        """Names of the models, and of refiners, that need not be loaded."""

    def batch_key(self, request: ImageRequest) -> Hashable:
        """Requests with equal groups may be opened together."""

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], painting: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        """Which of the requests that wait, first come first, could be opened at once, or would fail at once.

        Begins to load in the background what others need; `when_ready` is called on any thread when that is done. What
        the requests in `painting` need stays in memory.
        """

    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """Prepare requests of one batch key: encode prompts, draw noise. Raises InvalidRequest if any is invalid."""

    def step(self, samples: Sequence[Sample]) -> None:
        """Do the next step of every sample; all are of one batch key. A step that raises has changed nothing.

        The device may still be at work on it when this returns. All other methods may be called meanwhile; what they
        ask of the device comes after it.
        """

    def remaining_seconds(self) -> float:
        """How long `wait` would wait, at least; 0 where that is not known."""

    def wait(self) -> None:
        """Wait until the device has done the steps that it was given, but for short ones that may overlap the next."""

    def decode(self, samples: Sequence[Sample]) -> "Sequence[NDArray[np.uint8] | InvalidImage]":
        """The finished images of samples of one batch key, each (height, width, 3)."""

    def preview(self, sample: Sample) -> "NDArray[np.uint8]":
        """A small, rough picture of the state of a sample, (h, w, 3) with the sides of the image in proportion."""

    def recover(self) -> None:
        """Give back memory that is not in use, after OutOfMemory."""
