"""The errors of skinray; each message names the thing, the reason and the remedy."""

from collections.abc import Sequence


def size_of(shape: Sequence[int]) -> str:
    """Return a shape, (H, W, ...), as messages give sizes: WIDTHxHEIGHT."""
    return f"{shape[1]}x{shape[0]}"


class SkinrayError(Exception):
    """Base of every error that a user can correct; the command line prints no traceback."""


class SettingsError(SkinrayError):
    """An invalid settings file or option (unknown key, value out of range)."""


class ImageError(SkinrayError):
    """An image file that cannot be read safely and completely."""


class LabelError(SkinrayError):
    """A label (mask, boundary line, tracing) that does not fit its image."""


class CohortError(SkinrayError):
    """A cohort folder or manifest with problems; the message lists every one of them."""


class WeightsError(SkinrayError):
    """Pretrained weights that are missing, damaged, or of another architecture."""


class BundleError(SkinrayError):
    """A bundle folder that is incomplete, altered, or written by an unknown version."""


class TrainingError(SkinrayError):
    """A training run that cannot continue (loss not finite, checkpoint of another run)."""


class NotLearnedError(TrainingError):
    """A training after which the network is no better than chance."""


class DivergedError(TrainingError):
    """A training whose loss or gradient is not finite: its settings do not work."""


class DamagedError(TrainingError):
    """A checkpoint that was truncated, or changed since it was written."""


class ResourcesError(SkinrayError):
    """The Ray cluster lacks the resources that the run asks for."""


class StoppedError(SkinrayError):
    """A service that stopped before it had answered every request in progress."""


class NotReadyError(SkinrayError):
    """A network cannot answer; the message says which one, and why."""


class BusyError(SkinrayError):
    """There is no room for another request now; the client may try again soon."""


class AbandonedError(SkinrayError):
    """Work that ended early because nobody waits for its result any more."""


class LostWorkError(SkinrayError):
    """A process died while it worked on an image; the same image may be tried again."""


class StorageError(SkinrayError):
    """A store of images or results that does not respond; the work can be resumed."""
