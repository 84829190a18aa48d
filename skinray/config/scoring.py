"""How a bundle is used: scoring a cohort, and answering over HTTP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skinray.config.base import Settings
from skinray.config.images import ReadSettings
from skinray.config.kinds import Stage

# How networks are computed; the first is the reference, which every bundle is trained with.
BackendName = Literal["eager", "bfloat16", "openvino", "openvino_bfloat16", "openvino_int8"]
BackendChoice = Literal["auto"] | BackendName


class PoolSettings(Settings):
    """The actors of one scoring stage, and the resources of each."""

    actors: int | Literal["auto"] = Field(
        "auto",
        description="maximum actors: scoring starts with those that fit and adds the rest as the "
        "cluster grows; auto: one per GPU if they use any, else one per core present at the start",
    )
    cpus_per_actor: float = Field(1, gt=0)
    gpus_per_actor: float | Literal["auto"] = Field(
        "auto",
        description="auto: the share of a GPU that fits all networks on it, if there is a GPU",
    )


class ScoreSettings(Settings):
    """How a cohort is scored: first what decides results, then how the work is spread."""

    read: ReadSettings = ReadSettings()
    um_per_px: float | None = Field(
        None, ge=0.01, le=20, description="scale of every image; overrides manifest and files"
    )
    anyway: bool = Field(False, description="use a bundle that did not learn its task")
    overlays: bool = Field(
        True, description="write an overlay of each image, and a GeoJSON file or the mask"
    )
    backend: BackendChoice = Field(
        "auto",
        description="what computes the networks: eager is float32 in torch, the reference; auto: "
        "the fastest on each machine whose maps and counts stay within the limits of the gate",
    )
    layout: Literal["auto", "fused", "separate"] = Field(
        "auto",
        description="fused: each actor runs all stages; separate: each stage has its own actors; "
        "auto: separate if there are GPUs",
    )
    images_per_part: int = Field(
        8, ge=1, description="images committed together: the most that an actor can lose"
    )
    threads: int = Field(1, ge=1, description="threads of each network on a CPU")
    fused: PoolSettings = PoolSettings()
    nerve: PoolSettings = PoolSettings()
    dermis: PoolSettings = PoolSettings()
    skin: PoolSettings = PoolSettings()
    decode_cpus: float = Field(1, gt=0, description="CPUs of a task that reads and decodes")
    crossing_cpus: float = Field(1, gt=0, description="CPUs of a task that counts and writes")
    resources_timeout_s: float = Field(
        45, gt=0, description="how long to wait for the cluster to grow to the requested actors"
    )

    def stage(self, name: Stage) -> PoolSettings:
        """Return the pool of one stage in the separate layout."""
        return {"nerve": self.nerve, "dermis": self.dermis, "skin": self.skin}[name]


class ServiceSettings(Settings):
    """What the HTTP service accepts, and how much at once."""

    max_body_bytes: int = Field(
        256 << 20, ge=1024, description="larger requests are refused (413) before they are read"
    )
    max_pixels: int = Field(
        100_000_000, gt=0, description="larger images are refused from their header (422)"
    )
    max_resampled_pixels: int = Field(
        32_000_000,
        gt=0,
        description="images that are larger once enlarged to the scale of the bundle's training "
        "are refused (422)",
    )
    timeout_s: float = Field(
        120,
        gt=0,
        description="limit from a request's arrival: 503 while it queues, 408 while it uploads, "
        "504 after that",
    )
    max_in_flight: int = Field(4, ge=1, description="images processed at once")
    max_queued: int = Field(16, ge=0, description="requests that may queue; more are refused (503)")
    retry_after_s: int = Field(2, ge=1, description="Retry-After of refused requests")
    decode_threads: int = Field(2, ge=1, description="images decoded at once")
    engine_threads: int = Field(
        1, ge=1, description="images that go through the networks of this process at once"
    )
    labels: str | None = Field(
        None, description="cohort folder that stores corrections; none: they are not stored"
    )
    tokens: str | None = Field(
        None,
        description="file with one token, or its hash, per line; every request except liveness "
        "must send one. Read again when it changes",
    )
    without_tokens: bool = Field(
        False, description="serve anyone who can reach the port; required if there is no token file"
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="without tokens: names in the header Host under which it answers, besides "
        "localhost, 127.0.0.1 and [::1]",
    )


class ServeSettings(Settings):
    """One service on Ray Serve: which bundle answers, from how many processes."""

    bundle: str = Field(description="folder of the bundle, visible to every node")
    layout: Literal["separate", "fused"] = Field(
        "separate", description="separate: each stage has its own replicas; fused: one has all"
    )
    anyway: bool = Field(False, description="use a bundle that did not learn its task")
    service: ServiceSettings = ServiceSettings()
    threads: int = Field(
        1,
        ge=1,
        description="threads of each network on a CPU; use as many as for scoring, because another "
        "number rounds sums differently and may change a count",
    )
    backend: BackendChoice = Field(
        "auto",
        description="what computes the networks; auto: what scoring with this bundle found best "
        "on this machine, and else eager",
    )
    batch_size: int = Field(
        1,
        ge=1,
        description="maximum images that a network's replica takes together, in the separate "
        "layout; those of one size share a pass. 1: each alone, with exactly the answers of "
        "scoring. Above 1, a probability may differ by up to 0.01 on a CPU (not measured on a "
        "GPU), so a count may depend on other requests",
    )
    batch_wait_s: float = Field(
        0.01, ge=0, description="how long to wait for a batch to fill, if batch_size is above 1"
    )
    ready_timeout_s: float = Field(20, gt=0, description="limit for every stage to answer a probe")
