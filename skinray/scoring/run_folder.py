"""A scoring run's folder belongs to one bundle, one cohort and the settings that decide results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skinray.config.scoring import ScoreSettings
from skinray.errors import SettingsError
from skinray.learning.bundle.info import BundleInfo
from skinray.learning.provenance import now, versions
from skinray.scoring.image_store import without_password
from skinray.scoring.rows import LOG, PARTS
from skinray.scoring.run_store import Output

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

RUN, LISTING, PENDING, KEYS = "run.json", "listing.parquet", "pending", "keys.txt"
# What decides results; all else is how the work is spread, which a resumed run may change.
DECISIVE = ("read", "um_per_px", "overlays")
_COMPARED = {"bundle": "another bundle", "images": "other images", "decisive": "other settings"}


def claim_folder(
    out: Output,
    info: BundleInfo,
    bundle: Path,
    images: str,
    settings: ScoreSettings,
    *,
    resume: bool,
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
    before = _read(out)
    for name, what in _COMPARED.items():
        if before.get(name) != facts[name]:
            raise SettingsError(
                f"{out}: its run has {what} ({name} {before.get(name)}, now {facts[name]}); "
                "choose another --out"
            )
    _make_folders(out)


def refuse_foreign(out: Output, *, resume: bool) -> bool:
    """Return whether ``out`` holds a run to resume; SettingsError if it is no place for this run.

    A folder is free if it is new or empty. Nothing is written.
    """
    try:
        out.read(RUN)
        if not resume:
            raise SettingsError(f"{out}: holds a run; add --resume, or choose another --out")
        return True
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise SettingsError(f"{out}: is a file; choose another --out") from None
    if any(not name.startswith(f".{RUN}") for name in out.files("")):
        raise SettingsError(f"{out}: not empty and not a scoring run; choose another --out")
    return False


@contextmanager
def alone(out: Output) -> Iterator[None]:
    """Hold a run's folder for this process while the block runs; a kill lets go of it.

    An object store has no locks: there, two at once would do some work twice, and no harm.

    Raises
    ------
    SettingsError
        If another process works in the folder.
    """
    if out.folder is None:
        yield
        return
    with (out.folder / RUN).open("rb") as file:
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


def clear_traces(out: Output) -> None:
    """Remove what only the work needed: lists of what was to do, and files left half written."""
    out.remove(PENDING)
    out.remove(KEYS)
    if out.folder is not None:
        for partial in (out.folder / PARTS).glob(".*"):
            partial.unlink(missing_ok=True)


def _begin(out: Output, facts: dict[str, Any]) -> None:
    try:
        # The folders come after the mark that says whose they are: a kill leaves none without.
        out.write(RUN, json.dumps(facts, indent=1, ensure_ascii=False).encode())
        _make_folders(out)
    except OSError as error:
        raise SettingsError(
            f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from None


def _make_folders(out: Output) -> None:
    if out.folder is not None:
        for name in (PARTS, LOG):
            (out.folder / name).mkdir(exist_ok=True)


def _read(out: Output) -> dict[str, Any]:
    try:
        facts = json.loads(out.read(RUN))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{out}/{RUN}: cannot be read ({error}); choose another --out"
        ) from None
    return facts if isinstance(facts, dict) else {}
