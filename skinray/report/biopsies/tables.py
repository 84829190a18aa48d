"""Tables 1, 2 and 3 in the paper's form, beside the paper's own figures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable

from skinray.report.biopsies import paper
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import ArmScore, CountScore, Scores, Spread, score_run
from skinray.report.tables import Table, TableRow, interval, number

WIDTH = 100
SYNTHETIC = (
    "Synthetic: skinray drew these images. The figures compare the model with the truth drawn and "
    "say nothing about a patient's tissue."
)
OPTIMISTIC = "The settings were chosen with these images, so the model's figures are optimistic."
COUNT_NOTE = (
    "ICC: ICC(2,1). Lin: concordance correlation. Bias and 95 % "
    "limits of agreement: model minus {label}, in crossings per image."
)
PAPER_COLUMN = "paper r (p)"
COUNT_COLUMNS = ("", "n", "r", "p", "95 % CI of r", PAPER_COLUMN, "ICC", "Lin", "bias", "limits")
Tolerances = dict[int, str]


def build_tables(results: RunResults, scores: Scores) -> tuple[Table, Table, Table, Table]:
    """Return tables 1, 2 and 3 and the comparison with the second expert."""
    split = component_split(results)
    notes = (OPTIMISTIC,) if scores.optimistic else ()
    theirs, beside = ({}, {}) if scores.synthetic else (paper.NERVE, paper.DERMIS)
    nerve = {0: "Dice", 1: "Dice, k = 1 px", 3: "Dice, k = 3 px"}
    title = f"labelling ({split}): mean (sd) over images"
    return (
        _arm_table(f"Table 1. Nerve {title}", scores.nerve, theirs, nerve, notes),
        _arm_table(f"Table 2. Dermis {title}", scores.dermis, beside, {0: "Dice"}, notes),
        _fold_table(scores, notes),
        _second_expert_table(scores, split, notes),
    )


def component_split(results: RunResults) -> str:
    """Say how many images trained and how many tested the networks of tables 1 and 2."""
    held = len(results.component_counts)
    if not held:
        return results.component_split
    train = results.component_train
    return f"{results.images - held if train is None else train} train / {held} held out"


def tables_text(results: RunResults) -> str:
    """Return the tables and the headline as plain text, at most 100 columns wide."""
    scores = score_run(results)
    stream = io.StringIO()
    console = Console(
        file=stream, width=WIDTH, color_system=None, markup=False, emoji=False, highlight=False
    )
    if results.synthetic:
        console.print(f"{SYNTHETIC}\n")
    for table in build_tables(results, scores):
        console.print(table.title)
        console.print(_terminal(table))
        for note in table.notes:
            console.print(f"  {note}")
        console.print()
    console.print(headline(scores))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def headline(scores: Scores) -> str:
    """Return the run's result in two lines: over all images, then over folds as the paper does."""
    pooled = scores.pooled.agreement
    optimistic = ", optimistic" if scores.optimistic else ""
    r = f"r {pooled.r:.2f} {interval(pooled.r_interval)}" if pooled.r is not None else "no r"
    error = ""
    if pooled.mean_absolute_error is not None:
        error = f"; a count is off by {pooled.mean_absolute_error:.1f} on average"
    return f"All {pooled.n} held-out images: {r}{error}{optimistic}\n{_over_folds(scores)}"


def _over_folds(scores: Scores) -> str:
    theirs = f"; the paper: {paper.FOLD_MEAN.mean:.3f} ({paper.FOLD_MEAN.sd:.3f})"
    if scores.synthetic:
        theirs = ""
    if scores.mean_r is None:
        return f"Mean r over folds: not measured{theirs}"
    known, folds = scores.mean_r.n, len(scores.folds)
    over = f"{folds} folds" if known == folds else f"{known} of {folds} folds"
    mine = f"{scores.mean_r.mean:.3f} (sd {scores.mean_r.sd:.3f})"
    flat = f", with {flat_words(scores)} as 0" if scores.flat else ""
    optimistic = ", optimistic" if scores.optimistic else ""
    return f"Mean r over {over}: {mine}{flat}{optimistic}{theirs}"


def flat_words(scores: Scores) -> str:
    """Name the folds whose counts do not vary."""
    return f"fold{'s' if len(scores.flat) > 1 else ''} {', '.join(scores.flat)}"


def mean_sd(value: Spread | paper.MeanSd | None) -> str:
    """Return ``mean (sd)`` as the paper writes it."""
    return "" if value is None else f"{value.mean:.3f} ({value.sd:.3f})"


def p_value(value: float | None) -> str:
    """Return p to three digits, without the zero before the point; below .001 as ``< .001``."""
    if value is None:
        return ""
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _terminal(table: Table) -> TerminalTable:
    shown = TerminalTable(
        box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, collapse_padding=True
    )
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row.cells, end_section=False)
    return shown


