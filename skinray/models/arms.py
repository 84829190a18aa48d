"""Which arms of a run can start: those whose pretrained weights are at hand."""

from __future__ import annotations

from skinray.config import RunSettings
from skinray.errors import WeightsError
from skinray.models.weights import available
from skinray.models.weights_table import WEIGHTS


def why_missing(where: str, weights: str | None) -> str:
    """Say which published weights are not on this machine, and the remedy; empty: none miss.

    Parameters
    ----------
    where : whose weights they are, for the error.

    Raises
    ------
    WeightsError
        If the weights are neither published nor a file.
    """
    if weights is None or available(weights):
        return ""
    if weights not in WEIGHTS:
        raise WeightsError(
            f"{where}: {weights} is neither a file nor published weights: correct "
            f"model.weights, or use one of {', '.join(WEIGHTS)}"
        )
    return (
        f"weights '{weights}' are not on this machine: `skinray weights fetch {weights}`, "
        f"or `skinray weights import {weights} FILE`"
    )


def usable_arms(settings: RunSettings) -> tuple[RunSettings, dict[tuple[str, str], str]]:
    """Leave out baselines whose weights are missing; say why for each.

    Returns
    -------
    The settings without those arms, and (stage, label) -> reason.

    Raises
    ------
    WeightsError
        If the weights of a main arm are missing: without it there is no count. Also if an arm
        names weights that are neither published nor a file.
    """
    missing: dict[tuple[str, str], str] = {}
    changes = {}
    for stage in ("nerve", "dermis"):
        of = settings.nerve if stage == "nerve" else settings.dermis
        for arm in of.arms:
            remedy = why_missing(f"{stage} {arm.label}", arm.model.weights)
            if not remedy:
                continue
            if arm is of.main:
                raise WeightsError(
                    f"{stage} {arm.label}: {remedy}; or start from random weights with "
                    f"--set {stage}.main.model.weights=null"
                )
            missing[stage, arm.label] = remedy
        kept = tuple(arm for arm in of.baselines if (stage, arm.label) not in missing)
        changes[f"{stage}.baselines"] = [arm.model_dump() for arm in kept]
    return settings.override(changes), missing
