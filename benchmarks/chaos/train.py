"""Faults of a training and of a search: what is promised, and how each fault is caused."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.chaos.jobs import epochs_of, trained
from benchmarks.chaos.lab import EPOCHS, Happened, Lab, enlarge, small_disk
from benchmarks.chaos.score import NODE_CPUS, jumping
from benchmarks.own_cluster import Node, OwnCluster, title
from skinray.config.training import ClusterSettings

# Of a search, and of the networks that a run keeps.
SEARCHING, TRAINING = "ray::ImplicitFunc", "ray::RayTrainWorker"
SMALL_KIB, LARGE_KIB = 500, 64_000


def worker_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of a worker that trains."""
    return _worker_killed(lab, rng, search=False)


def searching_worker_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of a worker in the grid search."""
    return _worker_killed(lab, rng, search=True)


def _worker_killed(lab: Lab, rng: random.Random, search: bool) -> Happened:
    out = lab.scratch() / "run"
    with lab.train(out, search=search) as job:
        job.advance(rng.randint(3, 2 * EPOCHS))
        job.wait_until(lambda: unfinished(out), "a trial under way")
        kind = SEARCHING if search else TRAINING
        victims = [p for p in job.workers() if title(p).startswith(kind)]
        hit, before = unfinished(out), epochs_of(out)
        for victim in victims:  # which of them trains cannot be seen from outside
            victim.kill()
        recovery = job.wait_until(lambda: _all_on(out, hit, before), "all trials to continue")
        job.end()
    calm = lab.calm_searched if search else lab.calm_trained
    equal = trained(out) == calm and _redone(out, lab) <= 1
    return Happened(
        equal, f"{len(victims)} killed, continued on its own; {_told(out, lab)}", recovery
    )


def unfinished(out: Path) -> list[str]:
    """Return the trials under way."""
    return [
        log.parent.name
        for log in out.glob("trials/*/epochs.jsonl")
        if not (log.parent / "outcome.json").exists()
    ]


def _all_on(out: Path, trials: list[str], before: dict[str, int]) -> bool:
    now = epochs_of(out)
    return all(
        now[trial] > before[trial] or (out / "trials" / trial / "outcome.json").exists()
        for trial in trials
    )


def _redone(out: Path, lab: Lab, before: dict[str, int] | None = None) -> int:
    """Return how many epochs of one trial were done again, at most, without those ``before``."""
    calm, known = lab.calm_epochs, before or {}
    return max(
        (count - calm[trial] - known.get(trial, 0) for trial, count in epochs_of(out).items()),
        default=0,
    )


def _repeated(out: Path) -> dict[str, int]:
    """Return how many epochs of each trial were done again so far, finished or not."""
    found = {}
    for log in out.glob("trials/*/epochs.jsonl"):
        epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines() if line]
        found[log.parent.name] = len(epochs) - len(set(epochs))
    return found


def _told(out: Path, lab: Lab, before: dict[str, int] | None = None) -> str:
    return f"at most {_redone(out, lab, before)} epochs of a trial done again"


def driver_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the driver."""
    return _broken_and_resumed(lab, rng, lambda state: None, "", most_redone=1)


