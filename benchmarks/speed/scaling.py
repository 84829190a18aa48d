"""How scoring scales: 1, 2 and 4 simulated nodes, and what 100 of them would ask of the head."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from io import StringIO
from pathlib import Path

import cv2

from benchmarks.measure import machine, versions, write
from benchmarks.own_cluster import LOOPBACK, TOKEN, OwnCluster
from benchmarks.speed.scaling_costs import Costs, measure_costs, projection
from benchmarks.stand_in import drawn_image, stand_in_bundle

ASKED = 0.9
WAIT_S = 0.5
SIZE = (300, 400)


def wait_for_networks() -> None:
    """Make each stage of a bundle take half of ``WAIT_S`` more, in the process that calls this."""
    from skinray.learning.bundle.networks import StageModel

    plain = StageModel.map

    def waiting(self: StageModel, *given: object) -> object:
        time.sleep(WAIT_S / 2)
        return plain(self, *given)  # type: ignore[arg-type]

    StageModel.map = waiting  # type: ignore[method-assign, assignment]


def rate_of(nodes: int, images: int, scratch: Path) -> float:
    """Return the images per second of a number of nodes with an actor each, after the start."""
    # Ray looks at these when it is imported.
    os.environ |= LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    import ray
    from rich.console import Console

    from skinray.cluster.score.run import score
    from skinray.config.scoring import ScoreSettings

    folder = scratch / "images"
    if not folder.is_dir():
        folder.mkdir()
        for at in range(images):
            pixels = drawn_image(at, SIZE, nerves=at % 5)
            cv2.imwrite(str(folder / f"{at:04d}.png"), pixels[..., ::-1])
    bundle, said = stand_in_bundle(scratch / f"bundle-{nodes}"), StringIO()
    settings = ScoreSettings(layout="fused", images_per_part=2).override({"fused.actors": nodes})
    with OwnCluster() as cluster:
        for number in range(nodes):
            cluster.add_node(2 if number == 0 else 1)  # one CPU feeds
        os.environ.update({k: v for k, v in cluster.driver_env.items() if k.startswith("RAY_")})
        ray.init(
            address=cluster.address, log_to_driver=False,
            runtime_env={"worker_process_setup_hook": wait_for_networks},
        )  # fmt: skip
        try:
            totals = score(
                bundle, str(folder), scratch / f"out-{nodes}", settings,
                console=Console(file=said),
            )  # fmt: skip
        finally:
            ray.shutdown()
            del os.environ["RAY_ADDRESS"]
    if totals.scored != images:
        raise RuntimeError(f"{totals.scored} of {images} images were scored: {said.getvalue()}")
    return float(re.findall(r"then ([\d.]+) images/s", said.getvalue())[0])


def rows(rates: dict[int, float]) -> list[str]:
    """Return a row for each number of nodes; efficiency is against one node."""
    one = rates[min(rates)] / min(rates)
    found = []
    for nodes, rate in rates.items():
        share = rate / (nodes * one)
        met = "met" if share >= ASKED else "NOT met"
        found.append(f"| {nodes} | {rate:.2f} | {100 * share:.0f} % | >= 90 % | {met} |")
    return found


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
        measured = {n: rate_of(n, options.images, Path(scratch)) for n in options.nodes}
        costs = measure_costs(Path(scratch))
    write("scaling", report(measured, costs, f"Before: {before}. After: {machine()}."))


def report(measured: dict[int, float], costs: Costs, when: str) -> list[str]:
    """Return the page: what was measured, and what follows for a large cluster."""
    return [
        "# Scoring on more nodes", "",
        f"Nodes are processes of one machine; each has one actor whose networks are a wait of "
        f"{WAIT_S:g} s per image, so that the nodes do not compete for the processor. Everything "
        f"else is real: listing, reading, decoding, crossings, pictures, commits, Ray.", "",
        "| nodes | images/s | efficiency | asked | |", "|---|---|---|---|---|", *rows(measured), "",
        "## What 100 GPU nodes and 100 million images ask of the rest", "",
        *projection(costs), "",
        f"{when} {versions('ray', 'pyarrow')}.",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
