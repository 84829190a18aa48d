"""The report of a run on photographs: ``report.html``, complete in one file."""

from __future__ import annotations

from pathlib import Path

from skinray.files import write_whole
from skinray.learning.photos.trials import SCENARIOS
from skinray.report.biopsies.training_figures import training_curves
from skinray.report.charts import jpeg_uri
from skinray.report.page import render
from skinray.report.photos import words
from skinray.report.photos.examples import PhotoExample
from skinray.report.photos.figures import edges, view_charts
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import (
    PhotoResults,
    count,
    duration,
    epoch_words,
    looked_words,
    with_interval,
)
from skinray.report.tables import Table, TableRow


def write_photo_report(run_dir: Path) -> Path:
    """Render ``results.json`` and ``examples/`` of a run; the page needs no other file.

    Returns
    -------
    The path of ``report.html``.

    Raises
    ------
    SkinrayError
        The folder holds no finished run on photographs.
    """
    results = PhotoResults.load(run_dir)
    return write_whole(run_dir / "report.html", _page(results, run_dir))


def _page(results: PhotoResults, run_dir: Path) -> str:
    rows = results.rows
    best_first = sorted(rows, key=lambda row: -row.summary.jaccard.value)
    top = words.best(rows)
    return render(
        "photos/page.html",
        results=results,
        answer=words.answer(results),
        failed_parts=results.failures,
        caveats=words.caveats(results),
        top=top,
        transfer=words.best(rows, "direct transfer"),
        weakest=words.weakest(top) if top else None,
        first_table=first_table(results),
        whole_table=whole_table(rows),
        view_tables=view_tables(rows),
        view_charts=view_charts([row for row in rows if top and row.scenario == top.scenario]),
        examples=[(row, _with_pictures(row, run_dir)) for row in best_first],
        confidence_explained=words.confidence_explained(results),
        training_explained=words.training_explained(results),
        curves=training_curves(results.curves),
        photos=photo_table(rows),
    )


def first_table(results: PhotoResults) -> Table:
    """Return Table I in the paper's form: a row per network, a column per scenario."""
    rows = results.rows
    # A network is pretrained once, whatever is averaged later.
    pretrained = {row.network: row for row in rows if row.plain and row.scenario == SCENARIOS[0]}
    shown = []
    for label, of in _by_label(rows).items():
        once = pretrained.get(of[0].network)
        cells = [count(of[0].parameters), duration(once.epoch_s if once else None)]
        for scenario in SCENARIOS:
            one = next((row for row in of if row.scenario == scenario), None)
            scores = one and f"{one.summary.jaccard.value:.3f} ({one.summary.dice.value:.3f})"
            cells.append(scores or "")
        shown.append(TableRow((label, *cells)))
        theirs = of[0].published
        if theirs:
            paper = ("the paper", theirs.parameters, theirs.epoch_time, *theirs.scores)
            shown.append(TableRow(paper, "paper"))
    return Table(
        "Table I. Jaccard (Dice), mean over test photographs",
        ("", "parameters", "epoch time", *SCENARIOS),
        tuple(shown),
        ("Direct transfer: trained only on public photographs. Direct training: only on clinical "
         "photographs. Fine-tuning: first on public, then on clinical ones.",
         f"{epoch_words(results)} This table has that of pretraining, the longest; the next table "
         "has the others.",
         *(["Members: the same network, fine-tuned several times, each time with other "
            "photographs held out; their probabilities are averaged."]
           if any(row.members > 1 for row in rows) else []),
         *looked_words(rows)),
    )  # fmt: skip


def whole_table(rows: list[PhotoRow]) -> Table:
    """Return a table of every row with its intervals."""
    columns = (
        "", "scenario", "Jaccard", "Jaccard, pooled", "Dice", "parameters", "epoch time", "epochs",
        "best epoch",
    )  # fmt: skip
    shown = []
    for row in rows:
        figures = (row.summary.jaccard, row.summary.jaccard_pooled, row.summary.dice)
        size = (count(row.parameters), duration(row.epoch_s))
        ends = (str(row.epochs), str(row.best_epoch or ""))
        shown.append(
            TableRow((row.label, row.scenario, *map(with_interval, figures), *size, *ends))
        )
    note = (
        "Pooled: all pixels of all photographs together, so large photographs weigh more. Best "
        "epoch: the one with the best validation."
    )
    notes = (note, *looked_words(rows))
    return Table("All figures, with 95 % CIs", columns, tuple(shown), notes)


def view_tables(rows: list[PhotoRow]) -> list[Table]:
    """Return a table per measure: a column per bin, a row per network and scenario."""
    with_views = [row for row in rows if row.views]
    tables = []
    for at, view in enumerate(with_views[0].views if with_views else []):
        heads = [f"{one.label} ({edges(one.low, one.high)})" for one in view.bins]
        shown = [TableRow(("photographs", "", *(str(one.images) for one in view.bins)), "summary")]
        for row in with_views:
            cells = [
                with_interval(one.jaccard) if one.jaccard else ("too few" if one.images else "none")
                for one in row.views[at].bins
            ]
            shown.append(TableRow((row.label, row.scenario, *cells)))
        without = [f"Not measured: {view.unknown}."] if view.unknown else []
        note = (view.how, *without, *looked_words(with_views))
        title = f"Jaccard by {view.name} ({view.unit})"
        tables.append(Table(title, ("", "scenario", *heads), tuple(shown), note))
    return tables


def photo_table(rows: list[PhotoRow]) -> Table:
    """Return a table of every test photograph: its measures, and its Jaccard in every row."""
    heads = [f"{row.label}, {row.scenario}" for row in rows]
    shown = []
    for at, one in enumerate(rows[0].photos if rows else []):
        share = f"{100 * one.skin / one.pixels:.0f} %"
        light = "" if one.lightness is None else f"{one.lightness:.0f}"
        ita = "" if one.ita_deg is None else f"{one.ita_deg:.0f}"
        found = (f"{row.photos[at].jaccard:.3f}" for row in rows)
        shown.append(TableRow((one.name, share, light, ita, *found)))
    columns = ("", "skin", "mean L*", "ITA, degrees", *heads)
    notes = tuple(looked_words(rows))
    return Table("Jaccard of every test photograph", columns, tuple(shown), notes)


def _by_label(rows: list[PhotoRow]) -> dict[str, list[PhotoRow]]:
    return {
        label: [row for row in rows if row.label == label]
        for label in dict.fromkeys(row.label for row in rows)
    }


def _with_pictures(row: PhotoRow, run_dir: Path) -> list[PhotoExample]:
    """Return a row's examples with pictures for paths; empty where a file is gone."""
    return [
        one.model_copy(
            update={
                name: _uri(run_dir / getattr(one, name))
                for name in ("found", "traced", "confidence")
            }
        )
        for one in row.examples
    ]


def _uri(path: Path) -> str:
    try:
        return jpeg_uri(path.read_bytes())
    except OSError:
        return ""
