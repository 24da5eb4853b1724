import datetime

from frontispiece.types.v1 import generation_pb2 as _generation_pb2
from frontispiece.types.v1 import image_pb2 as _image_pb2
from frontispiece.types.v1 import limits_pb2 as _limits_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("models", "slot_count", "free_slot_count", "queue_length", "queue_capacity", "device", "stock_available")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FREE_SLOT_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STOCK_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    slot_count: int
    free_slot_count: int
    queue_length: int
    queue_capacity: int
    device: str
    stock_available: bool
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., slot_count: _Optional[int] = ..., free_slot_count: _Optional[int] = ..., queue_length: _Optional[int] = ..., queue_capacity: _Optional[int] = ..., device: _Optional[str] = ..., stock_available: _Optional[bool] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "revision", "description", "example_prompts", "schedulers", "max_prompt_length", "width", "height", "max_pixels", "num_inference_steps", "guidance_scale", "previews", "loras", "refiner", "initial_images", "fp8_difference")
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULERS_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    LORAS_FIELD_NUMBER: _ClassVar[int]
    REFINER_FIELD_NUMBER: _ClassVar[int]
    INITIAL_IMAGES_FIELD_NUMBER: _ClassVar[int]
    FP8_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    revision: str
    description: str
    example_prompts: _containers.RepeatedScalarFieldContainer[str]
    schedulers: _containers.RepeatedScalarFieldContainer[str]
    max_prompt_length: int
    width: IntegerRange
    height: IntegerRange
    max_pixels: int
    num_inference_steps: IntegerRange
    guidance_scale: FloatRange
    previews: bool
    loras: _containers.RepeatedScalarFieldContainer[str]
    refiner: str
    initial_images: bool
    fp8_difference: float
    def __init__(self, id: _Optional[str] = ..., revision: _Optional[str] = ..., description: _Optional[str] = ..., example_prompts: _Optional[_Iterable[str]] = ..., schedulers: _Optional[_Iterable[str]] = ..., max_prompt_length: _Optional[int] = ..., width: _Optional[_Union[IntegerRange, _Mapping]] = ..., height: _Optional[_Union[IntegerRange, _Mapping]] = ..., max_pixels: _Optional[int] = ..., num_inference_steps: _Optional[_Union[IntegerRange, _Mapping]] = ..., guidance_scale: _Optional[_Union[FloatRange, _Mapping]] = ..., previews: _Optional[bool] = ..., loras: _Optional[_Iterable[str]] = ..., refiner: _Optional[str] = ..., initial_images: _Optional[bool] = ..., fp8_difference: _Optional[float] = ...) -> None: ...

class IntegerRange(_message.Message):
    __slots__ = ("min", "max", "step", "default")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    min: int
    max: int
    step: int
    default: int
    def __init__(self, min: _Optional[int] = ..., max: _Optional[int] = ..., step: _Optional[int] = ..., default: _Optional[int] = ...) -> None: ...

class FloatRange(_message.Message):
    __slots__ = ("min", "max", "step", "default")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    min: float
    max: float
    step: float
    default: float
    def __init__(self, min: _Optional[float] = ..., max: _Optional[float] = ..., step: _Optional[float] = ..., default: _Optional[float] = ...) -> None: ...

class ValidateParametersRequest(_message.Message):
    __slots__ = ("parameters",)
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _generation_pb2.GenerationParameters
    def __init__(self, parameters: _Optional[_Union[_generation_pb2.GenerationParameters, _Mapping]] = ...) -> None: ...

class ValidateParametersResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "parameters", "preview_interval", "initial_image")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    INITIAL_IMAGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parameters: _generation_pb2.GenerationParameters
    preview_interval: int
    initial_image: bytes
    def __init__(self, request_id: _Optional[str] = ..., parameters: _Optional[_Union[_generation_pb2.GenerationParameters, _Mapping]] = ..., preview_interval: _Optional[int] = ..., initial_image: _Optional[bytes] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("queued", "progress", "preview", "image", "chunk")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    queued: Queued
    progress: Progress
    preview: Preview
    image: ImageMetadata
    chunk: bytes
    def __init__(self, queued: _Optional[_Union[Queued, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., image: _Optional[_Union[ImageMetadata, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "eta")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    ETA_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    eta: _duration_pb2.Duration
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., eta: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("content_type", "data", "width", "height")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    data: bytes
    width: int
    height: int
    def __init__(self, content_type: _Optional[str] = ..., data: _Optional[bytes] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class ImageMetadata(_message.Message):
    __slots__ = ("file", "generation")
    FILE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    file: _image_pb2.ImageFile
    generation: _generation_pb2.Generation
    def __init__(self, file: _Optional[_Union[_image_pb2.ImageFile, _Mapping]] = ..., generation: _Optional[_Union[_generation_pb2.Generation, _Mapping]] = ...) -> None: ...
