"""What an image costs besides the networks, measured stage by stage, and the total."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from skinray.crossings.detect import CrossingsRecord
from skinray.scoring.entries import Entry, read_entries, write_entries
from skinray.scoring.ledger import Ledger
from skinray.scoring.rows import Scored, commit, committed, content_key
from skinray.scoring.run_store import LocalOutput

ENTRIES, PARTS, CALLS, BLOCKS = 100_000, 100, 5000, 1000
NODES, IMAGES = 100, 100_000_000
# Both networks on one H200, calculated from their FLOPs; a node of the cluster has one.
IMAGES_PER_S_AND_NODE = 168
# One answer of an object store for one small object, as its makers state.
OBJECT_S = 0.03


@dataclass(frozen=True)
class Costs:
    """Seconds of the head node, and bytes.

    Attributes
    ----------
    list_s, list_bytes : per image, in the listing, the ledger and what is pending.
    commit_s, read_s, part_bytes : a part, of as many images as one of ``IMAGES`` has.
    ask_s : a question to the actor of claims, of which each image asks one and tells one.
    block_s : a block of Ray Data on its way through one actor.
    """

    list_s: float
    list_bytes: float
    commit_s: float
    read_s: float
    part_bytes: float
    ask_s: float
    block_s: float


def measure_costs(scratch: Path) -> Costs:
    """Measure each stage alone on this machine."""
    list_s, list_bytes = _listing(scratch)
    commit_s, read_s, part_bytes = _parts(scratch)
    ask_s, block_s = _ray(scratch)
    return Costs(list_s, list_bytes, commit_s, read_s, part_bytes, ask_s, block_s)


def _listing(scratch: Path) -> tuple[float, float]:
    path = scratch / "listing.parquet"
    entries = (
        Entry(f"subject {at // 8:06d}/slide {at:08d}.png", f"/data/{at:08d}.png", at, str(at))
        for at in range(ENTRIES)
    )
    began = time.perf_counter()
    write_entries(entries, path)
    with Ledger() as ledger:
        ledger.add_listing(read_entries(path))
        ledger.left()
        write_entries(ledger.pending(), scratch / "pending.parquet")
        took = time.perf_counter() - began
        size = path.stat().st_size + sum(f.stat().st_size for f in ledger.folder.iterdir())
    return took / ENTRIES, size / ENTRIES


def _parts(scratch: Path) -> tuple[float, float, float]:
    """Return seconds to commit a part and to read it back, and its bytes, at the size it has."""
    from skinray.scoring.run import part_size

    out, size = LocalOutput(scratch / "parts-run"), part_size(8, IMAGES)
    entries = [
        [Entry(name, name, part, "1") for name in (f"{part}-{at}.png" for at in range(size))]
        for part in range(PARTS)
    ]
    count = CrossingsRecord(
        count=4, boundary_px=1800.5, boundary_mm=0.9, density_per_mm=4.4, um_per_px=0.5,
        width=1600, height=1200, points=[(801.25, 600.5)] * 4,
    )  # fmt: skip
    rows = [
        [Scored(e.image, e.identity, content_key(e.image, 0.5), e.image, "ok", None, count)
         for e in part]
        for part in entries
    ]  # fmt: skip
    began = time.perf_counter()
    for batch in rows:
        commit(out, batch)
    committed_s = time.perf_counter() - began
    with Ledger() as ledger:
        ledger.add_listing(entry for part in entries for entry in part)
        began = time.perf_counter()
        ledger.add_parts(committed(out))
        read_s = time.perf_counter() - began
    held = sum(path.stat().st_size for path in (out.root / "parts").iterdir())
    return committed_s / PARTS, read_s / PARTS, held / PARTS


def _ray(scratch: Path) -> tuple[float, float]:
    import ray

    from skinray.cluster.score.claims import Claims
    from skinray.cluster.score.pipeline import quiet_data
    from skinray.cluster.session import session

    class Nothing:
        def __call__(self, batch: dict[str, object]) -> dict[str, object]:
            return batch

    with session():
        claims = ray.remote(num_cpus=0)(Claims).remote(LocalOutput(scratch))
        ray.get(claims.ask.remote("key", "image"))
        began = time.perf_counter()
        ray.get([claims.ask.remote(f"key {at}", f"image {at}") for at in range(CALLS)])
        ask_s = (time.perf_counter() - began) / CALLS
        with quiet_data():
            data = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(
                Nothing, batch_size=None, num_cpus=1,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=1),
            )  # fmt: skip
            seen, first, last = 0, 0.0, 0.0
            for _ in data.iter_batches(batch_size=None, prefetch_batches=0):
                last = time.perf_counter()
                seen, first = seen + 1, first or last
    return ask_s, (last - first) / max(1, seen - 1)


def projection(costs: Costs, nodes: int = NODES, images: int = IMAGES) -> list[str]:
    """Return a table: each stage's share of the head node, and which is the first to be full.

    A stage is full where it takes the whole time that the networks take.
    """
    from skinray.cluster.score.claims import claim_actors
    from skinray.scoring.run import part_size

    rate = nodes * IMAGES_PER_S_AND_NODE
    run_s, size = images / rate, part_size(8, images)
    parts, asking = -(-images // size), claim_actors(nodes)
    stages = {
        "listing, ledger and what is pending": (images * costs.list_s, "before the first image"),
        f"claims ({asking} actors, 2 calls per image)": (
            2 * images * costs.ask_s / asking, "while the networks work"
        ),
        f"Ray Data's blocks ({parts:,} of {size})": (
            parts * costs.block_s, "while the networks work"
        ),
        "reading parts back, one disk": (parts * costs.read_s, "after the last image"),
        "reading parts back, object store, 16 at once": (
            parts * (costs.read_s + OBJECT_S / 16), "after the last image"
        ),
    }  # fmt: skip
    lines = [
        f"{nodes} nodes of {IMAGES_PER_S_AND_NODE} images/s (calculated from the networks' FLOPs, "
        f"not measured) would take {run_s / 60:.0f} min for {images:,} images. The rest is "
        "calculated from costs measured here, one stage at a time:", "",
        "| stage | head node busy | of the networks' time | when |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, (seconds, when) in stages.items():
        lines.append(
            f"| {name} | {seconds / 60:.1f} min | {100 * seconds / run_s:.0f} % | {when} |"
        )
    first = max(stages, key=lambda name: stages[name][0])
    return [
        *lines, "",
        f"First to be full: {first}. The ledger takes {images * costs.list_bytes / 1e9:.0f} GB of "
        f"the head node's disk; parts take {parts * costs.part_bytes / 1e9:.0f} GB. "
        f"Measured an image: listing {costs.list_s * 1e6:.0f} us; a claim {costs.ask_s * 1e6:.0f} "
        f"us; a block {costs.block_s * 1e3:.1f} ms; a part written "
        f"{costs.commit_s * 1e3:.1f} ms (on the nodes), read back {costs.read_s * 1e3:.1f} ms.",
    ]  # fmt: skip
