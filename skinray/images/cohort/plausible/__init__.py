"""Labels that can be read but cannot be right: compared with their images and with each other.

Each image leaves a small :class:`Trace`; at the end, the traces are compared. What is sure is a
problem, what a person should look at is a note.
"""

from skinray.images.cohort.plausible.labels_fit import is_line as is_line
from skinray.images.cohort.plausible.labels_fit import is_noise as is_noise
from skinray.images.cohort.plausible.labels_fit import of_other_polarity as of_other_polarity
from skinray.images.cohort.plausible.labels_fit import shifted_labels as shifted_labels
from skinray.images.cohort.plausible.labels_fit import (
    twins_of_two_subjects as twins_of_two_subjects,
)
from skinray.images.cohort.plausible.notes import cohort_notes as cohort_notes
from skinray.images.cohort.plausible.notes import understood as understood
from skinray.images.cohort.plausible.trace import Count as Count
from skinray.images.cohort.plausible.trace import Trace as Trace
from skinray.images.cohort.plausible.trace import trace_of as trace_of
