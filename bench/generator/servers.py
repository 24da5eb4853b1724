"""The rivals: which packages each is, how it is started, and how a client asks it. All at their documented best."""

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from bench.generator.parties import PROGRAMS, START_SECONDS, Server, Wanted, process
from local.ports import free_port

# What paints is the same for all, to the version, unless a rival's own pins forbid it.
SAME = tuple(f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "diffusers", "transformers"))


class HttpServer(Server):
    """A rival that speaks HTTP."""

    def __init__(self, name: str, pid: int, http: httpx2.AsyncClient, path: str) -> None:
        """Post requests to `path`."""
        self.name, self.pid = name, pid
        self._http = http
        self._path = path

    async def post(self, body: Any) -> bytes:
        """The body of the answer. Raises for any status but 200."""
        response = await self._http.post(self._path, json=body)
        response.raise_for_status()
        return response.content

    async def paint(self, wanted: Wanted) -> bytes:
        """The request is the body, the answer is the PNG."""
        return await self.post(wanted.as_json())


class BentoServer(HttpServer):
    """A list in, a list out."""

    async def paint(self, wanted: Wanted) -> bytes:
        """A list of one: the server makes batches of them."""
        (image,) = json.loads(await self.post({"wanted": [wanted.as_json()]}))
        return base64.b64decode(image)


class TritonServer(HttpServer):
    """The KServe protocol, with the request as a string tensor."""

    async def paint(self, wanted: Wanted) -> bytes:
        """Tensors in JSON."""
        tensor = {"name": "request", "shape": [1, 1], "datatype": "BYTES", "data": [json.dumps(wanted.as_json())]}
        answer = json.loads(await self.post({"inputs": [tensor]}))
        return base64.b64decode(answer["outputs"][0]["data"][0])


class XinferenceServer(HttpServer):
    """OpenAI's images API."""

    _registered = False

    async def paint(self, wanted: Wanted) -> bytes:
        """Parameters beyond OpenAI's travel as a string of JSON."""
        options = {"num_inference_steps": wanted.steps, "guidance_scale": wanted.guidance, "seed": wanted.seed}
        body = {"model": "tiny", "prompt": wanted.prompt, "size": f"{wanted.size}*{wanted.size}"}
        answer = json.loads(await self.post({**body, "response_format": "b64_json", "kwargs": json.dumps(options)}))
        return base64.b64decode(answer["data"][0]["b64_json"])

    async def launch(self, checkpoint: Path, home: Path) -> None:
        """Register the checkpoint and load it."""
        family = {
            "version": 2,
            "model_family": "stable_diffusion",
            "model_name": "tiny",
            "model_id": None,
            "model_revision": None,
            "model_uri": str(checkpoint),
            "model_ability": ["text2image"],
            "controlnet": [],
        }
        model = {"model_uid": "tiny", "model_name": "tiny", "model_type": "image", "torch_dtype": "float32"}
        if not self._registered:
            body = {"model": json.dumps(family), "persist": False}
            (await self._http.post("/v1/model_registrations/image", json=body)).raise_for_status()
            self._registered = True
        # It links the checkpoint into this folder, which it makes for its own downloads only, and clears at the start.
        (home / "cache" / "v2").mkdir(parents=True, exist_ok=True)
        (await self._http.post("/v1/models", json=model)).raise_for_status()


@dataclass(frozen=True)
class Rival:
    """One package: what to install, what to run (`{python}`, `{bin}`, `{model}`, `{port}`, `{batch}`), what to ask."""

    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    client: Callable[..., HttpServer] = HttpServer
    environment: tuple[tuple[str, str], ...] = ()
    system_python: bool = False


