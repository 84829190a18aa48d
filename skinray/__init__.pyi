from skinray.crossings import find_crossings as find_crossings
from skinray.errors import SkinrayError as SkinrayError
from skinray.images.read import read_image as read_image
from skinray.learning.bundle import load_bundle as load_bundle

__all__ = ["SkinrayError", "find_crossings", "load_bundle", "read_image"]

__version__: str
