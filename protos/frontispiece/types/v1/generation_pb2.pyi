from frontispiece.types.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_SOURCE_UNSPECIFIED: _ClassVar[ImageSource]
    IMAGE_SOURCE_GENERATED: _ClassVar[ImageSource]
    IMAGE_SOURCE_STOCK: _ClassVar[ImageSource]
IMAGE_SOURCE_UNSPECIFIED: ImageSource
IMAGE_SOURCE_GENERATED: ImageSource
IMAGE_SOURCE_STOCK: ImageSource

class GenerationParameters(_message.Message):
    __slots__ = ("prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed", "scheduler", "model", "source", "loras", "guidance_end", "denoising_end", "initial_image", "clip_skip")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LORAS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_END_FIELD_NUMBER: _ClassVar[int]
    DENOISING_END_FIELD_NUMBER: _ClassVar[int]
    INITIAL_IMAGE_FIELD_NUMBER: _ClassVar[int]
    CLIP_SKIP_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    model: str
    source: ImageSource
    loras: _containers.RepeatedCompositeFieldContainer[Lora]
    guidance_end: float
    denoising_end: float
    initial_image: InitialImage
    clip_skip: int
    def __init__(self, prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seed: _Optional[int] = ..., scheduler: _Optional[str] = ..., model: _Optional[str] = ..., source: _Optional[_Union[ImageSource, str]] = ..., loras: _Optional[_Iterable[_Union[Lora, _Mapping]]] = ..., guidance_end: _Optional[float] = ..., denoising_end: _Optional[float] = ..., initial_image: _Optional[_Union[InitialImage, _Mapping]] = ..., clip_skip: _Optional[int] = ...) -> None: ...

class InitialImage(_message.Message):
    __slots__ = ("key", "strength", "mask", "mask_feather", "has_mask", "url")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    MASK_FEATHER_FIELD_NUMBER: _ClassVar[int]
    HAS_MASK_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    key: str
    strength: float
    mask: bytes
    mask_feather: int
    has_mask: bool
    url: str
    def __init__(self, key: _Optional[str] = ..., strength: _Optional[float] = ..., mask: _Optional[bytes] = ..., mask_feather: _Optional[int] = ..., has_mask: _Optional[bool] = ..., url: _Optional[str] = ...) -> None: ...

class Lora(_message.Message):
    __slots__ = ("name", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("parameters", "model_revision", "refiner", "refiner_revision", "batch_size", "initial_image_sha256", "mask_sha256", "attribution")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MODEL_REVISION_FIELD_NUMBER: _ClassVar[int]
    REFINER_FIELD_NUMBER: _ClassVar[int]
    REFINER_REVISION_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    INITIAL_IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MASK_SHA256_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    parameters: GenerationParameters
    model_revision: str
    refiner: str
    refiner_revision: str
    batch_size: int
    initial_image_sha256: str
    mask_sha256: str
    attribution: Attribution
    def __init__(self, parameters: _Optional[_Union[GenerationParameters, _Mapping]] = ..., model_revision: _Optional[str] = ..., refiner: _Optional[str] = ..., refiner_revision: _Optional[str] = ..., batch_size: _Optional[int] = ..., initial_image_sha256: _Optional[str] = ..., mask_sha256: _Optional[str] = ..., attribution: _Optional[_Union[Attribution, _Mapping]] = ...) -> None: ...

class Attribution(_message.Message):
    __slots__ = ("provider", "author", "author_url", "source_url", "description")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_URL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    provider: str
    author: str
    author_url: str
    source_url: str
    description: str
    def __init__(self, provider: _Optional[str] = ..., author: _Optional[str] = ..., author_url: _Optional[str] = ..., source_url: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...
