"""What the generator can do, as JSON."""

from frontispiece.generator.v1 import generator_pb2

from gateway.schemas import capabilities as schemas


def _integers(message: generator_pb2.IntegerRange) -> schemas.IntegerRange:
    return schemas.IntegerRange(min=message.min, max=message.max, step=message.step, default=message.default)


def _model(message: generator_pb2.Model) -> schemas.Model:
    guidance = message.guidance_scale
    return schemas.Model(
        id=message.id,
        revision=message.revision,
        description=message.description,
        example_prompts=list(message.example_prompts),
        schedulers=list(message.schedulers),
        max_prompt_length=message.max_prompt_length,
        width=_integers(message.width),
        height=_integers(message.height),
        max_pixels=message.max_pixels,
        num_inference_steps=_integers(message.num_inference_steps),
        guidance_scale=schemas.FloatRange(
            min=guidance.min, max=guidance.max, step=guidance.step, default=guidance.default
        ),
        previews=message.previews,
        loras=list(message.loras),
        refiner=message.refiner,
        initial_images=message.initial_images,
        fp8_difference=message.fp8_difference if message.HasField("fp8_difference") else None,
    )


def capabilities(message: generator_pb2.GetCapabilitiesResponse) -> schemas.Capabilities:
    """The capabilities as JSON."""
    return schemas.Capabilities(
        models=[_model(one) for one in message.models],
        slot_count=message.slot_count,
        free_slot_count=message.free_slot_count,
        queue_length=message.queue_length,
        queue_capacity=message.queue_capacity,
        device=message.device,
        stock_available=message.stock_available,
    )
