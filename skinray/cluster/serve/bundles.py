"""Bundles as the service's replicas hold them: named with every call, loaded where missing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from skinray.config.kinds import Stage
from skinray.errors import BundleError
from skinray.learning.bundle import load_stage
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.learning.bundle.networks import StageModel

T = TypeVar("T")
# While a service changes over, requests of the old bundle and of the new one are under way.
HELD = 2


@dataclass(frozen=True)
class BundleRef:
    """Which bundle answers a request: its folder, and the hash of all that is in it."""

    path: str
    id: str

    @classmethod
    def of(cls, path: Path | str, info: BundleInfo) -> BundleRef:
        """Name the bundle that ``info`` was read from."""
        return cls(str(Path(path).absolute()), info.id)


class Held(Generic[T]):
    """The last few things that were loaded, by bundle; safe in threads."""

    def __init__(self, load: Callable[[BundleRef], T], most: int = HELD) -> None:
        self._load, self._most = load, most
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._loaded: OrderedDict[BundleRef, T] = OrderedDict()

    def get(self, ref: BundleRef) -> T:
        """Return what belongs to the bundle, loaded now if it is not at hand.

        While one is loaded, those at hand can be had.
        """
        found = self._at_hand(ref)
        if found is not None:
            return found
        with self._loading:
            found = self._at_hand(ref)  # another thread may have loaded it meanwhile
            if found is not None:
                return found
            found = self._load(ref)
            with self._lock:
                while len(self._loaded) >= self._most:
                    self._loaded.popitem(last=False)
                self._loaded[ref] = found
            return found

    def _at_hand(self, ref: BundleRef) -> T | None:
        with self._lock:
            if ref in self._loaded:
                self._loaded.move_to_end(ref)
            return self._loaded.get(ref)

    def latest(self) -> T | None:
        """Return what was used last; None before the first."""
        with self._lock:
            return next(reversed(self._loaded.values()), None)


def named_info(ref: BundleRef) -> BundleInfo:
    """Read the bundle's description; BundleError where another bundle lies there by now."""
    info = read_info(Path(ref.path))
    if info.id != ref.id:
        raise BundleError(
            f"{ref.path}: another bundle lies there than the one in service; write a new bundle "
            "to a folder of its own, and name that one to the service"
        )
    return info


def load_named_stage(ref: BundleRef, stage: Stage) -> StageModel:
    """Load one stage of exactly this bundle, its hash checked.

    Raises
    ------
    BundleError
        If it is altered, incomplete, or not the bundle that is meant.
    """
    return load_stage(ref.path, named_info(ref), stage)