RIVALS = {
    "litserve": Rival(
        ("litserve==0.2.19", *SAME),
        ("{python}", f"{PROGRAMS}/litserve_server.py", "{model}", "{port}", "{batch}"),
        "/predict",
    ),
    "mosec": Rival(
        ("mosec==0.9.8", *SAME),
        (
            *("{python}", f"{PROGRAMS}/mosec_server.py", "--address", "127.0.0.1", "--port", "{port}"),
            *("--timeout", "600000"),  # milliseconds; three seconds unless told, less than a full line takes here
        ),
        "/inference",
    ),
    "bentoml": Rival(
        ("bentoml==1.4.39", *SAME),
        (
            *("{bin}/bentoml", "serve", "bentoml_server:Sdxl", "--working-dir", str(PROGRAMS)),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        "/paint",
        BentoServer,
        (("BENTOML_DO_NOT_TRACK", "true"),),
    ),
    "ray": Rival(
        ("ray[serve]==2.60.0", *SAME),
        ("{python}", f"{PROGRAMS}/ray_server.py", "{model}", "{port}", "{batch}"),
        "/",
        # Its workers are niced by default, which would only count against it here.
        environment=(("RAY_worker_niceness", "0"), ("RAY_USAGE_STATS_ENABLED", "0"), ("PYTHONPATH", str(PROGRAMS))),
    ),
    "triton": Rival(
        ("nvidia-pytriton==0.7.0", *SAME),
        ("{python}", f"{PROGRAMS}/triton_server.py", "{model}", "{port}", "{batch}"),
        "/v2/models/sdxl/infer",
        TritonServer,
        system_python=True,  # it brings a libpython of its own that newer patch releases do not fit
    ),
    # Its own pins keep diffusers at an older release.
    "xinference": Rival(
        ("xinference==4.1.0", "diffusers", "accelerate", "huggingface-hub<2", SAME[0]),
        ("{bin}/xinference-local", "--host", "127.0.0.1", "--port", "{port}"),
        "/v1/images/generations",
        XinferenceServer,
        (("XINFERENCE_AUTH_ADVANCED", "0"), ("XINFERENCE_ENABLE_VIRTUAL_ENV", "0")),
    ),
}


def install(name: str, folder: Path) -> Path:
    """An environment with that rival and nothing of ours; its folder, in `folder`. One that is there already is used.

    Raises CalledProcessError, ValueError.
    """
    if name not in RIVALS:
        raise ValueError(f"not known; there are {', '.join(RIVALS)}")
    rival = RIVALS[name]
    environment = folder / f"env-{name}"
    uv = str(Path(sys.executable).with_name("uv"))
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin") if rival.system_python else None
    python = environment / "bin" / "python"
    make = [uv, "venv", "--quiet", "--python", system or sys.executable, str(environment)]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python), *rival.packages, "pillow"]
    for command in [fill] if python.exists() else [make, fill]:
        subprocess.run(command, check=True, capture_output=True, text=True)
    return environment


@asynccontextmanager
async def rival_server(name: str, environment: Path, model: Path, folder: Path, batch: int) -> AsyncIterator[Server]:
    """A rival that has painted its first image."""
    rival, port = RIVALS[name], free_port()
    home = folder / f"home-{name}"
    home.mkdir(exist_ok=True)
    bin = environment / "bin"
    values = {"python": bin / "python", "bin": bin, "model": model, "port": port, "batch": batch}
    command = [part.format(**values) for part in rival.command]
    variables = {
        **{"HOME": str(home), "XINFERENCE_HOME": str(home), "PATH": f"{bin}:/usr/bin:/bin"},
        **{"RIVAL_FOLDER": str(model), "RIVAL_BATCH": str(batch), **dict(rival.environment)},
    }
    async with process(command, folder, name, variables, cwd=home) as child:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as http:
            server = rival.client(name, child.pid, http, rival.path)
            await _until_it_paints(server, child, lambda: _prepare(server, model, home))
            yield server


async def _prepare(server: Server, model: Path, home: Path) -> None:
    if isinstance(server, XinferenceServer):
        await server.launch(model, home)


async def _until_it_paints(server: Server, child: Any, prepare: Callable[[], Any]) -> None:
    """Ask until there is an image. Raises RuntimeError when it ends or does not come up in time."""
    prepared = False
    try:
        async with asyncio.timeout(START_SECONDS):
            while child.returncode is None:
                try:
                    if not prepared:
                        await prepare()
                        prepared = True
                    await server.paint(Wanted("warm", 0, steps=2))
                    return
                except (httpx2.HTTPError, ValueError, KeyError):
                    await asyncio.sleep(1.0)
    except TimeoutError:
        raise RuntimeError(f"{server.name} did not paint within {START_SECONDS:.0f} s") from None
    raise RuntimeError(f"{server.name} ended with {child.returncode}")
