"""A scoring run's folder belongs to one bundle, one cohort and the settings that decide results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skinray.config import ScoreSettings
from skinray.errors import SettingsError
from skinray.images.store import without_password
from skinray.learning.bundle_info import BundleInfo
from skinray.learning.provenance import now, versions
from skinray.learning.score_parts import LOG, PARTS

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

RUN, LISTING, PENDING, KEYS = "run.json", "listing.parquet", "pending", "keys.txt"
# What decides results; all else is how the work is spread, which a resumed run may change.
DECISIVE = ("read", "um_per_px", "overlays")
_COMPARED = {"bundle": "another bundle", "images": "other images", "decisive": "other settings"}


def claim_folder(
    out: Path, info: BundleInfo, bundle: Path, images: str, settings: ScoreSettings, *, resume: bool
) -> None:
    """Take a new folder for a run, or take up an interrupted one; ``run.json`` says whose it is.

    Raises
    ------
    SettingsError
        If the folder holds something else, a run that was not asked to be resumed, or one of
        another bundle, other images or other settings; or if it cannot be written.
    """
    values = settings.model_dump(mode="json")
    facts: dict[str, Any] = {
        "bundle": info.id,
        "images": without_password(images),
        "decisive": {name: values[name] for name in DECISIVE},
    }
    if not refuse_foreign(out, resume=resume):
        facts |= {
            "kind": info.kind, "bundle_path": str(bundle), "settings": values,
            "um_per_px": settings.um_per_px, "trained_um_per_px": info.um_per_px,
            "created": now(), "versions": versions(),
        }  # fmt: skip
        _begin(out, facts)
        return
    before = _read(out / RUN)
    for name, what in _COMPARED.items():
        if before.get(name) != facts[name]:
            raise SettingsError(
                f"{out}: its run has {what} ({name} {before.get(name)}, now {facts[name]}); "
                "choose another --out"
            )
    for name in (PARTS, LOG):
        (out / name).mkdir(exist_ok=True)


def refuse_foreign(out: Path, *, resume: bool) -> bool:
    """Return whether ``out`` holds a run to resume; SettingsError if it is no place for this run.

    A folder is free if it is new or empty. Nothing is written.
    """
    if (out / RUN).is_file():
        if not resume:
            raise SettingsError(f"{out}: holds a run; add --resume, or choose another --out")
        return True
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: is a file; choose another --out")
    if out.is_dir() and any(not path.name.startswith(f".{RUN}") for path in out.iterdir()):
        raise SettingsError(f"{out}: not empty and not a scoring run; choose another --out")
    return False


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold a run's folder for this process while the block runs; a kill lets go of it.

    Raises
    ------
    SettingsError
        If another process works in the folder.
    """
    with (out / RUN).open("rb") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"{out}: another process is at work on this run; wait for it, or end it first"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def clear_traces(out: Path) -> None:
    """Remove what only the work needed: lists of what was to do, and files left half written."""
    shutil.rmtree(out / PENDING, ignore_errors=True)
    (out / KEYS).unlink(missing_ok=True)
    for partial in (out / PARTS).glob(".*"):
        partial.unlink(missing_ok=True)


def _begin(out: Path, facts: dict[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        partial = out / f".{RUN}.part"
        partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        # The folders come after the mark that says whose they are: a kill leaves none without.
        partial.replace(out / RUN)
        for name in (PARTS, LOG):
            (out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); choose another --out") from None
    return facts if isinstance(facts, dict) else {}
