"""Faults of the object store, of a single training step, and of the service."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.chaos.lab import Happened, Lab

AWAY_S, DELAY_S = 12, 0.1


@contextmanager
def _store(lab: Lab) -> Iterator[Any]:
    """Start an object store that holds the images; ImportError where there is no server for it."""
    import moto  # noqa: F401 - the server is a separate process, whose end would say less

    from benchmarks.object_store import ObjectStore, client

    with ObjectStore(lab.scratch()) as store:
        bucket = client(store)
        bucket.create_dir("lab")
        for path in sorted(lab.images.iterdir()):
            with bucket.open_output_stream(f"lab/in/{path.name}") as file:
                file.write(path.read_bytes())
        yield store


def _stored(store: Any) -> dict[str, bytes]:
    from pyarrow.fs import FileSelector

    from benchmarks.object_store import client

    bucket = client(store)
    found = bucket.get_file_info(FileSelector("lab/run", recursive=True, allow_not_found=True))
    return {
        each.path.removeprefix("lab/run/"): bucket.open_input_stream(each.path).read()
        for each in found
        if each.is_file
    }


def results_of(files: dict[str, bytes]) -> dict[str, Any]:
    """Return all results of a scoring into an object store, as those of a folder are."""
    found: dict[str, Any] = {
        name: pq.read_table(pa.BufferReader(files[f"{name}.parquet"])).to_pylist()
        for name in ("counts", "crossings")
    }
    return found | {
        name: data
        for name, data in files.items()
        if name.partition("/")[0] in ("overlays", "geojson")
    }


def store_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the object store's server; it comes back after a while."""

    def hit(store: Any) -> float:
        store.kill()
        began = time.monotonic()
        time.sleep(AWAY_S + rng.uniform(0, 5))
        store.start()
        return time.monotonic() - began

    return _store_hit(lab, rng, hit)


def store_slow(lab: Lab, rng: random.Random) -> Happened:
    """Delay each answer of the object store by a tenth of a second."""

    def hit(store: Any) -> float:
        store.door.delay_s = DELAY_S
        return 0.0

    return _store_hit(lab, rng, hit)


def _store_hit(lab: Lab, rng: random.Random, hit: Callable[[Any], float]) -> Happened:
    with _store(lab) as store:
        log = lab.scratch() / "log"

        def parts() -> int:
            return sum(name.startswith("parts/") for name in _stored(store))

        with lab.score("s3://lab/run", images="s3://lab/in", env=store.env, log=log) as job:
            goal = rng.randint(2, 6)
            job.wait_until(lambda: parts() >= goal, "parts")
            away = hit(store)
            before = parts()
            recovery = job.wait_until(lambda: parts() > before, "a further part")
            job.end()
        same = results_of(_stored(store)) == lab.calm_scored
    gone = f"away for {away:.0f} s; " if away else ""
    return Happened(same, f"{gone}continued on its own", recovery)


def nan_step(lab: Lab, rng: random.Random) -> Happened:
    """Make the loss of one step of a training not a number."""
    import torch
    from safetensors.torch import load_file

    from skinray.learning import loop

    spec, samples = lab.small_trial()
    plain, poisoned, steps = loop.stage_loss, rng.randint(1, 6), [0]

    def loss(*given: Any) -> torch.Tensor:
        steps[0] += 1
        found = plain(*given)
        return found * float("nan") if steps[0] == poisoned else found

    loop.stage_loss = loss
    try:
        from skinray.learning.trial import WEIGHTS, run_trial

        folder = lab.scratch() / "trial"
        outcome = run_trial(spec, samples, folder)
    finally:
        loop.stage_loss = plain
    finite = all(bool(torch.isfinite(v).all()) for v in load_file(folder / WEIGHTS).values())
    left_out = outcome.history[-1].skipped_steps
    return Happened(
        finite and left_out == 1 and steps[0] > poisoned,
        f"{left_out} step of {steps[0]} left out; all weights are finite",
    )


def replica_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of replicas of the service, one after the other, under steady load."""
    from benchmarks.serve.replica_kill import ASKED, measure

    replies, right, killed = measure("fused", 45, 12, seed=rng.randrange(1 << 30))
    share = right / len(replies)
    return Happened(
        share >= ASKED and len(killed) >= 2,
        f"{len(killed)} killed, {right} of {len(replies)} answers right with one retry",
        max(reply.seconds for reply in replies),
    )


def overload(lab: Lab, rng: random.Random) -> Happened:
    """Offer the service far more than it can do."""
    from benchmarks.serve.overload import measure

    found = measure("fused", 10)
    over, after = found.over, found.after
    right = sum(reply.status == 200 for reply in over)
    refused = sum(reply.status == 503 for reply in over)
    well = right + refused == len(over) and all(reply.status == 200 for reply in after)
    return Happened(
        well and right > 0 and refused > 0,
        f"{right} answered, {refused} refused with 503, of {len(over)}; then all answered",
    )
