from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import pytest
from rich.console import Console

from skinray.progress import Steps, bar, clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00"),
        (0.4, "00:00"),
        (59.6, "01:00"),
        (61, "01:01"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (90061, "25:01:01"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def ticking() -> Callable[[], float]:
    """A clock that each look moves on by ten seconds."""
    return itertools.count(100.0, 10.0).__next__


def log() -> Console:
    return Console(file=io.StringIO(), width=120)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_regular_lines_with_the_time_left() -> None:
    console = log()
    with Steps("Working", 4, console, ticking()) as steps:  # begins at 110
        steps.set(1)  # 120: too soon for a line
        steps.set(2)  # 130: 10 s since the first, so 20 s for the two left
        steps.set(3, "nearly,")  # 140: too soon again
    assert lines(console) == [
        "Working: 50 %, ETA 00:20",
        "Working: done in 00:40",
    ]


def test_nothing_done_yet_gives_no_time_left() -> None:
    console = log()
    with Steps("Working", 4, console, ticking()) as steps:
        steps.set(0)
        steps.set(0, "waiting")
    assert lines(console)[0] == "Working: 0 %, waiting"


def test_a_slow_start_and_what_was_done_before_do_not_count() -> None:
    console = log()
    with Steps("Working", 100, console, itertools.count(100.0, 20.0).__next__) as steps:
        steps.set(0, "starting")
        steps.set(80)  # by a run before
        steps.set(82)  # 20 s for two, so 180 s for the 18 left
    assert lines(console)[:3] == [
        "Working: 0 %, starting", "Working: 80 %", "Working: 82 %, ETA 03:00",
    ]  # fmt: skip


def test_an_error_is_reported_as_stopped() -> None:
    console = log()
    with pytest.raises(ValueError, match="no"), Steps("Working", 4, console, ticking()):
        raise ValueError("no")
    assert lines(console) == ["Working: stopped in 00:10"]


def test_the_total_may_be_set_late() -> None:
    console = log()
    with Steps("Working", 1, console, ticking()) as steps:
        steps.tell(1, 10)
        steps.tell(2, 10)
    assert steps.total == 10
    assert lines(console)[0] == "Working: 20 %, ETA 01:20"


def test_no_steps_at_all_are_not_an_error() -> None:
    console = log()
    with Steps("Working", 0, console) as steps:
        steps.tell(0, 0)
    assert lines(console) == ["Working: done in 00:00"]


def test_a_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Steps("Working", 3, console) as steps:
        steps.resize(4)
        steps.set(1)
        steps.set(2, "two done,")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "Working" in shown
    assert "two done," in shown
    assert "ETA" in shown


def test_bar_yields_what_long_functions_call(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("Drawing") as tell:
        tell(1, 2)
        tell(2, 2)
    assert capsys.readouterr().out == "Drawing: done in 00:00\n"
