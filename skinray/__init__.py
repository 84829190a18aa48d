"""Count nerve fibres that cross the dermal-epidermal boundary in images of skin biopsies.

A bundle is what ``skinray train-cv`` leaves: trained networks with their settings. It counts the
crossings of a biopsy; one of ``skinray train-photos`` finds the skin in a photograph::

    import skinray

    found = skinray.load_bundle("run/bundle").predict("a.tif")
    print(found.crossings.count, found.crossings.density_per_mm)

    skin = skinray.load_bundle("photos/bundle", kind="photo").predict("arm.jpg")
    print(skin.fraction)

From masks or probability maps of your own, without a bundle:

>>> import numpy as np
>>> import skinray
>>> dermis, nerve = np.zeros((2, 120, 160), bool)
>>> dermis[60:] = True
>>> nerve[30:90, 79:82] = True
>>> skinray.find_crossings(nerve, dermis, um_per_px=0.5)
<Crossings: 1 crossing, boundary 160 px = 0.080 mm, 12.5 per mm>

Every error that a user can fix is a ``SkinrayError``, and its message says how. Importing this
package is quick: what a name needs, such as torch, is imported when the name is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["SkinrayError", "find_crossings", "load_bundle", "read_image"]

# Where each name is. The types are in __init__.pyi.
_PLACES = {
    "SkinrayError": ("skinray.errors", "SkinrayError"),
    "find_crossings": ("skinray.crossings", "find_crossings"),
    "load_bundle": ("skinray.learning.bundle", "load_bundle"),
    "read_image": ("skinray.images.read", "read_image"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'skinray' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
