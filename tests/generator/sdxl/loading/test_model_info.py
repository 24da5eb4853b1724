"""Which checkpoints are served, what is said of them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from services.generator.engine import CheckpointError
from services.generator.models import ImageRequest, Lora
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading import checkpoints, model_info
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import make_checkpoint
from tests.generator import tolerance
from tests.generator.diffusers_reference import difference
from tests.generator.harness import cpu_options, request, sdxl


def paint(engine: SdxlEngine, wanted: ImageRequest) -> torch.Tensor:
    (sample,) = engine.prepare([wanted])
    while sample.steps_done < sample.total_steps:
        engine.step([sample])
    return sample.latents.clone()  # type: ignore[attr-defined]  # ours


class TestTiny:
    def test_the_same_every_time_and_a_plain_diffusers_folder(self, checkpoint: Path, tmp_path: Path) -> None:
        make_checkpoint(tmp_path / "again", size=64)
        assert checkpoints.fingerprint(tmp_path / "again") == checkpoints.fingerprint(checkpoint)
        assert {file.suffix for file in checkpoint.rglob("*") if file.is_file()} <= {".json", ".safetensors"}

    def test_what_is_there_is_left_alone(self, copy: Path) -> None:
        before = checkpoints.fingerprint(copy)
        make_checkpoint(copy, size=128)
        assert checkpoints.fingerprint(copy) == before


class TestChannels:
    """A UNet that takes a mask and a masked picture beside the latents has nine channels."""

    def inpainting_unet(self, folder: Path) -> None:
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        wider = UNet2DConditionModel.from_config({**unet.config, "in_channels": 9})
        wider.save_pretrained(folder / "unet")

    def test_one_made_for_inpainting_alone_is_refused(self, copy: Path) -> None:
        self.inpainting_unet(copy)
        with pytest.raises(CheckpointError, match="has 9 input channels, but latents have 4"):
            sdxl(copy).warm_up()

    def test_its_pipeline_is_refused_too(self, copy: Path) -> None:
        self.inpainting_unet(copy)
        index = json.loads((copy / "model_index.json").read_text())
        (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionXLInpaintPipeline"}))
        with pytest.raises(CheckpointError, match="can only inpaint"):
            sdxl(copy).warm_up()

    def test_a_single_file_alone_is_known_by_its_first_layer(self, tmp_path: Path) -> None:
        first, last = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight"
        weights = {first: torch.zeros(32, 9, 3, 3), last: torch.zeros(4, 32, 3, 3)}
        save_file(weights, tmp_path / "inpainting.safetensors")
        with pytest.raises(CheckpointError, match="has 9 input channels"):
            sdxl(tmp_path / "inpainting.safetensors").warm_up()

    def test_as_a_further_model_it_stops_the_start(self, checkpoint: Path, copy: Path) -> None:
        self.inpainting_unet(copy)
        sources = [ModelSource("tiny", str(checkpoint)), ModelSource("other", str(copy))]
        with pytest.raises(CheckpointError, match="has 9 input channels"):
            SdxlEngine(sources, cpu_options(copy)).warm_up()


def test_a_vae_that_cannot_read_pictures_is_refused(copy: Path) -> None:
    """Half a VAE would paint, but a picture to begin from would come out as chance has it."""
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("encoder.")}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"vae lacks the weights of encoder\."):
        sdxl(copy).warm_up()


class TestAbout:
    def describe(self, folder: Path, name: str = "m") -> Any:
        return model_info.describe(checkpoints.find(ModelSource(name, str(folder)), folder), None).info

    def test_a_frontispiece_json_is_believed(self, copy: Path) -> None:
        about = {
            "description": "Apples.",
            "example_prompts": ["a red apple"],
            "defaults": {
                "width": 128,
                "height": 64,
                "num_inference_steps": 12,
                "guidance_scale": 3.5,
                "scheduler": "DPMSolverMultistepScheduler",
            },
            "limits": {"min_width": 64, "max_width": 128, "min_height": 64, "max_height": 64},
        }
        (copy / "frontispiece.json").write_text(json.dumps(about))
        info = self.describe(copy)
        assert (info.description, info.example_prompts) == ("Apples.", ("a red apple",))
        assert (info.width.min, info.width.max, info.width.default, info.height.max) == (64, 128, 128, 64)
        assert info.max_pixels == 128 * 64
        assert (info.num_inference_steps.default, info.guidance_scale.default) == (12, 3.5)
        assert info.schedulers[0] == "dpmpp_2m"

    @pytest.mark.parametrize("defaults", [{"width": 100}, {"width": "wide"}, {"scheduler": "nobody"}])
    def test_one_that_makes_no_sense_is_refused(self, copy: Path, defaults: dict[str, Any]) -> None:
        (copy / "frontispiece.json").write_text(json.dumps({"defaults": defaults}))
        with pytest.raises(CheckpointError):
            self.describe(copy)

    @pytest.mark.parametrize(
        ("name", "steps", "guidance", "scheduler", "spacing"),
        [
            ("stabilityai/stable-diffusion-xl-base-1.0", 30, 5.0, "euler", None),
            ("stabilityai/sdxl-turbo", 4, 0.0, "euler_ancestral", "trailing"),
            ("sdxl_lightning_8step", 8, 0.0, "euler", "trailing"),
            ("Hyper-SDXL-2steps", 2, 0.0, "ddim", "trailing"),
            ("lcm-sdxl", 4, 1.0, "lcm", None),
        ],
    )
    def test_few_step_checkpoints_are_recognised(
        self, copy: Path, name: str, steps: int, guidance: float, scheduler: str, spacing: str | None
    ) -> None:
        (copy / "frontispiece.json").unlink()
        found = checkpoints.find(ModelSource(name, str(copy)), copy)
        entry = model_info.describe(found, None)
        assert entry.info.num_inference_steps.default == steps
        assert entry.info.guidance_scale.default == guidance
        assert entry.info.schedulers[0] == scheduler
        assert entry.scheduler_config.get("timestep_spacing") == spacing


class TestSeveral:
    def test_only_what_is_used_stays_in_memory(self, checkpoint: Path, tmp_path: Path) -> None:
        sources = []
        for number in range(3):
            folder = tmp_path / f"m{number}"
            make_checkpoint(folder, size=64, seed=number)
            sources.append(ModelSource(f"m{number}", str(folder)))
        size = 8 * 2**20 / 2**30
        engine = SdxlEngine(sources, cpu_options(tmp_path, max_batch=2, memory_budget_gib=2 * size))
        engine.warm_up()
        assert [info.id for info in engine.models] == ["m0", "m1", "m2"]
        assert engine.registry.loaded_names() == ["m0"]
        first = paint(engine, request(model="m0"))
        other = paint(engine, request(model="m1"))
        assert engine.registry.loaded_names() == ["m0", "m1"]
        paint(engine, request(model="m2"))
        assert engine.registry.loaded_names() == ["m1", "m2"]
        assert torch.equal(paint(engine, request(model="m0")), first)
        assert not torch.equal(first, other)

    def test_two_of_one_name_are_refused(self, checkpoint: Path) -> None:
        engine = SdxlEngine([ModelSource("m", str(checkpoint))] * 2, cpu_options(checkpoint))
        with pytest.raises(CheckpointError, match="two models"):
            engine.warm_up()

    def test_another_vae(self, checkpoint: Path, tmp_path: Path) -> None:
        make_checkpoint(tmp_path / "other", size=64, seed=5)
        engine = sdxl(checkpoint, vae=str(tmp_path / "other" / "vae"))
        engine.warm_up()
        plain = sdxl(checkpoint)
        plain.warm_up()
        images = []
        for some in (engine, plain):
            (sample,) = some.prepare([request()])
            images.append(some.decode([sample])[0])
        assert (images[0] != images[1]).any()


LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT_LAYER = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    folder = tmp_path / "loras"
    folder.mkdir()
    down, up = torch.randn(2, 64), torch.randn(64, 2)
    save_file({f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}, folder / "peft.safetensors")
    key = "lora_unet_" + LAYER.replace(".", "_")
    kohya = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.0)}
    save_file(kohya, folder / "kohya.safetensors")
    key = "lora_te1_" + TEXT_LAYER.replace(".", "_")
    text = {f"{key}.lora_down.weight": torch.randn(2, 32), f"{key}.lora_up.weight": torch.randn(32, 2)}
    save_file({**kohya, **text}, folder / "text.safetensors")
    save_file({"unet.nowhere.lora_A.weight": down, "unet.nowhere.lora_B.weight": up}, folder / "odd.safetensors")
    return folder


class TestLoras:
    @pytest.fixture
    def engine(self, checkpoint: Path, loras: Path) -> SdxlEngine:
        made = sdxl(checkpoint, loras_dir=loras)
        made.warm_up()
        return made

    def test_it_is_as_if_its_product_were_added_to_the_weights(
        self, engine: SdxlEngine, checkpoint: Path, loras: Path
    ) -> None:
        factors = load_file(loras / "peft.safetensors")
        by_hand = sdxl(checkpoint)
        by_hand.warm_up()
        weight = by_hand.registry.get("tiny").pipeline.unet.get_submodule(LAYER).weight
        weight += 0.5 * factors[f"unet.{LAYER}.lora_B.weight"] @ factors[f"unet.{LAYER}.lora_A.weight"]
        ours = paint(engine, request(loras=(Lora("peft", 0.5),)))
        assert difference(ours, paint(by_hand, request())) <= tolerance.latents(request())

    def test_alpha_scales_and_two_formats_agree(self, engine: SdxlEngine) -> None:
        kohya = paint(engine, request(loras=(Lora("kohya", 1.0),)))  # alpha 1, rank 2
        peft = paint(engine, request(loras=(Lora("peft", 0.5),)))
        assert difference(kohya, peft) <= tolerance.latents(request())

    def test_switching_back_leaves_no_trace(self, engine: SdxlEngine) -> None:
        before = paint(engine, request())
        with_lora = paint(engine, request(loras=(Lora("peft", 1.0), Lora("text", 1.0))))
        assert torch.equal(paint(engine, request()), before)
        assert difference(with_lora, before) > 10 * tolerance.latents(request())

    def test_lanes_with_and_without_take_turns(self, engine: SdxlEngine) -> None:
        plain, styled = request(seed=1), request(seed=2, loras=(Lora("peft", 0.7),))
        alone = [paint(engine, plain), paint(engine, styled)]
        samples = [*engine.prepare([plain]), *engine.prepare([styled])]
        for _ in range(plain.num_inference_steps):
            for sample in samples:
                engine.step([sample])
        assert torch.equal(samples[0].latents, alone[0])  # type: ignore[attr-defined]
        assert torch.equal(samples[1].latents, alone[1])  # type: ignore[attr-defined]

    def test_the_text_encoders_are_changed_too_and_prompts_not_confused(self, engine: SdxlEngine) -> None:
        plain = paint(engine, request(prompt="x"))
        text = paint(engine, request(prompt="x", loras=(Lora("text", 1.0),)))
        kohya = paint(engine, request(prompt="x", loras=(Lora("kohya", 1.0),)))
        assert not torch.equal(text, kohya)
        assert torch.equal(paint(engine, request(prompt="x")), plain)

    def test_one_that_does_not_fit_is_refused_and_nothing_changes(self, engine: SdxlEngine) -> None:
        before = paint(engine, request())
        with pytest.raises(CheckpointError, match="does not fit"):
            engine.prepare([request(loras=(Lora("odd", 1.0),))])
        assert torch.equal(paint(engine, request()), before)

    def test_names_are_told(self, engine: SdxlEngine) -> None:
        assert engine.models[0].loras == ("kohya", "odd", "peft", "text")
