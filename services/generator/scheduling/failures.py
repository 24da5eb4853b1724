"""What happens when an engine fails: too much is tried smaller, a bad sample fails alone, a lost device is fatal."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from rpc.errors import FailedPrecondition, Internal, InvalidArgument
from services.generator.engine import CheckpointError, DeviceLost, InvalidRequest, OutOfMemory

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def out_of_memory() -> Internal:
    """What the caller is told when not even one image fits."""
    return Internal("the image does not fit into the memory of the generator", reason="OUT_OF_MEMORY")


def _unusable() -> FailedPrecondition:
    """What the caller is told when the files of a model or LoRA are wrong; which is in the log of the operator."""
    return FailedPrecondition("the model, or one of the LoRAs, cannot be loaded", reason="MODEL_UNUSABLE")


def image_invalid(why: str) -> Internal:
    """What the caller is told when the model painted no picture."""
    return Internal(f"the model painted no picture: {why}", reason="IMAGE_INVALID")


def attempt(
    work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], recover: Callable[[], None]
) -> list[ResultT | Exception]:
    """Do `work` on all items; where it fails, on each half, so that one bad item does not take the others with it.

    The answer has, for each item, its result or the error to tell its caller. One item that runs out of memory is tried
    once more after `recover`. Raises DeviceLost.
    """
    again = True
    try:
        return list(work(items))
    except DeviceLost:
        raise
    except CheckpointError as error:
        log.error("a model or LoRA cannot be used: %s", error)
        return [_unusable() for _ in items]
    except InvalidRequest as error:
        failure: Exception = InvalidArgument.field(error.field, str(error))
        again = False
    except OutOfMemory as error:
        log.warning("out of memory with %d at once: %s", len(items), error)
        failure = out_of_memory()
    except Exception as error:
        log.warning("failed with %d at once", len(items), exc_info=error)
        failure = Internal("the engine failed", reason="ENGINE_FAILED")
    # Outside the except blocks: the traceback would keep the tensors of the failed attempt alive.
    if again:
        recover()
    if len(items) > 1:
        middle = len(items) // 2
        return [*attempt(work, items[:middle], recover), *attempt(work, items[middle:], recover)]
    return _once_more(work, items, failure) if again else [failure]


def _once_more(
    work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], failure: Exception
) -> list[ResultT | Exception]:
    try:
        return list(work(items))
    except DeviceLost:
        raise
    except Exception as error:
        log.error("failed alone: %s", error, exc_info=not isinstance(error, OutOfMemory))
        return [failure]
