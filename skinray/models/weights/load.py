"""Published weights: fetching them into the cache, loading them, and which ones are missing.

Nothing is downloaded automatically: :func:`fetch` and :func:`import_file` put a file into the cache
(as safetensors, with our names), and :func:`load_weights` reads it from there.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from skinray.config.biopsies import RunSettings
from skinray.config.kinds import STAGES
from skinray.errors import WeightsError
from skinray.files import sha256_of
from skinray.models import build
from skinray.models.weights.convert import State, to_native
from skinray.models.weights.files import (
    Progress,
    cache_dir,
    download,
    first_hashes,
    read_state,
    refuse_change,
    write_state,
)
from skinray.models.weights.published import WEIGHTS, PublishedWeights
from skinray.models.weights.wheel import check_edges, extract, from_package

_WHOLE_HASH = 64


def available(name_or_path: str) -> bool:
    """Whether :func:`load_weights` would find a file, without reading it."""
    entry = WEIGHTS.get(name_or_path)
    return entry.cached.is_file() if entry else Path(name_or_path).is_file()


def load_weights(model: nn.Module, name_or_path: str) -> None:
    """Load weights into ``model``; on an error it stays unchanged.

    Parameters
    ----------
    model : a network from :func:`skinray.models.build`.
    name_or_path : a key of ``WEIGHTS`` that is in the cache, or a ``.safetensors`` file with our
        names or published ones. Layers that the published network lacks (DeepLabV3's wrapping
        convolutions) keep their random weights.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or for another architecture; the message names the
        tensors.
    """
    entry = WEIGHTS.get(name_or_path)
    path = entry.cached if entry else Path(name_or_path)
    if not path.is_file():
        raise WeightsError(
            _remedy(name_or_path)
            if entry
            else f"{path}: no such file, and not the name of published weights; use a path or "
            f"one of {', '.join(WEIGHTS)}"
        )
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: only .safetensors files can be loaded; import a published file with "
            "`skinray weights import NAME FILE`, or save the state_dict with safetensors"
        )
    state, fresh, source = _read(path)
    _check_fit(model, state, fresh, source)
    model.load_state_dict(state, strict=False)


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Download published weights into the cache if they are not there; return the file.

    Parameters
    ----------
    name : a key of ``WEIGHTS``.
    progress : called with the bytes received and the total.

    Raises
    ------
    WeightsError
        If the address cannot be reached (the message says what to do), or the file is not the
        published one.
    """
    entry = _entry(name)
    if entry.cached.is_file():
        return entry.cached
    arrived = cache_dir() / f"{name}.{os.getpid()}.download"
    remedy = (
        "without a connection, get the file elsewhere and run "
        f"`skinray weights import {name} FILE`, or train from random weights"
    )
    try:
        if entry.package:
            from_package(entry.package, arrived, remedy)
        else:
            download(entry.url, arrived, remedy, progress)
        return import_file(name, arrived)
    finally:
        arrived.unlink(missing_ok=True)


def import_file(name: str, path: Path) -> Path:
    """Import a published file into the cache as safetensors; return the file in the cache.

    The hash is compared with the published one, and with that of the first import on this machine,
    which is all there is to go by where no hash is published. A ``.safetensors`` copy has another
    hash than the published file, so only its tensors are checked. A ``.whl`` file is the package
    that holds the published file.

    Raises
    ------
    WeightsError
        If the file is not the published one, is damaged, contains code, or does not fit the
        network.
    """
    entry, path = _entry(name), Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check the path")
    if path.suffix == ".whl" and entry.package:
        inside = cache_dir() / f"{name}.{os.getpid()}.member"
        inside.parent.mkdir(parents=True, exist_ok=True)
        try:
            extract(path, entry.package.member, inside)
            return import_file(name, inside)
        finally:
            inside.unlink(missing_ok=True)
    digest = sha256_of(path)
    copied = path.suffix == ".safetensors"
    if entry.sha256 and not copied and not digest.startswith(entry.sha256):
        raise WeightsError(
            f"{path}: SHA-256 {digest} is not the published {entry.sha256} of '{name}'; "
            f"the file is damaged or a different one: get it again from {entry.url}"
        )
    state, fresh, source = _read(path)
    with torch.device("cpu" if entry.package else "meta"):
        network = build(entry.model, **entry.options)
    _check_fit(network, state, fresh, source)
    if entry.package:
        check_edges(network, state, source)
    if not copied:
        refuse_change(name, digest, str(path))
    notes = {
        "name": name,
        "url": entry.url,
        "licence": entry.licence,
        "source_sha256": digest,
        "fresh": ",".join(fresh),
    }
    write_state(entry.cached, state, notes)
    return entry.cached


