"""Every backend against float32 in torch: seconds of the paper's networks, and what the gate says.

Run: ``python -m benchmarks.speed.backends``. The gate compares maps and counts of ``--bundle``
(default: the starter) on drawn biopsies, and on real tissue in the folder that ``--data`` or
SKINRAY_REAL_DATA names. ``--avx2`` hides all later instructions from the libraries.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import figure, machine, versions, write
from benchmarks.older_processor import run_with_avx2_only, this_again
from skinray.config.biopsies import PhantomSettings
from skinray.files import STARTER
from skinray.images.phantoms.phantom import make_phantom
from skinray.images.read import read_image
from skinray.learning.bundle import check
from skinray.learning.bundle.backend import CALIBRATED_PX, others, stages_by
from skinray.learning.bundle.gate import Expected, compare, middle
from skinray.learning.bundle.networks import Seen, calibrate_stage
from skinray.models import build
from skinray.models.backends import BACKENDS, REFERENCE, offered
from skinray.models.compute import computes_bfloat16, instructions
from skinray.models.predict import predict_map

NETWORKS = {"HED": "hed", "DeepLabV3-ResNet101": "deeplabv3_resnet101"}
SIZE = (608, 800)
ASKED, ASKED_AVX2 = 3.0, 1.6
# What most users write: torch in float32, planes of colour one after the other.
PLAIN = "plain torch"
PHANTOMS, TISSUE = 4, 6
CPU = torch.device("cpu")


def avx2_alone() -> bool:
    """Whether the processor has no later instructions, or they are hidden."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def products(dtype: torch.dtype, side: int = 2048) -> float:
    """Return what a product of two square matrices reaches here, in GFLOP/s."""
    one = torch.rand(side, side).to(dtype)
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(one, one)
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / min(taken) / 1e9


