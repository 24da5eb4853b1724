"""What a failure of the engine does: too much work is split, an invalid request fails alone, a lost device is fatal."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from rpc.errors import FailedPrecondition, Internal, RpcError
from services.generator.engine import CheckpointError, DeviceLost, InvalidImage, InvalidRequest, OutOfMemory
from services.generator.validation import refusal

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def image_invalid(error: InvalidImage) -> Internal:
    """For a result that is no image."""
    return Internal(f"the model generated no image: {error}", reason="IMAGE_INVALID")


def run_isolated(
    work: Callable[[Sequence[ItemT]], Sequence[ResultT]], items: Sequence[ItemT], recover: Callable[[], None]
) -> list[ResultT | Exception]:
    """Do `work` on all items; if it fails, on each half, so that an item that fails does not fail the others.

    Returns for each item its result, or the error for its caller. An item that runs out of memory alone is tried once
    more after `recover`. Raises DeviceLost.
    """
    try:
        return list(work(items))
    except DeviceLost:
        raise
    except CheckpointError as error:
        # Which file is wrong is for the log of the operator alone.
        log.error("a model or LoRA cannot be used: %s", error)
        unusable = FailedPrecondition("the model, or one of the LoRAs, cannot be loaded", reason="MODEL_UNUSABLE")
        return [unusable for _ in items]
    except Exception as error:
        failure = _failure(error, len(items))
        again = not isinstance(error, InvalidRequest)
    # Outside the except blocks: the traceback would keep the tensors of the failed attempt in memory.
    if again:
        recover()
    if len(items) > 1:
        middle = len(items) // 2
        return [*run_isolated(work, items[:middle], recover), *run_isolated(work, items[middle:], recover)]
    return _once_more(work, items, failure) if again else [failure]


def _failure(error: Exception, count: int) -> RpcError:
    if isinstance(error, InvalidRequest):
        return refusal([(error.parameter, str(error))])
    if isinstance(error, OutOfMemory):
        log.warning("out of memory with a batch of %d: %s", count, error)
        return Internal("the image does not fit into the memory of the generator", reason="OUT_OF_MEMORY")
    log.warning("a batch of %d failed", count, exc_info=error)
    return Internal("the engine failed", reason="ENGINE_FAILED")


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
