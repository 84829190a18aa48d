"""Files of weights: read without running code, downloaded atomically, kept in a cache."""

from __future__ import annotations

import json
import re
import urllib.request
import warnings
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from skinray.errors import WeightsError
from skinray.files import cache_folder, whole
from skinray.models.weights.tflite import is_tflite, read_tflite

Progress = Callable[[int, int], None]
"""Called with the bytes received and the total; without a known total, twice with the former."""

_CHUNK = 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TIMEOUT_S = 30
_FIRST = "first_imports.json"


def cache_dir() -> Path:
    """Return the folder of imported weights; the first import creates it."""
    return cache_folder("weights")


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, and the notes in its header.

    It may be a ``.safetensors`` file, a TensorFlow Lite model, Keras weights (HDF5), or the output
    of ``torch.save``, which is read with ``weights_only=True``: a pickle with code is refused and
    never run.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_tflite(path):
        return read_tflite(path), {}
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            return _read_hdf5(path), {}
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # hostile or truncated pickles raise many kinds of error
        raise WeightsError(
            f"{path}: not a plain file of weights ({_refusal(error)}); it is damaged, or "
            "contains code, which is never run: fetch it again, or save only its state_dict"
        ) from None
    return _tensors(content, path), {}


def _refusal(error: Exception) -> str:
    """Return why torch refused a file, without its advice to load it unsafely."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it calls {found[1]}"
    return "not in torch's format" if "weights_only" in text else first_line(error)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: damaged safetensors file ({first_line(error)}); copy or fetch it again"
        ) from None


def _read_hdf5(path: Path) -> dict[str, Tensor]:
    import h5py

    found: dict[str, Tensor] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = torch.from_numpy(np.asarray(item))

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except (OSError, RuntimeError, TypeError) as error:  # damaged, or not numbers
        raise WeightsError(
            f"{path}: damaged HDF5 file ({first_line(error)}); copy or fetch it again"
        ) from None
    return found


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: has no state_dict; save `model.state_dict()` and try again")
    foreign = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise WeightsError(
            f"{path}: '{foreign[0]}' is not a tensor; save only `model.state_dict()` and try again"
        )
    return {str(key): value for key, value in content.items()}


def on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies that safetensors can save: on the CPU, contiguous, without shared memory."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def refuse_change(name: str, digest: str, source: str) -> None:
    """Record the SHA-256 of published weights at their first import; refuse another one later.

    Raises WeightsError if weights of this name had another hash when they were first imported.
    """
    known = first_hashes()
    if known.setdefault(name, digest) != digest:
        raise WeightsError(
            f"{source}: SHA-256 {digest} is not that of the file first imported as '{name}', "
            f"{known[name]}; the file was changed on its way or by its publisher: find out which, "
            f"and if it may be used, remove '{name}' from {cache_dir() / _FIRST}"
        )
    cache_dir().mkdir(parents=True, exist_ok=True)
    with whole(cache_dir() / _FIRST, shared=True) as partial:
        partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def first_hashes() -> dict[str, str]:
    """Return the SHA-256 of each published file at its first import here, by name."""
    path = cache_dir() / _FIRST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in values.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        raise WeightsError(f"{path}: damaged; delete it, and import the weights again") from None


def write_state(path: Path, state: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write ``state`` as safetensors, atomically, with ``notes`` in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, shared=True) as partial:
        save_file(on_cpu(state), partial, metadata=notes)


def download(url: str, target: Path, remedy: str, progress: Progress | None = None) -> None:
    """Copy ``url`` to ``target``; a broken transfer leaves no file.

    Raises
    ------
    WeightsError
        If the address cannot be reached or sends too few bytes; the message ends in ``remedy``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,  # noqa: S310 - our table
            target.open("wb") as file,
        ):
            if url.startswith("https:") and not answer.geturl().startswith("https:"):
                raise OSError(f"it leads to {answer.geturl()}, which is not encrypted")
            length = answer.headers.get("Content-Length")
            _copy(answer, file, int(length) if length else None, progress)
    except (OSError, EOFError, HTTPException) as error:  # urllib's own errors are OSErrors
        target.unlink(missing_ok=True)
        reason = first_line(error).removeprefix("<urlopen error ").removesuffix(">")
        raise WeightsError(f"{url}: cannot be downloaded ({reason}); {remedy}") from None


def _copy(source: Any, target: Any, total: int | None, progress: Progress | None) -> None:
    done = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, done if total is None else total)
    if total is not None and done < total:
        raise EOFError(f"{done} of {total} bytes received")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
