"""The claim on a run folder: it belongs to one set of settings and one cohort."""

from __future__ import annotations

from pathlib import Path

from skinray.config.base import to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.photos import PhotoSettings
from skinray.config.training import ClusterSettings
from skinray.errors import SettingsError
from skinray.files import write_whole

SETTINGS, OWNER = "settings.yaml", "run.sha256"
# Settings that affect how photographs are tested and bundled, and how many members are trained,
# but not the trainings that are done.
REPORTED = frozenset({"flips", "members", "skin"})


def claim(
    out: Path, settings: RunSettings | PhotoSettings, data_fingerprint: str, *, resume: bool
) -> None:
    """Claim a new run folder, or an interrupted run's folder to resume it.

    A resumed run may change how it uses the cluster (``cluster``, but not the size of a step),
    how photographs are tested and bundled, and the number of members. All other settings must be
    the same, since they affect results. ``settings.yaml`` holds the settings of the last call.

    Raises
    ------
    SettingsError
        If the folder holds another run, or a run without ``resume``, or cannot be written.
    """
    refuse_foreign(out, resume=resume)
    science = settings.model_copy(update={"cluster": _of_each_step(settings.cluster)})
    owner = f"{science.fingerprint(REPORTED)} {data_fingerprint}\n"
    mark = out / OWNER
    if mark.is_file() and mark.read_text(encoding="utf-8") != owner:
        raise SettingsError(
            f"{out}: holds a run with other settings or other data (see {out / SETTINGS}); "
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
    """Return only the settings that affect a step's crops and learning rate."""
    most = cluster.worker_range[1]
    if most == 1:
        return ClusterSettings()
    return ClusterSettings(workers=most, learning_rate_rule=cluster.learning_rate_rule)


def refuse_foreign(out: Path, *, resume: bool) -> None:
    """Raise SettingsError if ``out`` cannot take this run; nothing is written.

    The folder must be new or empty, or hold a run to resume.
    """
    if (out / OWNER).is_file():
        if not resume:
            raise SettingsError(f"{out}: holds a run; add --resume, or choose another --out")
    elif out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: is a file; choose another --out")
    elif out.is_dir() and any(
        path.name.removesuffix(".part") not in (SETTINGS, OWNER) for path in out.iterdir()
    ):
        # A run that stopped before its claim was complete leaves only these files.
        raise SettingsError(f"{out}: not empty and not a run; choose another --out")
