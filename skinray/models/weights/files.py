"""Files of weights: read without running code, downloaded whole or not at all, kept in a cache."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skinray.errors import WeightsError
from skinray.files import whole
from skinray.models.weights.tflite import is_tflite, read_tflite

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived and the bytes in all, as far as these are known."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30


def cache_dir() -> Path:
    """Folder of imported weights.

    ``$SKINRAY_CACHE/weights``, else ``$XDG_CACHE_HOME/skinray/weights``, else
    ``~/.cache/skinray/weights``. It is made when the first file comes in.
    """
    own = os.environ.get("SKINRAY_CACHE")
    if own:
        return Path(own).expanduser() / "weights"
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "skinray" / "weights"


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, and the notes in its header.

    ``.safetensors`` is read as such, and what begins as TensorFlow Lite's files by its graph.
    Anything else is taken for a file of ``torch.save`` and read with ``weights_only=True``: a
    pickle that would run code is refused, and does not run.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_tflite(path):
        return read_tflite(path), {}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling hostile or cut files raises of many kinds
        raise WeightsError(
            f"{path}: not a plain file of weights ({_first_line(error)}); it is damaged, or it "
            "holds code, which is never run: fetch it again, or save its state_dict alone"
        ) from None
    return _tensors(content, path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: damaged safetensors file ({_first_line(error)}); copy or fetch it again"
        ) from None


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: holds no state_dict; save `model.state_dict()` and try again")
    foreign = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise WeightsError(
            f"{path}: '{foreign[0]}' is no tensor; save `model.state_dict()` alone and try again"
        )
    return {str(key): value for key, value in content.items()}


def write_state(path: Path, state: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write ``state`` as safetensors with ``notes`` in the header; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, shared=True) as partial:
        # Cloned, since safetensors refuses tensors that share memory.
        save_file({k: v.clone().contiguous() for k, v in state.items()}, partial, metadata=notes)


def download(url: str, target: Path, remedy: str, progress: Progress | None = None) -> None:
    """Copy ``url`` to ``target``; a broken transfer leaves nothing.

    Raises
    ------
    WeightsError
        When the address cannot be reached or sends less than it promised; it ends in
        ``remedy``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,  # noqa: S310 - our table
            target.open("wb") as file,
        ):
            length = answer.headers.get("Content-Length")
            _copy(answer, file, int(length) if length else None, progress)
    except (OSError, EOFError, HTTPException) as error:  # urllib's own errors are OSErrors
        target.unlink(missing_ok=True)
        reason = _first_line(error).removeprefix("<urlopen error ").removesuffix(">")
        raise WeightsError(f"{url}: cannot be downloaded ({reason}); {remedy}") from None


def _copy(source: Any, target: Any, total: int | None, progress: Progress | None) -> None:
    done = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, done if total is None else total)
    if total is not None and done < total:
        raise EOFError(f"{done} of {total} bytes came")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
