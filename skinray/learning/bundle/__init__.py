"""A trained bundle: its networks, its settings and what it was trained on.

``load(path)`` reads one and its ``predict(image)`` uses it; ``save`` writes one; ``check`` reads
what it says of itself without loading a network.
"""

from skinray.learning.bundle.files import Bundle as Bundle
from skinray.learning.bundle.files import Maps as Maps
from skinray.learning.bundle.files import Prediction as Prediction
from skinray.learning.bundle.files import check as check
from skinray.learning.bundle.files import load as load
from skinray.learning.bundle.files import load_stage as load_stage
from skinray.learning.bundle.files import save as save
