"""The nested grid search: splits of the cohort, trials, and the configuration they choose."""

from skinray.learning.search.choice import Chosen as Chosen
from skinray.learning.search.choice import choose as choose
from skinray.learning.search.splits import Split as Split
from skinray.learning.search.splits import Splits as Splits
from skinray.learning.search.splits import deciding as deciding
from skinray.learning.search.splits import make_splits as make_splits
from skinray.learning.search.trials import SpecMaker as SpecMaker
