"""Workers that train together take the steps that one worker with all their crops takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from skinray.cluster.train.workers import averaging, mean_over_workers
from skinray.learning.feed import InProcessFeed
from skinray.learning.loop import Objective, World, fit
from skinray.learning.spec import TrialSpec
from skinray.models import MODELS, build
from tests.support.tiny import drawn_sample, tiny_spec

CPU = torch.device("cpu")
SAMPLES = [drawn_sample(seed) for seed in range(6)]
# Small ones of every network. Batch norm and what draws by chance see one worker's crops, and so
# depend on who else trains; they are left out here.
DEEPLAB = {"aspp_channels": 8, "dropout": 0.0, "group_norm": True}
NARROW = {**DEEPLAB, "width": 0.125}
SKIN = {"filters": [2, 3, 4], "bottleneck": 8, "dropout": 0.0, "noise": 0.0}
NETWORKS: dict[str, dict[str, Any]] = {
    "hed": {"width": 0.125},
    "deeplabv3_resnet101": DEEPLAB,
    "deeplabv3_resnet50": DEEPLAB,
    "deeplabv3_mobilenet_v3_large": NARROW,
    "deeplab_lite": {"channels": (8, 8, 8, 8), "pyramid": 8, "dropout": 0.0},
    "unet": {"features": 4, "depth": 3, "group_norm": True},
    "unet_lgg": {"features": 4, "group_norm": True},
    "skin_unet": SKIN,
    "skin_unet_large": SKIN,
    "skin_dense_unet": SKIN,
    "skin_deeplabv3": {**NARROW, "side": 32},
    "skin_mobilenet": {"side": 33, "pyramid_channels": 8, "decoder_channels": 8, "dropout": 0.0},
    "pixel": {},
}
WIDE = ["deeplabv3_resnet101", "deeplabv3_resnet50"]


def spec_of(name: str) -> TrialSpec:
    """Two epochs of two steps of four crops, by plain gradient descent with momentum."""
    return tiny_spec(
        train=tuple(range(6)), names=tuple("abcdef"), step_crops=4, arm__train__batch_size=2,
        arm__train__optimizer="sgd", arm__train__learning_rate=1e-3, arm__train__clip_norm=1.0,
        arm__model__name=name, arm__model__options=NETWORKS.get(name, {}),
    )  # fmt: skip


def trained(name: str, world: World) -> dict[str, torch.Tensor]:
    """Train this worker's part; return the weights and the losses."""
    spec = spec_of(name)
    torch.manual_seed(3)
    network = build(name, **NETWORKS.get(name, {}))
    state = fit(
        world.wrap(Objective(network, spec.arm.train)), network, spec.arm.train,
        InProcessFeed(spec, SAMPLES, world=world).batches, seed=1, device=CPU, world=world,
    )  # fmt: skip
    losses = torch.tensor([end.loss for end in state.history])
    return {**{k: v.contiguous() for k, v in state.model.items()}, "losses": losses}


def work(rank: int, size: int, names: list[str], folder: str) -> None:
    """Train every network as one worker of a group; the first worker stores the result."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous-{size}", rank=rank, world_size=size
    )
    world = World(
        rank, size, lambda value: mean_over_workers(value, CPU),
        lambda module: averaging(module, CPU),
    )  # fmt: skip
    for name in names:
        state = trained(name, world)
        if rank == 0:
            save_file(state, Path(folder) / f"{name}.safetensors")
    distributed.destroy_process_group()


def assert_equal_to_one(workers: int, names: list[str], folder: Path) -> None:
    spawn = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    spawn(work, (workers, names, str(folder)), nprocs=workers)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have: on some processors, sums round otherwise
    try:
        compare(names, folder)
    finally:
        torch.set_num_threads(threads)


def compare(names: list[str], folder: Path) -> None:
    for name in names:
        alone, together = trained(name, World()), load_file(folder / f"{name}.safetensors")
        assert alone.keys() == together.keys()
        for key, value in alone.items():
            apart = (together[key] - value).abs().max().item()
            assert apart <= 1e-6, f"{name}: {key} {apart:.2g} apart"


def test_two_workers_with_different_crops_equal_one_with_all_of_them(tmp_path: Path) -> None:
    assert_equal_to_one(2, [name for name in MODELS if name not in WIDE], tmp_path)


@pytest.mark.slow
def test_so_do_two_workers_with_wide_networks(tmp_path: Path) -> None:
    assert_equal_to_one(2, WIDE, tmp_path)


@pytest.mark.parametrize("workers", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_so_do_more_workers_whose_parts_differ_in_size(workers: int, tmp_path: Path) -> None:
    """Of a step of four crops, three workers have 2, 1 and 1, and four a single one each."""
    assert_equal_to_one(workers, ["hed", "unet", "skin_unet"], tmp_path)


def test_the_mean_over_one_worker_is_the_number_itself() -> None:
    assert mean_over_workers(2.5, CPU) == 2.5
