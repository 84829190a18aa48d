from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import save_file
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skinray.errors import DamagedError, TrainingError
from skinray.learning import checkpoint
from skinray.learning.checkpoint import EpochEnd, StateKeeper, TrainState
from tests.support.tiny import ConvNetwork, same_weights


def trained_state(steps: int = 3) -> TrainState:
    """A state with all that a training leaves behind."""
    torch.manual_seed(0)
    network = ConvNetwork()
    optimizer = Adam(network.parameters(), lr=0.1, weight_decay=1e-3)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.3, patience=0)
    for loss in torch.rand(steps).tolist():
        optimizer.zero_grad()
        network(torch.rand(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        scheduler.step(loss + 1 / 3)
    return TrainState(
        model=network.state_dict(),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        epoch=4,
        row=6,
        loss_sum=1 / 3,
        steps=3,
        skipped_steps=1,
        best={"weight": torch.arange(3.0)},
        average={"module.weight": torch.arange(2.0), "n_averaged": torch.tensor(7)},
        best_score=-1 / 7,
        stale_epochs=2,
        history=[EpochEnd(0, 2 / 3, 0.1, None, 8, 1.5), EpochEnd(1, 0.1, 0.03, 0.7, 8, 1.25, 1)],
    )


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = trained_state()
    before.save(tmp_path / "deep" / "state.safetensors", "me")
    after = TrainState.load(tmp_path / "deep" / "state.safetensors", "me")
    assert same_weights(before.model, after.model)
    assert same_weights(before.best or {}, after.best or {})
    assert same_weights(before.average or {}, after.average or {})
    assert after.scheduler == before.scheduler
    assert after.history == before.history
    for name in ("epoch", "row", "loss_sum", "steps", "skipped_steps", "best_score"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.stale_epochs == 2


def test_the_optimizer_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = trained_state()
    before.save(tmp_path / "state", "")
    after = TrainState.load(tmp_path / "state", "").optimizer
    assert after["state"].keys() == before.optimizer["state"].keys()
    for index, slot in before.optimizer["state"].items():
        assert same_weights(slot, after["state"][index])
    assert {"step", "exp_avg", "exp_avg_sq"} <= after["state"][0].keys()
    (old,), (new,) = before.optimizer["param_groups"], after["param_groups"]
    assert {**new, "betas": tuple(new["betas"])} == old
    # and torch takes it
    optimizer = Adam(ConvNetwork().parameters())
    optimizer.load_state_dict(after)
    assert optimizer.param_groups[0]["lr"] == old["lr"] < 0.1


def test_a_fresh_state_has_no_best_weights(tmp_path: Path) -> None:
    TrainState({}, {}, {}).save(tmp_path / "state")
    after = TrainState.load(tmp_path / "state")
    assert (after.best, after.best_score, after.history, after.epoch) == (None, None, [], 0)


def test_a_loss_that_is_not_finite_comes_back(tmp_path: Path) -> None:
    state = TrainState({}, {}, {}, loss_sum=float("inf"), best_score=-float("inf"))
    state.save(tmp_path / "state")
    assert TrainState.load(tmp_path / "state").best_score == -float("inf")


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    trained_state().save(path, "me")
    with pytest.raises(TrainingError, match=r"other settings or other data; choose another --out"):
        TrainState.load(path, "you")


def damage(kind: str, path: Path) -> None:
    whole = path.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no checkpoint at all")
    elif kind == "missing":
        path.unlink()
    elif kind == "one bit":
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    elif kind == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    elif kind == "not JSON":
        save_file({"x": torch.zeros(1)}, path, metadata={"state": "{"})
    else:
        rest = {"owner": "me", "numbers": {"epoch": 1, "unheard_of": 2}}
        if kind == "unknown number":
            empty = {"slots": {}, "groups": [], "scheduler": {}, "history": [], "has_best": False}
            rest |= empty
        save_file({"x": torch.zeros(1)}, path, metadata={"state": json.dumps(rest)})


KINDS = [
    "cut", "empty", "text", "missing", "foreign", "not JSON", "parts missing", "unknown number",
    "one bit",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_state_is_named_with_the_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.safetensors"
    trained_state().save(path, "me")
    damage(kind, path)
    with pytest.raises(DamagedError, match=r"not a readable checkpoint .*delete it") as caught:
        TrainState.load(path, "me")
    assert str(caught.value).startswith(f"{path}: ")


def test_a_killed_save_leaves_the_state_before(tmp_path: Path) -> None:
    path = tmp_path / "state"
    trained_state().save(path, "me")
    # what a process that dies in the midst of writing leaves
    (tmp_path / "state.part").write_bytes(path.read_bytes()[:100])
    assert TrainState.load(path, "me").epoch == 4
    later = trained_state()
    later.epoch = 5
    later.save(path, "me")
    assert TrainState.load(path, "me").epoch == 5
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_saving_changes_nothing_in_memory(tmp_path: Path) -> None:
    state = trained_state()
    network = ConvNetwork()
    state.model = network.state_dict()
    state.save(tmp_path / "state")
    before = {k: v.clone() for k, v in TrainState.load(tmp_path / "state").model.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    assert same_weights(before, TrainState.load(tmp_path / "state").model)


def test_an_optimizer_may_keep_plain_numbers(tmp_path: Path) -> None:
    slot = {"step": 3, "momentum_buffer": torch.ones(2)}
    TrainState({}, {"state": {4: slot}, "param_groups": []}, {}).save(tmp_path / "state")
    found = TrainState.load(tmp_path / "state").optimizer["state"]
    assert list(found) == [4]
    assert found[4]["step"] == 3
    assert torch.equal(found[4]["momentum_buffer"], slot["momentum_buffer"])


def test_a_state_is_stored_when_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    keeper, path = StateKeeper(tmp_path / "state", "me", every_s=120), tmp_path / "state"
    for now, rows in ((0.0, 2), (119.0, 4), (120.0, 6), (130.0, 8), (239.0, 10), (240.0, 12)):
        keeper(lambda rows=rows: state_at(rows))
        keeper.settle()
        stored = TrainState.load(path, "me").row if path.exists() else None
        assert stored == (None if now < 120 else 6 if now < 240 else 12)
    keeper.close()


def test_an_urgent_state_is_written_before_the_training_continues(tmp_path: Path) -> None:
    asked: list[int] = []

    def urgent() -> bool:
        asked.append(1)
        return len(asked) == 2

    keeper = StateKeeper(tmp_path / "state", "me", every_s=1e9, urgent=urgent)
    keeper(lambda: state_at(2))
    assert not (tmp_path / "state").exists()
    keeper(lambda: state_at(4))
    assert TrainState.load(tmp_path / "state", "me").row == 4
    # Every worker asks, since the question may be a barrier; one writes.
    other = StateKeeper(
        tmp_path / "other", "me", 0, urgent=lambda: bool(asked.append(1)), stores=False
    )
    other(lambda: state_at(2))
    assert len(asked) == 3
    assert not (tmp_path / "other").exists()


def test_the_previous_state_stays_until_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, path = StateKeeper(tmp_path / "state", "me", every_s=0), tmp_path / "state"
    keeper(lambda: state_at(2))
    keeper.settle()

    def full(tensors: object, path: Path, **more: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    keeper(lambda: state_at(4))
    with pytest.raises(OSError, match="No space left"):
        keeper.close()
    assert TrainState.load(path, "me").row == 2


def test_a_training_continues_while_its_state_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, save = Event(), checkpoint.save_file

    def slow(*args: object, **more: object) -> None:
        assert gate.wait(20)
        save(*args, **more)

    monkeypatch.setattr(checkpoint, "save_file", slow)
    keeper = StateKeeper(tmp_path / "state", "me", every_s=0)
    keeper(lambda: state_at(2))  # returns though nothing is written
    assert not (tmp_path / "state").exists()
    gate.set()
    keeper.close()
    assert TrainState.load(tmp_path / "state", "me").row == 2


def state_at(row: int) -> TrainState:
    return TrainState({"weight": torch.ones(2)}, {}, {}, row=row)
