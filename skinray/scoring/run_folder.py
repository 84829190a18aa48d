"""A scoring run's folder belongs to one bundle, one cohort and the settings that decide results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skinray.errors import SettingsError
from skinray.learning.provenance import now, versions
from skinray.learning.run_folder import another_run, is_resumed, unwritable
from skinray.scoring.object_store import without_password
from skinray.scoring.rows import LOG, PARTS
from skinray.scoring.run_store import Output
from skinray.scoring.score_image import PENDING, Job

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

RUN, LISTING, KEYS = "run.json", "listing.parquet", "keys.txt"
# The settings that decide results; the rest is how the work is spread, which may change on resume.
DECISIVE = ("read", "um_per_px", "overlays", "backend")
_COMPARED = {"bundle": "another bundle", "images": "other images", "decisive": "other settings"}


def claim_folder(job: Job, *, resume: bool) -> None:
    """Claim a new folder for a run, or resume an interrupted run; ``run.json`` says whose it is.

    Raises
    ------
    SettingsError
        If the folder holds something else, a run and ``resume`` is false, or a run with another
        bundle, other images or other settings; or if it cannot be written.
    """
    out, info, values = job.out, job.info, job.settings.model_dump(mode="json")
    facts: dict[str, Any] = {
        "bundle": info.id,
        "images": without_password(job.images),
        "decisive": {name: values[name] for name in DECISIVE},
    }
    resumed = refuse_foreign(out, resume=resume)
    before = _read(out) if resumed else facts
    if isinstance(before.get("decisive"), dict):
        before["decisive"].setdefault("backend", "eager")  # earlier versions had no other
    for name, what in _COMPARED.items():
        if before.get(name) != facts[name]:
            raise another_run(str(out), what, f"{name} {before.get(name)}, now {facts[name]}")
    facts |= {
        "kind": info.kind, "bundle_path": job.bundle, "settings": values,
        "note": info.note, "synthetic": info.synthetic,
        "um_per_px": job.settings.um_per_px, "trained_um_per_px": info.um_per_px,
        "created": now(), "versions": versions(),
    }  # fmt: skip
    try:
        if not resumed:
            out.write(RUN, json.dumps(facts, indent=1, ensure_ascii=False).encode())
        # The folders come after run.json, so that a kill leaves no folder without an owner.
        if out.folder is not None:
            for name in (PARTS, LOG):
                (out.folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(str(out), error) from None


def refuse_foreign(out: Output, *, resume: bool) -> bool:
    """Return whether ``out`` holds a run to resume; SettingsError if it is no place for this run.

    Nothing is written.
    """
    try:
        out.read(RUN)
        holds_run = True
    except (FileNotFoundError, NotADirectoryError):
        holds_run = False
    found = [] if holds_run else out.files("")
    foreign = [name for name in found if not name.startswith(f".{RUN}")]
    return is_resumed(out.folder or str(out), holds_run, foreign, resume=resume)


@contextmanager
def alone(out: Output) -> Iterator[None]:
    """Lock a run's folder for this process while the block runs; a kill releases it.

    An object store has no locks: two runs at once would do some work twice, without harm.

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
                f"{out}: another process is working on this run; wait for it, or end it first"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def clear_traces(out: Output) -> None:
    """Remove what only the work needed: lists of pending images, and half-written files."""
    out.remove(PENDING)
    out.remove(KEYS)
    if out.folder is not None:
        for partial in (out.folder / PARTS).glob(".*"):
            partial.unlink(missing_ok=True)


def _read(out: Output) -> dict[str, Any]:
    try:
        facts = json.loads(out.read(RUN))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{out}/{RUN}: cannot be read ({error}); choose another --out"
        ) from None
    return facts if isinstance(facts, dict) else {}
