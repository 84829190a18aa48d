"""A trained bundle: its networks, its settings and what it was trained on.

``load(path)`` reads a bundle, whose ``predict(image)`` does the work; ``save`` writes one;
``check`` verifies one without loading its networks. torch is imported with the first name that
needs it, so that what only reads a bundle's facts starts sooner.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skinray.learning.bundle.info import check as check

if TYPE_CHECKING:
    from skinray.learning.bundle.files import BiopsyBundle as BiopsyBundle
    from skinray.learning.bundle.files import Bundle as Bundle
    from skinray.learning.bundle.files import PhotoBundle as PhotoBundle
    from skinray.learning.bundle.files import Prediction as Prediction
    from skinray.learning.bundle.files import load as load
    from skinray.learning.bundle.files import load_bundle as load_bundle
    from skinray.learning.bundle.files import save as save
    from skinray.learning.bundle.networks import Maps as Maps
    from skinray.learning.bundle.networks import load_stage as load_stage

_PLACES = {
    **dict.fromkeys(
        ("BiopsyBundle", "Bundle", "PhotoBundle", "Prediction", "load", "load_bundle", "save"),
        "skinray.learning.bundle.files",
    ),
    **dict.fromkeys(("Maps", "load_stage"), "skinray.learning.bundle.networks"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)
