"""What HTTP and Ray Serve add to one image, over the same functions called in one process."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import torch

from benchmarks.measure import figure, machine, versions, write
from benchmarks.serve.load import ask
from benchmarks.serve.running import behind_haproxy, deploy, free_port, proxy, small_config
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.session import session
from skinray.images.read import read_image
from skinray.learning.bundle import Bundle, load
from skinray.service.answers.biopsies import CountWant

ASKED_MS = {"separate": 35.0, "fused": 10.0}
CPUS = {"separate": 1.0, "fused": 2.0}  # of each replica
SIZE = (1200, 1600)


def in_process(bundle: Bundle, path: Path) -> float:
    """Return the seconds of decoding, both networks, crossings and the record."""
    began = time.perf_counter()
    pixels = read_image(path).pixels
    maps = bundle.maps(pixels, 0.5)
    CountWant().answer(bundle.info, pixels, maps, 0.5, bundle.backend).model_dump_json()
    return time.perf_counter() - began


async def compare(
    layout: str, folder: Path, bundle: Bundle, image: Path, repeats: int
) -> tuple[list[float], list[float]]:
    """Return seconds over HTTP and in process, image by image in turn."""
    port = free_port()
    # A network has one thread in both, and nothing waits for a batch to fill.
    deploy(small_config(layout, folder, port, cpus=CPUS[layout], args={"batch_size": 1}))
    torch.set_num_threads(1)
    over_http, alone, data = [], [], image.read_bytes()
    expected = bundle.predict(read_image(image).pixels, 0.5).crossings.points.tolist()
    async with aiohttp.ClientSession() as client:
        for repeat in range(-5, repeats):
            reply = await ask(client, f"http://127.0.0.1:{port}", data)
            if reply.status != 200 or reply.points != expected:
                raise SystemExit(f"{layout}: answer {reply} is not the bundle's: nothing measured")
            seconds = in_process(bundle, image)
            if repeat >= 0:
                over_http.append(reply.seconds * 1e3)
                alone.append(seconds * 1e3)
    return over_http, alone


def main() -> None:
    """Measure both layouts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    rows, before = [], machine()
    keep_freed_memory()  # as the replicas do
    with tempfile.TemporaryDirectory() as scratch:
        folder = stand_in_bundle(Path(scratch) / "bundle")
        image = write_image(Path(scratch) / "image.jpg")
        bundle = load(folder, "cpu")
        for layout, asked in ASKED_MS.items():
            rows.append(one_layout(layout, asked, folder, bundle, image, options.repeats))
    write(f"serve_overhead{'_haproxy' * behind_haproxy()}", [
        "# What the service adds to one image", "",
        "One image of 1600x1200 (JPEG) after the other, networks of one weight a colour, median of "
        f"{options.repeats}. In one process: decode, both networks, crossings, record. Over HTTP: "
        f"the same on Ray Serve behind {proxy()}, from the request's first byte to the answer's "
        "last; both networks work at once there, which is part of its figure.", "",
        "| layout | over HTTP, ms | in one process, ms | added, ms | asked | |",
        "|---|---|---|---|---|---|", *rows, "",
        f"Before: {before}. After: {machine()}. {versions('ray', 'torch', 'fastapi')}.",
    ])  # fmt: skip


def one_layout(
    layout: str, asked: float, folder: Path, bundle: Bundle, image: Path, repeats: int
) -> str:
    """Return one row, measured with its own Ray and service."""
    from ray import serve

    with session():
        try:
            times = asyncio.run(compare(layout, folder, bundle, image, repeats))
        finally:
            serve.shutdown()
    over_http, alone = (statistics.median(one) for one in times)
    met = "met" if over_http - alone <= asked else "NOT met"
    name = f"serve_overhead{'_haproxy' * behind_haproxy()}"
    figure(name, f"HTTP and Serve, {layout}", over_http - alone, "ms an image", f"<= {asked:g}")
    added = f"{over_http - alone:.1f}"
    return f"| {layout} | {over_http:.1f} | {alone:.1f} | {added} | <= {asked:g} | {met} |"


def write_image(path: Path) -> Path:
    """Write the drawn image of the benchmarks as a file of a usual size."""
    import cv2

    smooth = cv2.GaussianBlur(drawn_image(0, SIZE, 12), (0, 0), 1.5)
    cv2.imwrite(str(path), smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path


if __name__ == "__main__":
    main()