def state_corrupted(lab: Lab, rng: random.Random) -> Happened:
    """Flip one bit of each checkpoint of the trials under way, while the driver is dead."""

    def flip(state: Path) -> None:
        data = bytearray(state.read_bytes())
        data[rng.randrange(len(data) // 2, len(data))] ^= 1 << rng.randrange(8)
        state.write_bytes(data)

    return _broken_and_resumed(lab, rng, flip, "noticed; ")


def state_cut_off(lab: Lab, rng: random.Random) -> Happened:
    """Truncate each checkpoint of the running trials, and leave a half-written one beside it."""

    def cut(state: Path) -> None:
        data = state.read_bytes()
        state.write_bytes(data[: rng.randrange(len(data))])
        state.with_name(state.name + ".part").write_bytes(data[: rng.randrange(len(data))])

    return _broken_and_resumed(lab, rng, cut, "noticed; ")


def _broken_and_resumed(
    lab: Lab,
    rng: random.Random,
    damage: Callable[[Path], None],
    what: str,
    most_redone: int = EPOCHS,
) -> Happened:
    out = lab.scratch() / "run"
    with lab.train(out) as job:
        job.advance(rng.randint(3, 2 * EPOCHS))
        job.wait_until(lambda: list(out.glob("trials/*/state.safetensors")), "a checkpoint")
        job.kill()
    states = list(out.glob("trials/*/state.safetensors"))
    for state in states:
        damage(state)
    return _resumed(lab, out, f"{len(states)} checkpoints; {what}", most_redone)


def _resumed(
    lab: Lab,
    out: Path,
    what: str,
    most_redone: int = 1,
    before: dict[str, int] | None = None,
    **env: Any,
) -> Happened:
    with lab.train(out, "--resume", **env) as job:
        recovery = job.advance(1)
        job.end()
    equal = trained(out) == lab.calm_trained and _redone(out, lab, before) <= most_redone
    return Happened(equal, f"{what}{_told(out, lab, before)}", recovery)


def disk_full(lab: Lab, rng: random.Random) -> Happened:
    """Train onto a disk that is too small."""
    with small_disk(lab.scratch(), SMALL_KIB + rng.randint(0, 100)) as disk:
        out = disk / "run"
        with lab.train(out, log=lab.scratch() / "log") as job:
            job.end(code=1)
        said = job.said()
        if "No space left" not in said and "no space left" not in said:
            return Happened(False, f"ended, but did not say why: {said[-300:]}")
        # Each restart before the end trained the epoch again that it then could not store.
        restarts, allowed = _repeated(out), ClusterSettings().max_failures
        most = max(restarts.values(), default=0)
        if most > allowed:
            return Happened(False, f"tried again more often than {allowed} times: {restarts}")
        enlarge(disk, LARGE_KIB)
        said = f"tried {most} times more, said why and ended; resumed: "
        return _resumed(lab, out, said, before=restarts, log=lab.scratch() / "log")


def clock_jumps(lab: Lab, rng: random.Random) -> Happened:
    """Set the clock back by an hour in all Python processes of the job."""
    out = lab.scratch() / "run"
    with lab.train(out, env=jumping(time.time() + rng.uniform(15, 30))) as job:
        job.end()
    equal = trained(out) == lab.calm_trained
    return Happened(equal, f"not noticed; {_told(out, lab)}")


def node_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of every process of one of two nodes at once."""
    out = lab.scratch() / "run"
    with OwnCluster() as cluster:
        nodes = [cluster.add_node(NODE_CPUS) for _ in range(2)]
        with lab.train(out, env=cluster.driver_env) as job:
            job.advance(rng.randint(3, EPOCHS))
            job.wait_until(lambda: unfinished(out), "a trial under way")
            busy = [node for node in nodes if _trains(node)]
            hit, before = unfinished(out), epochs_of(out)
            rng.choice(busy or nodes).kill()
            recovery = job.wait_until(lambda: _all_on(out, hit, before), "all trials to continue")
            job.end()
    equal = trained(out) == lab.calm_trained and _redone(out, lab) <= 1
    return Happened(equal, f"continued on the other node; {_told(out, lab)}", recovery)


def _trains(node: Node) -> bool:
    return any(title(process).startswith(TRAINING) for process in node.workers())


def nan_in_search(lab: Lab, rng: random.Random) -> Happened:
    """Put a learning rate into the search at which the loss is not a number."""
    out = lab.scratch() / "run"
    rates = [1e-3, 3e-3]
    rates.insert(rng.randint(0, 2), 1e25)
    grid = ", ".join(f"{rate:.1e}" for rate in rates)
    with lab.train(
        out, "--set", f"nerve.main.grid={{train.learning_rate: [{grid}]}}",
        "--set", "nerve.main.train.max_skipped_steps=0", search=True,
    ) as job:  # fmt: skip
        job.end()
    found, calm = trained(out), lab.calm_searched
    bad = [trial for trial in found["trials"] if trial["status"] == "failed"]
    told = all("lower learning_rate" in trial["error"] for trial in bad)
    same = all(found[name] == calm[name] for name in ("counts", "folds", "component_counts"))
    return Happened(
        same and told and len(bad) == 3,
        f"{len(bad)} trials failed and said why, none was chosen; counts as without them",
    )