def in_turn(passes: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time passes in turn, in seconds of wall time; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(-1, rounds):
        for name, run in passes.items():
            began = time.perf_counter()
            run()
            if number >= 0:
                times[name].append(time.perf_counter() - began)
    return times


def stand_ins(network: nn.Module, folder: Path) -> dict[str, nn.Module]:
    """Return the network by every backend that works here; int8 is calibrated on noise."""
    ways = {}
    for name, why in offered(network, CPU).items():
        if why:
            continue
        calibrate = BACKENDS[name].calibrate
        if calibrate is not None:
            calibrate(network, folder, [torch.rand(1, 3, 256, 256) for _ in range(2)])
        ways[name] = BACKENDS[name].prepare(network, CPU, folder).eval()
    return ways


def operations(network: nn.Module) -> float:
    """Return the floating-point operations of a pass, in GFLOP: two for each product."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, *SIZE))
    return float(counter.get_total_flops()) / 1e9


def timed(
    title: str, name: str, rounds: int, limits: dict[str, float], result: str = "backends"
) -> list[str]:
    """Time one network by every backend; return lines of the table.

    Parameters
    ----------
    limits : GFLOP/s of a product of matrices, by precision.
    result : name of the result file.
    """
    torch.manual_seed(0)
    network = build(name).eval()
    needed = operations(network)
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    with TemporaryDirectory() as folder:
        ways = stand_ins(network, Path(folder))
        planes = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255

        def plain() -> None:
            with torch.inference_mode():
                network(planes)

        passes: dict[str, Callable[[], object]] = {PLAIN: plain}
        for way, stand_in in ways.items():
            passes[way] = partial(predict_map, stand_in, image)
        times = in_turn(passes, rounds)
    middle = {way: statistics.median(taken) for way, taken in times.items()}
    # Calibrated on noise, integers say nothing about results, so they are not the figure.
    settled = [way for way in middle if way not in (PLAIN, "openvino_int8")]
    best = min(settled, key=lambda way: middle[way])
    limit = ASKED if computes_bfloat16(CPU) else ASKED_AVX2
    if avx2_alone():
        title += ", AVX2 alone"
    ratio, unit = middle[PLAIN] / middle[best], f"times as fast as plain torch, by {best}"
    figure(result, title, ratio, unit, f">= {limit:g}")
    unit = f"times as fast as the reference, by {best}"
    figure(result, f"{title}, reference", middle[REFERENCE] / middle[best], unit)
    return [
        f"| {title} | {way} | {middle[way]:.2f} | {min(taken):.2f} to {max(taken):.2f} | "
        f"{middle[PLAIN] / middle[way]:.2f} | {middle[REFERENCE] / middle[way]:.2f} | "
        f"{share(way, needed / middle[way], limits)} |"
        for way, taken in times.items()
    ]


def share(way: str, speed: float, limits: dict[str, float]) -> str:
    """Return a speed in GFLOP/s as a share of that of a product of matrices; empty for int8."""
    if way.endswith("int8"):
        return ""
    limit = limits["bfloat16" if way.endswith("bfloat16") else "float32"]
    return f"{speed / limit:.0%}"


def pictures(data: Path) -> dict[str, list[Seen]]:
    """Return what the gate compares on, and after it as many images that calibrate."""
    drawn = [make_phantom(PhantomSettings(), 7, n, (768, 1024)).image for n in range(2 * PHANTOMS)]
    found: dict[str, list[Seen]] = {"drawn biopsies": [(image, 0.5) for image in drawn]}
    files = sorted((data / "skin_pas_dej/images").glob("*.jpg"))
    if files:
        tissue = [read_image(file).pixels for file in files[:: len(files) // (2 * TISSUE)]]
        found["real tissue"] = [(image, 0.5) for image in tissue]
    return found


def gate(bundle: Path, images: Sequence[Seen], title: str) -> list[str]:
    """Return what the gate finds about every backend of a bundle on images."""
    info, rows = check(bundle), []
    reference = stages_by(REFERENCE, bundle, info, CPU)
    half = len(images) // 2
    expected = [Expected(info, reference, seen) for seen in images[:half]]
    typical = [middle(seen, CALIBRATED_PX) for seen in images[half:]]
    for name in others(reference, CPU):
        if BACKENDS[name].calibrate is not None:
            for stage, model in reference.items():
                calibrate_stage(info, model, stage, name, typical)
        models = stages_by(name, bundle, info, CPU)
        found = compare(info, models, expected, exact=BACKENDS[name].exact)
        rows.append(
            f"| {title} | {name} | {found.images} | {found.changed:.1e} | {found.flipped:.3%} | "
            f"{found.dice:.4f} | {found.apart:.2g} | {found.refused or 'passed'} |"
        )
    return rows


def main() -> None:
    """Measure, print and write ``results/backends.md``."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", type=Path, default=STARTER)
    parser.add_argument("--data", type=Path, default=os.environ.get("SKINRAY_REAL_DATA"))
    parser.add_argument("--avx2", action="store_true", help="as on a processor with AVX2 alone")
    options = parser.parse_args()
    if options.avx2:
        sys.exit(run_with_avx2_only(this_again()))
    torch.set_num_threads(2)
    name = "backends_avx2" if avx2_alone() else "backends"
    limits = {"float32": products(torch.float32)}
    if computes_bfloat16(CPU):  # without its instructions, a product takes a minute
        limits["bfloat16"] = products(torch.bfloat16)
    for precision, speed in limits.items():
        figure(name, f"product of matrices, {precision}", speed, "GFLOP/s")
    said = " and ".join(f"{speed:.0f} GFLOP/s in {one}" for one, speed in limits.items())
    rows = []
    for title, network in NETWORKS.items():
        rows += timed(title, network, options.rounds, limits, name)
    seen, gated = pictures(Path(options.data) if options.data else Path()), []
    with TemporaryDirectory() as cache:  # the user's own keeps what scoring converted
        os.environ["SKINRAY_CACHE"] = cache
        for title, images in seen.items():
            gated += gate(options.bundle, images, title)
    hidden = " (later ones were hidden by `--avx2`)" if "LD_PRELOAD" in os.environ else ""
    write(name, [
        "# Backends against float32 in torch", "",
        f"The paper's networks with random weights on one image of {SIZE[1]}x{SIZE[0]} px, two "
        "threads, all backends in turn: seconds, as `skinray score` predicts. Asked: "
        f"{ASKED:g} times as fast as plain torch on a processor with bfloat16 instructions, "
        f"{ASKED_AVX2:g} with AVX2 alone. Plain torch keeps planes of colour one after the other "
        "(NCHW); `eager`, our reference, has the colours of a pixel side by side. "
        f"Two square matrices multiply at {said}; the last column is each pass's share of it.", "",
        "| network | backend | median s | lowest and highest | times plain torch | times eager | "
        "share of the limit |", "|---|---|---|---|---|---|---|", *rows, "",
        f"The gate, with the bundle `{options.bundle.name}`:", "",
        "| images | backend | compared | mean change | pixels that change sides | Dice | mean "
        "change of a count | gate |", "|---|---|---|---|---|---|---|---|", *gated, "",
        f"Instructions: {', '.join(instructions())}{hidden}. Machine: {machine()}. "
        f"{versions('torch', 'openvino')}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
