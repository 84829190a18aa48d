"""Faults of a training on several workers: what is promised, and how each fault is caused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from benchmarks.chaos.jobs import Job, epochs_of
from benchmarks.chaos.lab import Happened, Lab
from benchmarks.chaos.one_training import NAME
from benchmarks.own_cluster import Node, OwnCluster, title
from skinray.learning.trial import LOG, STATE, WEIGHTS

WORKER = "ray::RayTrainWorker"
EPOCHS, LONG = 30, 240
# Nodes have whole CPUs: this node holds one worker and the actor that augments for it, but no
# second worker.
WORKER_CPUS, NODE_CPUS = 2, 3
NOTICE_S, RESIZE_S = 60, 5
# A group of another size sums and draws dropout differently.
TOLERANCE = 0.02


class OneTraining(Job):
    """``benchmarks.chaos.one_training``, which trains one network."""

    command = ("-m", "benchmarks.chaos.one_training")

    @property
    def folder(self) -> Path:
        """Folder of the trial."""
        return Path(self.out) / "trials" / NAME

    def progress(self) -> int:
        """Return the number of trained epochs, those trained again too."""
        return sum(epochs_of(Path(self.out)).values())


def start(lab: Lab, out: Path, *options: str, env: dict[str, str] | None = None) -> OneTraining:
    """Start a training of two workers, if ``options`` say nothing else."""
    named = ["--data", str(lab.cohort), "--epochs", str(EPOCHS), "--workers", "2", "2"]
    return OneTraining(out, Path(f"{out}.log"), [*named, *options], env)


def on_nodes(cluster: OwnCluster, lab: Lab, out: Path, *options: str) -> OneTraining:
    """Start a training on the nodes of a cluster, each of which has room for one worker."""
    options = ("--cpus-per-worker", str(WORKER_CPUS), *options)
    return start(lab, out, *options, env=cluster.driver_env)


def calm(lab: Lab) -> Path:
    """Return the folder of a training that nothing disturbed, trained at the first call."""
    out = lab.folder / "calm"
    if not (out / "trials" / NAME / WEIGHTS).is_file():
        with start(lab, out) as job:
            job.end()
    return out


def calm_on_nodes(lab: Lab, nodes: int, *options: str) -> Path:
    """Return the folder of one on this many nodes, whose threads round differently."""
    out = lab.folder / "-".join(("calm", "on", str(nodes), *options))
    if not (out / "trials" / NAME / WEIGHTS).is_file():
        with OwnCluster() as cluster:
            for _ in range(nodes):
                cluster.add_node(NODE_CPUS)
            with on_nodes(cluster, lab, out, *options) as job:
                job.end()
    return out


def same(one: Path, other: Path) -> bool:
    """Whether two trainings have the same weights, to the bit."""
    expected, found = (load_file(out / "trials" / NAME / WEIGHTS) for out in (one, other))
    return all(torch.equal(value, found[name]) for name, value in expected.items())


def redone(out: Path) -> int:
    """Return how many epochs are in the log more than once."""
    epochs = logged(out)
    return len(epochs) - len(set(epochs))


def logged(out: Path) -> list[int]:
    """Return the epochs in the order in which they ended."""
    lines = (out / "trials" / NAME / LOG).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def compared(expected: Path, out: Path, how: str, recovery: float) -> Happened:
    """Compare with the undisturbed training: equal, and at most one epoch trained again."""
    again = redone(out)
    kept = same(expected, out) and again <= 1
    return Happened(kept, f"{how}; {again} epochs done again", recovery)


def one_of_two_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of one of two workers."""
    expected, out = calm(lab), lab.scratch() / "run"
    with start(lab, out) as job:
        job.advance(rng.randint(2, EPOCHS // 2))
        rng.choice(training(job.workers())).kill()
        recovery = job.advance(2)
        job.end()
    return compared(expected, out, "the group restarted on its own", recovery)


def driver_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of the driver of two workers."""
    expected, out = calm(lab), lab.scratch() / "run"
    with start(lab, out) as job:
        job.advance(rng.randint(2, EPOCHS // 2))
        job.kill()
    with start(lab, out) as job:
        recovery = job.advance(1)
        job.end()
    return compared(expected, out, "called again", recovery)


def node_killed(lab: Lab, rng: random.Random) -> Happened:
    """Kill -9 of every process of a node with one of two workers; a third node has room."""
    expected, out = calm_on_nodes(lab, 2), lab.scratch() / "run"
    with OwnCluster() as cluster:
        nodes = [cluster.add_node(NODE_CPUS) for _ in range(3)]
        with on_nodes(cluster, lab, out) as job:
            job.advance(rng.randint(2, EPOCHS // 2))
            rng.choice([node for node in nodes if training(node.workers())]).kill()
            recovery = job.advance(2)
            job.end()
    return compared(expected, out, "went to the third node", recovery)


def node_announced(lab: Lab, rng: random.Random) -> Happened:
    """Announce that a node will be removed, then remove it: only the notice stores states."""
    # Long enough to be in training still when the notice arrives, which takes some seconds.
    long = ("--epochs", str(LONG))
    expected, out = calm_on_nodes(lab, 2, *long), lab.scratch() / "run"
    state = out / "trials" / NAME / STATE
    with OwnCluster() as cluster:
        nodes = [cluster.add_node(NODE_CPUS) for _ in range(3)]
        with on_nodes(cluster, lab, out, *long, "--checkpoint-every-s", "3600") as job:
            job.advance(rng.randint(2, EPOCHS // 2))
            if state.exists():
                return Happened(False, "a state was stored before the notice")
            node = rng.choice([node for node in nodes if training(node.workers())])
            drain(cluster, node)
            stored = job.wait_until(state.exists, "a state stored after the notice")
            node.kill()
            recovery = job.advance(2)
            job.end()
    return compared(expected, out, f"state stored {stored:.1f} s after the notice", recovery)


def resized(lab: Lab, rng: random.Random) -> Happened:
    """Let a group of one to two workers grow by a node, and shrink when one is killed."""
    long = ("--epochs", str(LONG), "--workers", "1", "2")
    expected, out = calm_on_nodes(lab, 1, *long), lab.scratch() / "run"
    with OwnCluster() as cluster:
        nodes = [cluster.add_node(NODE_CPUS)]
        with on_nodes(cluster, lab, out, *long, "--resize-every-s", str(RESIZE_S)) as job:
            job.advance(rng.randint(2, 10))
            nodes.append(cluster.add_node(NODE_CPUS))
            grown = job.wait_until(lambda: all(training(n.workers()) for n in nodes), "two workers")
            job.advance(rng.randint(5, 20))
            rng.choice(nodes).kill()
            recovery = job.advance(2)
            job.end()
    loss, calm_loss = (last_loss(one) for one in (out, expected))
    epochs, again = logged(out), redone(out)
    kept = set(epochs) == set(range(LONG)) and again <= 2 and abs(loss - calm_loss) <= TOLERANCE
    what = f"two workers after {grown:.0f} s, one again; {again} epochs done again; last loss "
    return Happened(kept, f"{what}{loss:.3f} (undisturbed {calm_loss:.3f})", recovery)


def last_loss(out: Path) -> float:
    """Return the mean loss of the last ten epochs."""
    lines = (out / "trials" / NAME / LOG).read_text(encoding="utf-8").splitlines()[-10:]
    losses = [float(json.loads(line)["loss"]) for line in lines]
    return sum(losses) / len(losses)


def training(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that are workers of a training."""
    return [process for process in processes if title(process).startswith(WORKER)]


def drain(cluster: OwnCluster, node: Node) -> None:
    """Announce that a node will be removed, as a cloud does with spot machines."""
    code = (
        "import sys, ray\n"
        "ray.init(log_to_driver=False)\n"
        "pid = int(sys.argv[1])\n"
        "@ray.remote(num_cpus=0)\n"
        "def parent():\n"
        "    import os, psutil\n"
        "    return [p.pid for p in psutil.Process(os.getpid()).parents()]\n"
        "from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On\n"
        "for one in ray.nodes():\n"
        "    if one['Alive']:\n"
        "        where = On(one['NodeID'], soft=False)\n"
        "        if pid in ray.get(parent.options(scheduling_strategy=where).remote()):\n"
        "            print(one['NodeID'])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(node.process.pid)], env=cluster.driver_env,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run(
        [
            sys.executable, "-m", "ray.scripts.scripts", "drain-node",
            f"--address={cluster.address}", f"--node-id={found.stdout.split()[-1]}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away",
            f"--deadline-remaining-seconds={NOTICE_S}",
        ],
        env=cluster.driver_env, check=True, capture_output=True,
    )  # fmt: skip
