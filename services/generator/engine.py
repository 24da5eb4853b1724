"""The interface between scheduling and an engine. Scheduling knows nothing else about images."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol

from services.generator.models import ImageRequest, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CheckpointError(Exception):
    """The checkpoint cannot be used. The message says why, for the log of an operator."""


class OutOfMemory(Exception):
    """The device has no memory for this much work at once; less may fit."""


class DeviceLost(Exception):
    """The device is in an error that only a new process ends."""


class InvalidImage(Exception):
    """The result is no image: it has values that are not finite, or only one colour."""


class InvalidRequest(Exception):
    """The engine cannot generate this request, for a reason that is known only with the model in memory."""

    def __init__(self, parameter: str, problem: str) -> None:
        """`parameter` is its name in GenerationParameters; `problem` completes the sentence that begins with it."""
        super().__init__(problem)
        self.parameter = parameter


class Sample(Protocol):
    """One image in progress, owned by the engine."""

    @property
    def request(self) -> ImageRequest:
        """The request."""

    @property
    def batch_key(self) -> Hashable:
        """Samples with equal keys may share the next step, and be decoded together. A step may change the key."""

    @property
    def steps_done(self) -> int:
        """Denoising steps done."""

    @property
    def total_steps(self) -> int:
        """All denoising steps."""


class Engine(Protocol):
    """Generates images step by step. Every method except `models`, `device` and `inspect` is called on one thread."""

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models; the first is the default."""

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""

    def inspect(self, request: ImageRequest) -> Sequence[tuple[str, str]]:
        """Parameters that the models of the request cannot use, and why; models that are not in memory are skipped.

        On any thread.
        """

    def warm_up(self) -> int:
        """Load the default model and run it once. Returns the number of images that may share a step."""

    def in_memory(self) -> frozenset[str]:
        """Ids of the models and refiners in memory."""

    def batch_key(self, request: ImageRequest) -> Hashable:
        """Requests with equal keys may be prepared together."""

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], admitted: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        """For each waiting request, the oldest first: whether `prepare` would succeed, or fail, without loading a
        model.

        Begins to load a missing model in the background; `when_ready` is called on any thread when it is loaded. The
        models of the `admitted` requests stay in memory.
        """

    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """Encode prompts and initial images, and draw noise, for requests of one batch key.

        Raises InvalidRequest if any request is invalid.
        """

    def step(self, samples: Sequence[Sample]) -> None:
        """Do the next step of every sample; all are of one batch key. If it raises, no sample has changed.

        The device may still work on the step when this returns. All other methods may be called meanwhile; their work
        on the device comes after it.
        """

    def remaining_seconds(self) -> float:
        """Lower bound of the time that `wait` would take; 0 while that is not known."""

    def wait(self) -> None:
        """Wait until the device has done its steps, except a short one that may overlap with the next."""

    def decode(self, samples: Sequence[Sample]) -> "Sequence[NDArray[np.uint8] | InvalidImage]":
        """The finished images of samples of one batch key, each (height, width, 3)."""

    def preview(self, sample: Sample) -> "NDArray[np.uint8]":
        """A small image of the current state of a sample, (h, w, 3), with the proportions of the image."""

    def recover(self) -> None:
        """Free memory that is not in use, after OutOfMemory."""
