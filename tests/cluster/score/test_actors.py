"""Actors of all stages lose no batch if one dies, and a round that cannot continue ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from skinray.cluster.score import actors
from skinray.cluster.score.actors import Team
from skinray.cluster.score.pools import Pool

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

NOTHING: Any = SimpleNamespace()
BATCHES = 9


def scoring(
    folder: Path,
    *,
    dies_at: int = -1,
    raises: Exception | None = None,
    starts: bool | str = True,
) -> type:
    """Return an actor class that notes its batches; at one batch it dies once, or fails.

    Defined in a function, or Ray's workers would have to import this file.
    """

    class Scoring:
        def __init__(self, *_: Any) -> None:
            with (folder / "starts").open("a") as file:
                file.write("once\n")
            if isinstance(starts, str):
                raise ValueError(starts)
            if not starts:
                os.kill(os.getpid(), signal.SIGKILL)

        def ready(self) -> None:
            pass

        def score(self, batch: int) -> int:
            mark = folder / "died"
            if batch == dies_at and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if batch == 4 and raises is not None:
                raise raises
            (folder / f"{batch}-{os.getpid()}").touch()
            return 10 + batch

    return Scoring


def team(monkeypatch: pytest.MonkeyPatch, kind: type, size: int = 2) -> Team:
    monkeypatch.setattr(actors, "Scorer", kind)
    return Team(NOTHING, NOTHING, Pool(1, size, 1, 0), BATCHES)


def run(members: Team) -> list[int]:
    try:
        return sorted(members)
    finally:
        members.end()


@pytest.mark.parametrize("actors", [1, 2])
def test_an_actor_dies_and_every_batch_is_reported_once(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, actors: int
) -> None:
    members = team(monkeypatch, scoring(tmp_path, dies_at=3), actors)
    assert run(members) == [10 + batch for batch in range(BATCHES)]
    assert (tmp_path / "died").exists()
    # The answer of the batch before may be lost with the actor: that batch is done again.
    done = {file.name.split("-")[0] for file in tmp_path.glob("*-*")}
    assert done == {str(batch) for batch in range(BATCHES)}
    assert len(members.starts) == actors


def test_actors_without_room_do_not_hold_up_the_others(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The session has four CPUs; the other actors would start only if the cluster grew."""
    members = team(monkeypatch, scoring(tmp_path), 6)
    assert run(members) == [10 + batch for batch in range(BATCHES)]
    assert len(members.starts) == 6
    assert 1 <= len((tmp_path / "starts").read_text().split()) <= 4


@pytest.mark.parametrize("raised", [OSError("no space left"), ActorDiedError()])
def test_an_error_in_the_work_ends_the_round(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: Exception
) -> None:
    """The death of another actor that the work needs is not the death of its own actor."""
    with pytest.raises(RayTaskError):
        run(team(monkeypatch, scoring(tmp_path, raises=raised), 1))
    assert len((tmp_path / "starts").read_text().split()) == 1


def test_actors_that_never_start_end_the_round(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(actors, "MOST_STARTS", 2)
    with pytest.raises(ActorDiedError):
        run(team(monkeypatch, scoring(tmp_path, starts=False), 1))
    assert len((tmp_path / "starts").read_text().split()) == 2


def test_an_error_at_the_start_is_not_retried(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ActorDiedError, match="damaged bundle"):
        run(team(monkeypatch, scoring(tmp_path, starts="damaged bundle"), 1))
    assert len((tmp_path / "starts").read_text().split()) == 1
