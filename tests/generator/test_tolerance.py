"""The tolerances are meaningful: every defect that they are to find exceeds ten times the tolerance."""

from typing import Any

import pytest

from services.generator.sdxl.engine import SdxlEngine
from tests.generator import tolerance
from tests.generator.diffusers_reference import difference, paint
from tests.generator.harness import request

DEFECTS: dict[str, dict[str, Any]] = {
    "another seed": {"seed": 8},
    "another prompt": {"prompt": "a fox"},
    "one more step": {"num_inference_steps": 5},
    "half of the steps unguided": {"guidance_end": 0.5},
    "a guidance scale off by 1 %": {"guidance_scale": 5.05},
    "another scheduler": {"scheduler": "dpmpp_2m"},
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_defect_exceeds_the_tolerance_ten_times(engine: SdxlEngine, defect: dict[str, Any]) -> None:
    right, wrong = paint(engine, request(), request(**defect))
    assert difference(wrong, right) > 10 * tolerance.latents(request())
