"""A run folder belongs to one set of settings and one cohort; scoring uses the same refusals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from skinray.config.base import to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.photos import PhotoSettings
from skinray.config.training import ClusterSettings
from skinray.errors import SettingsError
from skinray.files import write_whole

SETTINGS, OWNER = "settings.yaml", "run.sha256"
# Settings of how photographs are tested and bundled, and of how often a network is trained: they
# change no training that is finished.
REPORTED = frozenset({"flips", "members", "skin"})


def claim(
    out: Path, settings: RunSettings | PhotoSettings, data_fingerprint: str, *, resume: bool
) -> None:
    """Claim a new run folder, or resume an interrupted run.

    A resumed run may change how it is spread over machines (``cluster``, but not the size of a
    step), how photographs are tested and bundled after all training, and how many trainings are
    averaged. The rest decides results and must stay. ``settings.yaml`` has the settings of the
    last call.

    Raises
    ------
    SettingsError
        If the folder holds another run, or a run and ``resume`` is false, or cannot be written.
    """
    refuse_foreign(out, resume=resume)
    science = settings.model_copy(update={"cluster": _of_each_step(settings.cluster)})
    owner = f"{science.fingerprint(REPORTED)} {data_fingerprint}\n"
    mark = out / OWNER
    if mark.is_file() and mark.read_text(encoding="utf-8") != owner:
        raise another_run(out, "other settings or other data", f"see {out / SETTINGS}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / SETTINGS, to_yaml(settings))
        write_whole(mark, owner)
    except OSError as error:
        raise unwritable(out, error) from None


def _of_each_step(cluster: ClusterSettings) -> ClusterSettings:
    """Return the settings that decide a step's crops and learning rate."""
    most = cluster.worker_range[1]
    if most == 1:
        return ClusterSettings()
    return ClusterSettings(workers=most, learning_rate_rule=cluster.learning_rate_rule)


def refuse_foreign(out: Path, *, resume: bool) -> None:
    """Raise SettingsError if ``out`` is no place for this run; nothing is written."""
    # Settings alone are left by a run that ended before it had claimed the folder.
    own = (SETTINGS, OWNER)
    found = (path.name for path in out.iterdir()) if out.is_dir() else ()
    foreign = (name for name in found if name.removesuffix(".part") not in own)
    is_resumed(out, (out / OWNER).is_file(), foreign, resume=resume)


def is_resumed(place: Path | str, holds_run: bool, foreign: Iterable[str], *, resume: bool) -> bool:
    """Return whether ``place`` holds a run to resume; SettingsError if it is no place for this run.

    It is free if it is new, empty, or holds a run and ``resume`` is true.

    Parameters
    ----------
    place : the folder, or an address.
    foreign : names of files there that no run left.
    """
    if holds_run:
        if not resume:
            raise SettingsError(f"{place}: holds a run; add --resume, or choose another --out")
        return True
    if isinstance(place, Path) and place.exists() and not place.is_dir():
        raise SettingsError(f"{place}: is a file; choose another --out")
    if next(iter(foreign), None) is not None:
        raise SettingsError(f"{place}: not empty and not a run; choose another --out")
    return False


def another_run(place: Path | str, what: str, detail: str) -> SettingsError:
    """Return the error for a place whose run differs in ``what``."""
    return SettingsError(f"{place}: its run had {what} ({detail}); choose another --out")


def unwritable(place: Path | str, error: OSError) -> SettingsError:
    """Return the error for a place that cannot be written."""
    reason = error.strerror or error
    return SettingsError(f"{place}: cannot be written ({reason}); choose another --out")
