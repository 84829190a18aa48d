"""Scoring a cohort, without Ray: its images, its ledger, its rows and its tables.

The way of one image from ``skinray score`` to its row in ``counts.csv``: ``cli/results.py`` calls
``cluster/score/run.py``, which opens a :class:`~skinray.scoring.run.ScoringRun`. The run claims the
folder (``run_folder``), lists the image as an ``Entry`` (``listing``), finds in its ``ledger`` that
the image has no result yet, and hands it out in a batch. ``cluster/score`` takes the batch to a
worker, where a :class:`~skinray.scoring.score_image.Job` reads and decodes the image, the networks
make its maps, and the ``Job`` counts (``kinds``), writes the image's files and commits its row in a
part (``rows``). Back on the driver, the ``ScoringRun`` collects the part into the ledger and writes
the image's row to ``counts.csv`` (``tables``).
"""
