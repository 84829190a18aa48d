"""The verb for clinical photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinray.cli.options import Out, Resume, Seed, Workers, continued, exit_if_failed, set_option
from skinray.config.base import changes_of
from skinray.errors import SettingsError


def train_photos(
    data: Annotated[
        str,
        typer.Option(
            help="Clinical photographs: a folder with images/ and masks/ of the same names."
        ),
    ],
    public: Annotated[
        list[str],
        typer.Option(
            help="Public photographs to pretrain on: a folder of the same layout, or a published "
            "set such as hgr:DIR, lfw:DIR or lvs:DIR. May be repeated."
        ),
    ],
    backgrounds: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder of photographs without skin, for example of rooms and clothes; no masks "
            "needed. With --recipe varied, skin is pasted onto them. May be repeated."
        ),
    ] = None,
    out: Out = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="paper: the paper's augmentation and training. varied: more rotation, scaling, "
            "mirroring and colour changes, other backgrounds; AdamW, a cosine schedule, averaged "
            "weights. Or a YAML file with all settings, such as a run's settings.yaml."
        ),
    ] = "paper",
    networks: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated. The paper's: skin_unet, skin_unet_large, skin_dense_unet (the "
            "default, unless --recipe is a YAML file). Also skin_mobilenet and skin_deeplabv3, "
            "which start from published weights."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum epochs of each training. Default: the paper's 500."),
    ] = None,
    pretraining_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum epochs of each pretraining. Default: same as --epochs."),
    ] = None,
    train: Annotated[
        int | None, typer.Option(min=2, help="Clinical photographs to train on. Default: 100.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(min=1, help="Clinical photographs to test on. Default: 300.")
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Fine-tune each network this many times, with other photographs held out each "
            "time, and average them in the bundle. Multiplies the time that fine-tuning and "
            "prediction take. Default: 1.",
        ),
    ] = None,
    seed: Seed = None,
    workers: Workers = None,
    resume: Resume = False,
    set_: Annotated[
        list[str] | None,
        set_option("seed=1, or networks.0.train.epochs=80 for the first of --networks"),
    ] = None,
) -> None:
    r"""Train networks that find the skin in photographs, and test them in three scenarios.

    Each network is pretrained on the public photographs. It is then tested on the clinical ones
    unchanged (direct transfer), after training on clinical ones alone (direct training), and after
    both (fine-tuning). In the order of their MD5, the first are for training, the next for testing.

        skinray train-photos --data ward --public hgr:HGR --public lfw:LFW --networks skin_unet

    To run on a cluster: `ray job submit -- skinray train-photos ...`

    If it is interrupted, run the same command with --resume to continue.
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
    with continued(out):
        results = run(data, public, out, settings, backgrounds=backgrounds or (), resume=resume)
    typer.echo(table_text(results))
    typer.echo(f"Table: {out / TABLE}.md and .csv\nReport: {out / 'report.html'}")
    exit_if_failed(results.failures)
