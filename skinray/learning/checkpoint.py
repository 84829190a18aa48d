"""The state of a training between two steps: one safetensors file, no pickle.

Tensors are stored under dotted names (``model.conv.weight``, ``optimizer.3.exp_avg``); everything
else is JSON in the file's header. The file appears whole or not at all.
"""

from __future__ import annotations

import errno
import json
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from skinray.errors import DamagedError, TrainingError
from skinray.files import whole

Tensors = dict[str, torch.Tensor]
# The file may be whole; to train its part anew would be wrong.
_STORAGE_FAILS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EACCES)


@dataclass(frozen=True)
class EpochEnd:
    """What one epoch came to. ``seconds`` is wall time, ``images`` counts all workers."""

    epoch: int
    loss: float
    learning_rate: float
    validation: float | None
    images: int
    seconds: float
    skipped_steps: int = 0


@dataclass
class TrainState:
    """Everything a training needs to go on as if it had never stopped.

    ``epoch`` is the epoch to go on with and ``row`` the rows of its plan already used; the
    loss sums belong to that part. ``best`` holds the weights to keep, where they are not the
    last ones; ``average`` their running mean and how many steps it has seen.
    """

    model: Tensors
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    epoch: int = 0
    row: int = 0
    loss_sum: float = 0.0
    steps: int = 0
    skipped_steps: int = 0
    best: Tensors | None = None
    best_score: float | None = None
    stale_epochs: int = 0
    average: Tensors | None = None
    history: list[EpochEnd] = field(default_factory=list)

    def save(self, path: Path, owner: str = "") -> None:
        """Write the state atomically; ``owner`` says whose it is and is checked on loading."""
        tensors: Tensors = {f"model.{k}": v for k, v in self.model.items()}
        tensors |= {f"best.{k}": v for k, v in (self.best or {}).items()}
        tensors |= {f"average.{k}": v for k, v in (self.average or {}).items()}
        slots = self.optimizer.get("state", {})
        plain: dict[str, dict[str, Any]] = {}
        for index, slot in slots.items():
            for key, value in slot.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value
                else:
                    plain.setdefault(str(index), {})[key] = value
        rest = {
            "owner": owner,
            "groups": self.optimizer.get("param_groups", []),
            "slots": plain,
            "scheduler": self.scheduler,
            "history": [asdict(end) for end in self.history],
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
            "has_best": self.best is not None,
            "has_average": self.average is not None,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        told = json.dumps(rest)
        with whole(path) as partial:
            save_file(kept, partial, metadata={"state": told, "crc32": _checksum(told, kept)})

    @classmethod
    def load(cls, path: Path, owner: str = "") -> TrainState:
        """Read a state.

        Raises
        ------
        DamagedError
            If the file is cut off or was changed; a single flipped bit is noticed.
        TrainingError
            If it belongs to another training.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts["crc32"] != _checksum(facts["state"], tensors):
                raise ValueError("its checksum is not that of its content")
            rest = json.loads(facts["state"])
            if rest["owner"] != owner:
                raise TrainingError(
                    f"{path}: checkpoint of other settings or other data; "
                    "choose another --out, or delete it to train this part anew"
                )
            return cls._of(rest, tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            if getattr(error, "errno", None) in _STORAGE_FAILS:
                raise TrainingError(
                    f"{path}: cannot be read ({error}); correct the disk or the connection to it, "
                    "then continue with --resume"
                ) from None
            raise DamagedError(
                f"{path}: not a readable checkpoint ({error}); delete it to train this part anew"
            ) from None

    @classmethod
    def _of(cls, rest: dict[str, Any], tensors: Tensors) -> TrainState:
        slots: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in rest["slots"].items()}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                slots.setdefault(int(index), {})[key] = tensor
        return cls(
            model=_below("model.", tensors),
            optimizer={"state": slots, "param_groups": rest["groups"]},
            scheduler=rest["scheduler"],
            best=_below("best.", tensors) if rest["has_best"] else None,
            average=_below("average.", tensors) if rest["has_average"] else None,
            history=[EpochEnd(**end) for end in rest["history"]],
            **rest["numbers"],
        )


class StateKeeper:
    """Stores a training's state every so many seconds, while the training continues.

    Called after each step and each epoch. A thread of its own writes, and the file before stays
    until the new one is whole. What a kill costs is ``every_s`` and the time of one write.

    Parameters
    ----------
    path, owner : as in :meth:`TrainState.save`.
    every_s : seconds between two states; 0: after each step.
    urgent : asked after each step by every worker; True: store now, and wait until it is written.
    stores : whether this worker is the one that writes.
    """

    def __init__(
        self,
        path: Path,
        owner: str,
        every_s: float = 120.0,
        urgent: Callable[[], bool] = lambda: False,
        stores: bool = True,
    ) -> None:
        self.path, self.owner, self.every_s = path, owner, every_s
        self.urgent, self.stores = urgent, stores
        self._due = time.monotonic() + every_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __call__(self, snapshot: Callable[[], TrainState]) -> None:
        """Store the state if it is time to.

        Raises
        ------
        OSError
            If the write before failed: a full disk is no reason to train in vain.
        """
        now = self.urgent()
        if not self.stores or not (now or time.monotonic() >= self._due):
            return
        self.settle()
        self._writing = self._pool.submit(snapshot().save, self.path, self.owner)
        self._due = time.monotonic() + self.every_s
        if now:
            self.settle()

    def close(self) -> None:
        """Wait for the last write; OSError if it failed."""
        try:
            self.settle()
        finally:
            self._pool.shutdown()

    def settle(self) -> None:
        """Wait until the last state is written; OSError if that failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


_NUMBERS = (
    "epoch",
    "row",
    "loss_sum",
    "steps",
    "skipped_steps",
    "best_score",
    "stale_epochs",
)


def _checksum(told: str, tensors: Tensors) -> str:
    """Return the CRC-32 of all that a file holds; safetensors itself notices no changed value."""
    found = zlib.crc32(told.encode())
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