def rows() -> list[dict[str, str]]:
    """Return the table of published weights for display: one row per file, all values text."""
    return [
        {
            "name": entry.name,
            "model": entry.model,
            "in cache": "yes" if entry.cached.is_file() else "no",
            "trained on": entry.description,
            "licence": entry.licence,
            "sha256": _known_hash(entry),
            "address": entry.url,
        }
        for entry in WEIGHTS.values()
    ]


def _known_hash(entry: PublishedWeights) -> str:
    """Return what is known of a file's hash, in words where it is not all of it."""
    if entry.shipped or len(entry.sha256 or "") == _WHOLE_HASH:
        return entry.sha256 or sha256_of(entry.cached)
    first = first_hashes().get(entry.name)
    published = f"published: {entry.sha256}..." if entry.sha256 else "not published"
    return f"{published}; " + (f"imported: {first}" if first else "recorded at the first import")


def _entry(name: str) -> PublishedWeights:
    if name not in WEIGHTS:
        raise WeightsError(f"unknown weights '{name}': use one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _read(path: Path) -> tuple[State, tuple[str, ...], str]:
    """Return a file's tensors with our names, the prefixes it may lack, and a description."""
    tensors, notes = read_state(path)
    state, scheme = to_native(tensors, str(path))
    if scheme:
        return state, scheme.fresh, f"{path} ({scheme.name})"
    fresh = tuple(prefix for prefix in notes.get("fresh", "").split(",") if prefix)
    return state, fresh, str(path)


def _check_fit(network: nn.Module, state: State, fresh: tuple[str, ...], source: str) -> None:
    ours = network.state_dict()
    # Files from before torch 0.4.1 lack the counters of batches, which no forward pass uses.
    missing = [
        key
        for key in ours
        if key not in state
        and not key.startswith(fresh)
        and not key.endswith("num_batches_tracked")
    ]
    unexpected = [k for k in state if k not in ours]
    reshaped = [
        f"{k} {tuple(state[k].shape)} for {tuple(ours[k].shape)}"
        for k in ours
        if k in state and state[k].shape != ours[k].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "with another shape": reshaped}
    problems = [f"{what}: {_some(keys)}" for what, keys in found.items() if keys]
    if problems:
        raise WeightsError(
            f"{source}: these weights do not fit {type(network).__name__} with the given options; "
            f"{'; '.join(problems)}; use the model and options they were trained with"
        )


def _some(keys: list[str], shown: int = 4) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + more


def _remedy(name: str) -> str:
    return (
        f"weights '{name}' are not on this machine: run `skinray weights fetch {name}`, or get "
        f"{WEIGHTS[name].url} and run `skinray weights import {name} FILE`"
    )


def why_missing(where: str, weights: str | None) -> str:
    """Return a sentence with the remedy if published weights are not on this machine, else "".

    Parameters
    ----------
    where : the network that uses the weights, for the error.

    Raises
    ------
    WeightsError
        If the weights are neither published nor a file.
    """
    if weights is None or available(weights):
        return ""
    if weights not in WEIGHTS:
        raise WeightsError(
            f"{where}: {weights} is neither a file nor the name of published weights: correct "
            f"model.weights, or use one of {', '.join(WEIGHTS)}"
        )
    return _remedy(weights)


def usable_arms(settings: RunSettings) -> tuple[RunSettings, dict[tuple[str, str], str]]:
    """Remove baselines whose weights are missing from the settings.

    Returns
    -------
    The remaining settings, and the reason for each removed arm, by (stage, label).

    Raises
    ------
    WeightsError
        If the weights of a main arm are missing, since it is needed to count. Also if weights are
        neither published nor a file.
    """
    missing: dict[tuple[str, str], str] = {}
    changes = {}
    for stage in STAGES["biopsy"]:
        of = settings.stage(stage)
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
