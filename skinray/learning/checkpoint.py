"""The state of a training between two steps, in one safetensors file, without pickle.

Tensors have dotted names (``model.conv.weight``, ``optimizer.3.exp_avg``); everything else is JSON
in the file's header. The file is written atomically.
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
from skinray.models.weights.files import on_cpu

Tensors = dict[str, torch.Tensor]
# The disk failed, not the file: training again from the start would be wrong.
_STORAGE_FAILS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EACCES)


@dataclass(frozen=True)
class EpochEnd:
    """The result of one epoch. ``seconds`` is wall time; ``images`` is over all workers."""

    epoch: int
    loss: float
    learning_rate: float
    validation: float | None
    images: int
    seconds: float
    skipped_steps: int = 0


@dataclass
class TrainState:
    """Everything that a training needs to continue as if it had never stopped.

    ``epoch`` is the current epoch and ``row`` the number of rows of its plan that are done; the
    loss sum and the steps are of these rows. ``best`` holds the weights to keep if they are not
    the last; ``average`` holds the running mean of the weights and its number of updates.
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

    @property
    def kept(self) -> Tensors:
        """The weights to use: the best epoch's if kept, else the running mean, else the last."""
        if self.best is not None:
            return self.best
        return self.model if self.average is None else _below("module.", self.average)

    def save(self, path: Path, owner: str = "") -> None:
        """Write the state atomically; ``owner`` identifies the training and is checked by load."""
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
        kept, text = on_cpu(tensors), json.dumps(rest)
        with whole(path) as partial:
            save_file(kept, partial, metadata={"state": text, "crc32": _checksum(text, kept)})

    @classmethod
    def load(cls, path: Path, owner: str = "") -> TrainState:
        """Read a state.

        Raises
        ------
        DamagedError
            If the file is cut off or altered, even by a single bit.
        TrainingError
            If it belongs to another training, or cannot be read from its disk.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts["crc32"] != _checksum(facts["state"], tensors):
                raise ValueError("its checksum does not match its content")
            rest = json.loads(facts["state"])
            if rest["owner"] != owner:
                raise TrainingError(
                    f"{path}: checkpoint with other settings or other data; "
                    "choose another --out, or delete the file to train this part again"
                )
            return cls._of(rest, tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            if getattr(error, "errno", None) in _STORAGE_FAILS:
                raise TrainingError(
                    f"{path}: cannot be read ({error}); fix the disk or the connection to it, "
                    "then continue with --resume"
                ) from None
            raise DamagedError(
                f"{path}: not a readable checkpoint ({error}); delete it to train this part again"
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
    """Saves a training's state at intervals, while the training continues.

    It is called after each step and each epoch, and writes in a separate thread. The previous
    file stays until the new one is complete. If the training is killed, at most the work of
    ``every_s`` and of one write is lost.

    Parameters
    ----------
    path, owner : as in :meth:`TrainState.save`.
    every_s : seconds between two saves; 0: save after each step.
    urgent : called after each step by every worker; True: save now and wait for the write.
    stores : whether this worker writes the file.
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
        """Save the state if it is due.

        Raises
        ------
        OSError
            If the previous write failed: with a full disk, further training would be lost.
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
        """Wait for the current write, if any; OSError if it failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


_NUMBERS = ("epoch", "row", "loss_sum", "steps", "skipped_steps", "best_score", "stale_epochs")


def _checksum(text: str, tensors: Tensors) -> str:
    """Return the CRC-32 of the whole content, since safetensors does not detect altered values."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
