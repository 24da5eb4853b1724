"""The subjects as pictures: emoji drawings from pinned npm packages, rendered once and kept outside the repository."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.house.vocabulary import SUBJECTS

SPRITE_PX = 192
PACKAGE = "@iconify-json/fluent-emoji-flat@1.2.6"
CHECKSUM = "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw=="


def load(work: Path) -> Tensor:
    """The sprites, uint8 (subjects, 4, 192, 192), premultiplied by alpha; fetched and rendered the first time."""
    stored = work / "sprites.npy"
    if not stored.exists():
        work.mkdir(parents=True, exist_ok=True)
        icons = _icons(work)
        np.save(stored, np.stack([_render(icons, subject.icon) for subject in SUBJECTS]))
    sprites = np.load(stored)
    if len(sprites) != len(SUBJECTS):
        raise ValueError(f"{stored} holds {len(sprites)} sprites for {len(SUBJECTS)} subjects; delete it")
    return torch.from_numpy(sprites)


def names(work: Path) -> list[str]:
    """The English names of all drawings in the package, a few thousand plain words."""
    return [icon.replace("-", " ") for icon in _icons(work)["icons"]]


def _icons(work: Path) -> dict[str, Any]:
    """The package's icon table; raises ValueError when the package is not the one that was pinned."""
    told = subprocess.run(
        ["npm", "pack", "--json", "--pack-destination", str(work), PACKAGE], check=True, capture_output=True, text=True
    )
    content = (work / json.loads(told.stdout)[0]["filename"]).read_bytes()
    checksum = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if checksum != CHECKSUM:
        raise ValueError(f"{PACKAGE} has checksum {checksum}, expected {CHECKSUM}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None
        table: dict[str, Any] = json.load(member)
    return table


def _render(icons: dict[str, Any], icon: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    import resvg_py  # only here: machines that train from rendered sprites need no renderer

    side = icons["width"]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{icons["icons"][icon]["body"]}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SPRITE_PX, height=SPRITE_PX))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8).transpose(2, 0, 1)