def _arm_table(
    title: str,
    scores: tuple[ArmScore, ...],
    theirs: dict[str, dict[int, paper.MeanSd]],
    tolerances: Tolerances,
    notes_first: tuple[str, ...],
) -> Table:
    rows: list[TableRow] = []
    notes = [*notes_first]
    for score in scores:
        if score.status == "measured" and score.dice:
            count = str(max(s.n for s in score.dice.values()))
            kind: Literal["main", "run"] = "main" if score.main else "run"
            rows.append(TableRow((score.label, count, *_dice(score.dice, tolerances)), kind))
        else:
            empty = ("",) * (len(tolerances) - 1)
            rows.append(TableRow((score.label, "", "not measured", *empty), "missing"))
            reason = score.reason.rstrip(".") or "no reason given"
            notes.append(f"{score.label} was not measured: {reason}.")
        if score.paper_row:
            rows.append(_paper_row(score.paper_row, theirs, tolerances))
    shown = {score.paper_row for score in scores}
    rest = [name for name in theirs if name not in shown]
    rows.extend(_paper_row(name, theirs, tolerances) for name in rest)
    if rest:
        notes.append(f"Not part of this run: the paper's {', '.join(rest)}.")
    return Table(title, ("", "n", *tolerances.values()), tuple(rows), tuple(notes))


def _dice(dice: dict[int, Spread] | dict[int, paper.MeanSd], k: Tolerances) -> tuple[str, ...]:
    return tuple(mean_sd(dice.get(tolerance)) for tolerance in k)


def _paper_row(
    name: str, theirs: dict[str, dict[int, paper.MeanSd]], tolerances: Tolerances
) -> TableRow:
    start = " (pretrained)" if name == "U-Net" else ""
    label = f"  the paper's {name}{start}"
    return TableRow((label, str(paper.HELD_OUT), *_dice(theirs[name], tolerances)), "paper")


def _fold_table(scores: Scores, notes_first: tuple[str, ...]) -> Table:
    folds = [(f"Fold {fold.label}", fold) for fold in scores.folds]
    mean, theirs = scores.mean_r, paper.FOLD_MEAN
    summaries = (
        ("Mean", mean.mean if mean else None, theirs.mean),
        ("Sd", mean.sd if mean else None, theirs.sd),
    )
    blank = ("",) * 4
    rows = (
        *(_count_row(label, fold) for label, fold in folds),
        *(
            TableRow((name, "", number(mine), "", "", f"{paper_s:.3f}", *blank), "summary")
            for name, mine, paper_s in summaries
        ),
        _count_row(scores.pooled.label, scores.pooled),
    )
    title = (
        f"Table 3. Counts on held-out images: the model against {scores.truth.who}, fold by fold"
    )
    note = COUNT_NOTE.replace("{label}", scores.truth.label)
    notes = [*notes_first, note, *(_missing(label, fold) for label, fold in folds)]
    if len(folds) != len(paper.FOLDS) and not scores.synthetic:
        notes.append("The paper has 5 folds, so only its mean and sd are shown beside this run's.")
    return _count_table(title, rows, notes, scores)


def _second_expert_table(scores: Scores, split: str, notes_first: tuple[str, ...]) -> Table:
    truth = scores.truth
    second = truth.second.removeprefix("the ")
    title = f"Model and {second}, each against {truth.who} ({split}; then all images)"
    lines = [
        ("Model", scores.split_model),
        (truth.second_label, scores.split_second),
        ("All: model", scores.pooled),
        ("All: 2nd", scores.pooled_second),
    ]
    rows = tuple(_count_row(label, score) for label, score in lines)
    notes = dict.fromkeys((*notes_first, *(_missing(label, score) for label, score in lines)))
    return _count_table(title, rows, notes, scores)


def _count_table(
    title: str, rows: Iterable[TableRow], notes: Iterable[str], scores: Scores
) -> Table:
    """Make a table of counts; without the paper's column if skinray drew the images."""
    columns: tuple[str, ...] = COUNT_COLUMNS
    rows = tuple(rows)
    if scores.synthetic:
        at = columns.index(PAPER_COLUMN)
        columns = (*columns[:at], *columns[at + 1 :])
        rows = tuple(TableRow((*r.cells[:at], *r.cells[at + 1 :]), r.kind) for r in rows)
    return Table(title, columns, rows, tuple(filter(None, notes)))


def _count_row(label: str, score: CountScore) -> TableRow:
    a = score.agreement
    theirs = f"{score.paper.r:.3f} ({_as_printed(score.paper.p)})" if score.paper else ""
    if a.n == 0:
        return TableRow((label, "", "", "", "not measured", theirs, "", "", "", ""), "missing")
    r = (number(a.r), p_value(a.p), interval(a.r_interval))
    others = (number(a.icc, 2), number(a.concordance, 2), number(a.bias, 1, sign=True))
    return TableRow((label, str(a.n), *r, theirs, *others, interval(a.limits, 1)))


def _missing(label: str, score: CountScore) -> str:
    return f"{label}: {score.agreement.reason}." if score.agreement.reason else ""


def _as_printed(p: float) -> str:
    """Return the paper's p, which it prints with two or three digits, and below .001 as 0.00."""
    return p_value(p) if p * 100 % 1 or p == 0 else f"{p:.2f}".removeprefix("0")
