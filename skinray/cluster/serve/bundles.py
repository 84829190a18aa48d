"""Bundles in the service's replicas: named with every call, loaded where they are missing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from skinray.config.kinds import Stage
from skinray.config.scoring import BackendChoice, BackendName
from skinray.errors import BundleError
from skinray.learning.bundle import load_stage
from skinray.learning.bundle.backend import choose
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.learning.bundle.networks import StageModel, default_device

T = TypeVar("T")
# While the bundle is being replaced, requests for the old one and the new one are in progress.
HELD = 2


@dataclass(frozen=True)
class BundleRef:
    """Which bundle answers a request: its folder, and the hash of everything in it."""

    path: str
    id: str

    @classmethod
    def of(cls, path: Path | str, info: BundleInfo) -> BundleRef:
        """Return the reference of the bundle that ``info`` was read from."""
        return cls(str(Path(path).absolute()), info.id)


class BundleCache(Generic[T]):
    """What was loaded last, by bundle; thread-safe."""

    def __init__(self, load: Callable[[BundleRef], T]) -> None:
        self._load = load
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._loaded: OrderedDict[BundleRef, T] = OrderedDict()

    def get(self, ref: BundleRef) -> T:
        """Return what belongs to the bundle, loading it if necessary.

        While one bundle is being loaded, the others can still be used.
        """
        found = self._loaded_already(ref)
        if found is not None:
            return found
        with self._loading:
            found = self._loaded_already(ref)  # another thread may have loaded it meanwhile
            if found is not None:
                return found
            found = self._load(ref)
            with self._lock:
                while len(self._loaded) >= HELD:
                    self._loaded.popitem(last=False)
                self._loaded[ref] = found
            return found

    def _loaded_already(self, ref: BundleRef) -> T | None:
        with self._lock:
            if ref in self._loaded:
                self._loaded.move_to_end(ref)
            return self._loaded.get(ref)

    def latest(self) -> T | None:
        """Return what was used last; None if nothing was."""
        with self._lock:
            return next(reversed(self._loaded.values()), None)


def named_info(ref: BundleRef) -> BundleInfo:
    """Read the bundle's description; BundleError if the folder now holds another bundle."""
    info = read_info(Path(ref.path))
    if info.id != ref.id:
        raise BundleError(
            f"{ref.path}: the bundle in it is not the one in service; write a new bundle to a new "
            "folder, and give the service that folder"
        )
    return info


def backend_of(ref: BundleRef, info: BundleInfo, wanted: BackendChoice) -> BackendName:
    """Return what computes a bundle in this process."""
    return choose(Path(ref.path), info, default_device()) if wanted == "auto" else wanted


def load_named_stage(ref: BundleRef, stage: Stage, wanted: BackendChoice) -> StageModel:
    """Load one stage of exactly this bundle; its hash is checked.

    Raises
    ------
    BundleError
        If it is altered, incomplete, or another bundle.
    """
    info = named_info(ref)
    return load_stage(ref.path, info, stage, backend=backend_of(ref, info, wanted))
