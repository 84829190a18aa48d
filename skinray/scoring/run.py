"""One scoring run on the machine that drives it: what is listed, what is left, what came of it.

Whatever dies, nothing that was committed is lost or done again: parts are written whole, and what
is still to do is always worked out from the listing and the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from skinray.config.scoring import ScoreSettings
from skinray.errors import CohortError
from skinray.learning import bundle as bundles
from skinray.scoring.entries import read_entries, write_entries
from skinray.scoring.ledger import Ledger
from skinray.scoring.listing import Listing
from skinray.scoring.object_store import is_address
from skinray.scoring.rows import committed
from skinray.scoring.run_folder import (
    KEYS,
    LISTING,
    RUN,
    alone,
    claim_folder,
    clear_traces,
    refuse_foreign,
)
from skinray.scoring.run_store import open_output
from skinray.scoring.score_image import BATCHES_PER_FILE, PENDING, Job
from skinray.scoring.tables import Totals, write_tables

# Fewer would leave workers idle at the end; more would commit needlessly often.
PARTS_PER_CPU = 4
# Each part is a file, and a block of Ray Data on the head node where stages are separate: it could
# not carry more than this.
MOST_PARTS = 100_000
# Comparing backends takes as long as scoring about this many images.
LONG = 24


@dataclass
class ScoringRun:
    """A run in progress: its listing, ledger, pending work, results and tables.

    Attributes
    ----------
    job : what its workers need to know.
    desk : folder on this machine where its tables are made.
    ledger : what is listed and what is committed.
    listed, left_out : images in the listing, and files that it skipped.
    left : images that have no result yet and can have one.
    """

    job: Job
    desk: Path
    ledger: Ledger
    listed: int
    left_out: int
    left: int = 0

    @classmethod
    @contextmanager
    def claimed(
        cls, bundle: Path, images: str, out: Path | str, settings: ScoreSettings, *, resume: bool
    ) -> Iterator[ScoringRun]:
        """Check the input, claim and lock the folder, and list the images.

        Raises
        ------
        SkinrayError
            If the bundle, the images or the folder do not allow the run; nothing is written then.
        """
        place = open_output(out)
        refuse_foreign(place, resume=resume)
        info = bundles.check(bundle)
        if not settings.anyway:
            info.refuse_failed(bundle)
        if not is_address(images):
            images = str(Path(images).expanduser().absolute())
        listing = Listing(images, skip=str(place.folder or out))
        if next(iter(listing), None) is None:
            raise CohortError(
                f"{images}: no image in it; name a folder with PNG, JPEG or TIFF files"
            )
        job = Job(images, str(bundle), info, place, settings)
        claim_folder(job, resume=resume)
        with alone(place), place.desk() as desk, Ledger() as ledger:
            listed = write_entries(listing, desk / LISTING)
            ledger.add_listing(read_entries(desk / LISTING))
            yield cls(job, desk, ledger, listed, listing.left_out)

    def collect(self, *, retry: bool = False) -> None:
        """Add the parts committed since the last time to the ledger.

        ``retry``: leave images pending whose bytes could not be read, see ``Ledger.add_parts``.
        """
        self.ledger.add_parts(committed(self.job.out, self.ledger.parts()), retry=retry)
        self.left = self.ledger.left()

    def hand_out(self, cpus: float) -> Job:
        """Write the pending images, in batches, where workers find them; return the round's job.

        Parts are smaller if few images are left, so that all workers end at about the same time,
        and larger if there are many millions.
        """
        parts = PARTS_PER_CPU * max(1, int(cpus))
        most = part_size(self.job.settings.images_per_part, self.left)
        size = min(most, -(-self.left // parts))
        clear_traces(self.job.out)
        (self.desk / PENDING).mkdir(exist_ok=True)
        pending, number = self.ledger.pending(), 0
        while chunk := list(islice(pending, BATCHES_PER_FILE * size)):
            name, number = f"{PENDING}/{number:06d}.parquet", number + 1
            write_entries(chunk, self.desk / name)
            self.job.out.publish(self.desk, name)
        with (self.desk / KEYS).open("w", encoding="utf-8") as file:
            file.writelines(f"{key}\n" for key in self.ledger.contents())
        self.job.out.publish(self.desk, KEYS)
        return replace(
            self.job,
            settings=self.job.settings.override({"images_per_part": size}),
            long=self.left >= LONG,
        )

    def write_tables(self) -> Totals:
        """Write the tables of all images on the desk, for a report to read."""
        self.fetch(RUN)
        rows, job = self.ledger.rows(), self.job
        return write_tables(
            self.desk,
            job.out,
            rows,
            job.kind,
            overlays=job.settings.overlays,
            note=job.info.note_on,
        )

    def fetch(self, name: str) -> None:
        """Put a file of the run on the desk."""
        self.job.out.fetch(self.desk, name)

    def publish(self, report: Sequence[str]) -> None:
        """Put the tables and the files of the report from the desk into the run, which is done."""
        for name in (LISTING, *self.job.kind.tables, *report):
            if (self.desk / name).exists():
                self.job.out.publish(self.desk, name)
        clear_traces(self.job.out)


def part_size(asked: int, images: int) -> int:
    """Return how many images a part holds: as asked, or more if there would be too many parts."""
    return max(asked, -(-images // MOST_PARTS))
