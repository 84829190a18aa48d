"""A run folder belongs to one set of settings and one cohort."""

from __future__ import annotations

from pathlib import Path

from skinray.config.base import to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.photos import PhotoSettings
from skinray.config.training import ClusterSettings
from skinray.errors import SettingsError
from skinray.files import write_whole

SETTINGS, OWNER = "settings.yaml", "run.sha256"
# Settings of how photographs are tested and bundled, and of how often a network is trained: they
# change no training that has been.
REPORTED = frozenset({"flips", "members", "skin"})


def claim(
    out: Path, settings: RunSettings | PhotoSettings, data_fingerprint: str, *, resume: bool
) -> None:
    """Take a new run folder, or take up an interrupted one.

    What a run may change between interruptions is how it is spread over machines (``cluster``,
    but not the size of a step), how photographs are tested and bundled after all training, and
    how many trainings are averaged. The rest decides results and must stay. ``settings.yaml`` has
    the settings of the last call.

    Raises
    ------
    SettingsError
        If the folder holds another run, or a run that was not asked to be resumed, or cannot
        be written.
    """
    refuse_foreign(out, resume=resume)
    science = settings.model_copy(update={"cluster": _of_each_step(settings.cluster)})
    owner = f"{science.fingerprint(REPORTED)} {data_fingerprint}\n"
    mark = out / OWNER
    if mark.is_file() and mark.read_text(encoding="utf-8") != owner:
        raise SettingsError(
            f"{out}: its run had other settings or other data (see {out / SETTINGS}); "
            "choose another --out"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / SETTINGS, to_yaml(settings))
        write_whole(mark, owner)
    except OSError as error:
        raise SettingsError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from None


def _of_each_step(cluster: ClusterSettings) -> ClusterSettings:
    """Return what of the settings decides a step's crops and learning rate."""
    most = cluster.worker_range[1]
    if most == 1:
        return ClusterSettings()
    return ClusterSettings(workers=most, learning_rate_rule=cluster.learning_rate_rule)


def refuse_foreign(out: Path, *, resume: bool) -> None:
    """Raise SettingsError if ``out`` is no place for this run; nothing is written.

    A folder is free if it is new, empty, or holds a run that is to be resumed.
    """
    if (out / OWNER).is_file():
        if not resume:
            raise SettingsError(f"{out}: holds a run; add --resume, or choose another --out")
    elif out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: is a file; choose another --out")
    elif out.is_dir() and any(
        path.name.removesuffix(".part") not in (SETTINGS, OWNER) for path in out.iterdir()
    ):
        # Settings alone are left by a run that ended before it had claimed the folder.
        raise SettingsError(f"{out}: not empty and not a run; choose another --out")
