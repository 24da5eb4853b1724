"""`python -m bench.generator --device cpu|cuda --json FILE`: the rows C1 to C11 on a CPU, G1 to G13 on a GPU."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the service does; before PyTorch is loaded

from services.generator.__main__ import silence_libraries

silence_libraries()


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows here, after each one")
    parser.add_argument("--minutes", type=float, default=8.5, help="parts that would begin later are skipped")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of what is compared side by side")
    parser.add_argument("--dry", action="store_true", help="the GPU rows on a tiny model, to show that they run")
    parser.add_argument("--only", default="", help="comma-separated rows, such as C3 or G1,G3")
    parser.add_argument("--rivals", default="", help="comma-separated servers to measure too, in C10 and C11")
    parser.add_argument("--environments", type=Path, help="folder in which the rivals are, or are to be, installed")
    arguments = parser.parse_args()

    import torch

    from bench.generator.report import Report, describe_machine

    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"PyTorch {torch.__version__} finds no CUDA device; --dry --device cpu shows that the rows run")
    # Ended as by Ctrl-C: what was started for the measurement must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    only = {name.strip() for name in arguments.only.split(",") if name.strip()}
    report = Report(arguments.json, describe_machine(arguments.device), 60 * arguments.minutes)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.device == "cpu" and not arguments.dry:
            from bench.generator.cpu import CpuRun
            from bench.generator.side_by_side import Rivals

            names = tuple(name.strip() for name in arguments.rivals.split(",") if name.strip())
            rivals = Rivals(names, arguments.environments and arguments.environments.resolve())
            CpuRun(report, Path(folder), arguments.rounds, only, rivals).run()
        else:
            from bench.generator.gpu import GpuRun

            GpuRun(report, Path(folder), arguments.device, dry=arguments.dry, only=only).run()
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
