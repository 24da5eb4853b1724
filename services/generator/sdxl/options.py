"""How the SDXL engine computes: the settings that concern it, as plain values."""

from dataclasses import dataclass
from pathlib import Path

import torch

from services.generator.sdxl.fp8.quantizer import Quantizer, make_quantizer
from services.generator.sdxl.unet import UnetOptions
from services.generator.settings import FP8_TOLERANCE, GeneratorSettings

CUDA_LADDER = (1, 2, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class SdxlOptions:
    """See the settings of the same names."""

    models_dir: Path
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    max_batch: int = 0
    prompt_cache: int = 256
    vae: str = ""
    refiner: str = ""
    preview_decoder: Path | None = None
    loras_dir: Path | None = None
    memory_budget_gib: float = 0.0
    compile_mode: str = ""
    cuda_graphs: bool = True
    channels_last: bool = True
    fuse_qkv: bool = False
    fp8: str = "off"
    fp8_tolerance: float = FP8_TOLERANCE
    fp8_on_cpu: bool = False  # no setting: for tests, as it only costs time there
    attention: str = ""
    ladder: tuple[int, ...] = ()
    warm_chunks: tuple[int, ...] = (1, 2)

    @classmethod
    def from_settings(cls, settings: GeneratorSettings) -> "SdxlOptions":
        """The options that the settings ask for."""
        return cls(
            models_dir=settings.models_dir,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            max_batch=settings.max_batch,
            prompt_cache=settings.prompt_cache,
            vae=settings.vae,
            refiner=settings.refiner,
            preview_decoder=settings.preview_decoder,
            loras_dir=settings.loras_dir,
            memory_budget_gib=settings.memory_budget_gib,
            compile_mode="" if settings.compile == "off" else settings.compile,
            cuda_graphs=settings.cuda_graphs,
            channels_last=settings.channels_last,
            fuse_qkv=settings.fuse_qkv,
            fp8=settings.fp8,
            fp8_tolerance=settings.fp8_tolerance,
            attention="" if settings.attention == "auto" else settings.attention,
            ladder=settings.rungs,
        )

    def unet(self, device: str) -> UnetOptions:
        """How the UNet is run on `device`: graphs and the memory format only serve on CUDA."""
        on_cuda = device == "cuda"
        return UnetOptions(
            compile_mode=self.compile_mode,
            cuda_graphs=self.cuda_graphs and on_cuda,
            channels_last=self.channels_last and on_cuda,
            fuse_qkv=self.fuse_qkv,
            attention=self.attention if on_cuda else "",
            ladder=self.ladder or (CUDA_LADDER if on_cuda else ()),
            warm_chunks=self.warm_chunks,
            cache_dir=self.models_dir.absolute() / "compiled",
        )

    def quantizer(self, device: str, dtype: torch.dtype) -> Quantizer | None:
        """What puts fp8 into each model, None if nothing shall. Raises CheckpointError where `device` cannot do it."""
        unet = self.unet(device)
        return make_quantizer(
            self.fp8,
            self.fp8_tolerance,
            device=device,
            dtype=dtype,
            ladder=unet.ladder,
            cache_dir=unet.cache_dir,
            on_cpu=self.fp8_on_cpu,
        )
