"""From nerve and dermis maps to the crossings of the dermal-epidermal boundary (paper 2.4)."""

from skinray.config.biopsies import CrossingSettings
from skinray.crossings.boundary import dermis_boundary
from skinray.crossings.density import density_per_mm
from skinray.crossings.detect import Crossings, find_crossings

__all__ = [
    "CrossingSettings",
    "Crossings",
    "density_per_mm",
    "dermis_boundary",
    "find_crossings",
]
