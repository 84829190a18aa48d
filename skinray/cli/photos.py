"""The verbs on clinical photographs; :mod:`skinray.cli` lists them among the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinray.config.base import changes_of
from skinray.errors import SettingsError


def train_photos(
    data: Annotated[
        str,
        typer.Option(help="Clinical photographs: a folder with images/ and masks/ of one name."),
    ],
    public: Annotated[
        list[str],
        typer.Option(
            help="Public photographs to pretrain on: a folder alike, or a published one, e.g. "
            "hgr:DIR, lfw:DIR, lvs:DIR. May be repeated."
        ),
    ],
    backgrounds: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of photographs without skin, e.g. of rooms and clothes; they need no "
            "masks. With --recipe varied, skin is put before them. May be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder, seen by every node; default: runs/photos-TIME.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="paper: its own augmentation and training; varied: mirrored, further turned and "
            "scaled, in other colours, before other rooms; AdamW along a cosine, a mean of the "
            "weights; or a YAML file of all settings, as a run leaves in settings.yaml."
        ),
    ] = "paper",
    networks: Annotated[
        str | None,
        typer.Option(
            help="Parted by commas: skin_unet, skin_unet_large, skin_dense_unet (default: these "
            "three, or those of a YAML file), and beyond the paper skin_mobilenet and "
            "skin_deeplabv3, which begin from published weights."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of each training; the paper's: 500.")
    ] = None,
    pretraining_epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of pretraining; default: as --epochs.")
    ] = None,
    train: Annotated[
        int | None, typer.Option(min=2, help="Clinical photographs to train on; default: 100.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(min=1, help="Clinical photographs to test on; default: 300.")
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Fine-tune each network so many times, each time with other photographs held "
            "out; the bundle averages them. Takes so many times as long, and so do answers; "
            "default: 1.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run; default: 0.")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Workers that train one network together: 4, or 2,8 for as many of 2 to 8 as the "
            "cluster has."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in --out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a setting, e.g. seed=1, or, of the first of --networks, "
            "networks.0.train.epochs=80. May be repeated.",
        ),
    ] = None,
) -> None:
    r"""Train and test the segmentation of skin in photographs: one table of three scenarios.

    Each network is pretrained on the public photographs, then tested on the clinical ones as it
    is (direct transfer), trained on the clinical ones alone (direct training), and fine-tuned.
    Which photograph trains and which one tests is told by the order of their MD5.

        skinray train-photos --data ward --public hgr:HGR --public lfw:LFW --networks skin_unet

    On a cluster: `ray job submit --working-dir . -- python jobs/train_photos.py ...`
    """
    from skinray.cli.run_folder import run_folder
    from skinray.cluster.train.photos import train_photos as run
    from skinray.config.photos import photo_recipe
    from skinray.report.photos.csv_files import TABLE
    from skinray.report.photos.table import table_text

    settings = photo_recipe(recipe)
    if networks is not None:
        try:
            settings = settings.only([name.strip() for name in networks.split(",") if name.strip()])
        except ValueError as error:
            raise SettingsError(f"--networks: {error}") from None
    if epochs is not None:
        settings = settings.lasting(epochs)
    options = {
        "pretraining_epochs": pretraining_epochs,
        "train_images": train,
        "test_images": test,
        "members": members,
        "seed": seed,
        "cluster.workers": workers,
    }
    settings = settings.override(changes_of(set_, options))
    out = run_folder(out, "photos", resume=resume)
    results = run(data, public, out, settings, backgrounds=backgrounds or (), resume=resume)
    typer.echo(table_text(results))
    typer.echo(f"Table: {out / TABLE}.md and .csv\nReport: {out / 'report.html'}")
