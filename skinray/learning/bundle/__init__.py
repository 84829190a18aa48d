"""A trained bundle: its networks, its settings and what it was trained on.

``load(path)`` reads a bundle, whose ``predict(image)`` does the work; ``save`` writes one;
``check`` verifies one without loading its networks.
"""

from skinray.learning.bundle.files import BiopsyBundle as BiopsyBundle
from skinray.learning.bundle.files import Bundle as Bundle
from skinray.learning.bundle.files import PhotoBundle as PhotoBundle
from skinray.learning.bundle.files import Prediction as Prediction
from skinray.learning.bundle.files import load as load
from skinray.learning.bundle.files import load_bundle as load_bundle
from skinray.learning.bundle.files import save as save
from skinray.learning.bundle.info import check as check
from skinray.learning.bundle.networks import Maps as Maps
from skinray.learning.bundle.networks import load_stage as load_stage
