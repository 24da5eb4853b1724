"""Schedulers by the names that other programs use."""

import pytest
from frontispiece.types.v1 import generation_pb2 as types

from rpc import errors
from services.generator.scheduler_names import canonical
from services.generator.sdxl.schedulers import NAMES
from services.generator.validation import resolve
from tests.generator.fake import MODEL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, name) for name in NAMES),
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde_karras"),
        ("dpmpp_2m-karras", "dpmpp_2m_karras"),
        ("k_dpmpp_2m", "dpmpp_2m"),
        ("Euler", "euler"),
        ("Euler a", "euler_ancestral"),
        ("k_euler_a", "euler_ancestral"),
        ("Euler Karras", "euler_karras"),
        ("EulerDiscreteScheduler", "euler"),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral"),
        ("DPMSolverMultistepScheduler", "dpmpp_2m"),
        ("UniPCMultistepScheduler", "unipc"),
        ("uni_pc", "unipc"),
        ("UniPC", "unipc"),
        ("DDIMScheduler", "ddim"),
        ("PLMS", "pndm"),
        ("LCMScheduler", "lcm"),
        ("HeunDiscreteScheduler", "heun"),
        ("DPM++ 3M", None),
        ("karras", None),
        ("", None),
        ("ＥＵＬＥＲ", None),
    ],
)
def test_a_name_finds_its_scheduler(name: str, expected: str | None) -> None:
    assert canonical(name, NAMES) == expected


def test_a_scheduler_that_the_model_lacks_is_refused_with_the_list() -> None:
    assert canonical("DPM++ 2M", ["euler"]) is None
    parameters = types.GenerationParameters(prompt="a fox", scheduler="DPM++ 9M")
    with pytest.raises(errors.InvalidArgument, match="must be one of euler"):
        resolve(parameters, [MODEL])


def test_the_image_names_the_scheduler_as_we_do() -> None:
    parameters = types.GenerationParameters(prompt="a fox", scheduler="Euler")
    assert resolve(parameters, [MODEL]).parameters().scheduler == "euler"
