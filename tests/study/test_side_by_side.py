"""What is seen of several stages that run side by side: a line each, no thread that draws, time that is shared."""

import io
import threading

from rich.console import Console

from consilium.monitor.eta import Kind, Pace, RemainingTime
from consilium.monitor.live_table import Boards
from consilium.monitor.progress import Ticker

ROUND = Kind("rounds", "none")


def report(number):
    """A round of one site."""
    site = {"site": "site-0", "n": 30, "accuracy": 0.5, "loss": 0.4, "reason": ""}
    figures = {"mean_accuracy": 0.5, "worst_accuracy": 0.5, "mean_loss": 0.4, "bytes_up": 100, "bytes_down": 100}
    return {"round": number, "seconds": 1.0, "cohort": ["site-0"], "sites": [site], "refused": [], **figures}


def drawn(shown, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text()


def test_workers_share_what_is_left():
    pace = Pace({ROUND: 10}, workers=4)
    for _ in range(2):
        pace.count(ROUND, 2.0)
    assert pace.left() == RemainingTime(8 * 2.0 / 4, whole=True)


def test_of_several_trainings_each_is_a_line():
    pace = Pace({ROUND: 50})
    boards = Boards(pace)
    first, second = boards.add("a"), boards.add("b")
    first.show("training none (seed 0)", 50)
    first.after(report(12), None)
    second.show("training dp-sgd (seed 0)", 50)
    for width in (40, 80, 120):
        lines = drawn(boards, width).splitlines()
        assert len(lines) == 4 + (width < 60) and max(map(len, lines)) <= width  # the foot is two lines there
        assert lines[0].startswith("training none (seed 0): round 12 of 50"[: width - 1])
        assert lines[1].startswith("training dp-sgd (seed 0)")
    boards.end("b")
    assert "site-0" in drawn(boards, 80) and "dp-sgd" not in drawn(boards, 80)  # alone it has the whole table
    boards.end("a")
    assert "training none (seed 0)" in drawn(boards, 80)


def test_of_many_trainings_the_rest_is_counted():
    boards = Boards(Pace({ROUND: 50}))
    for number in range(64):
        boards.add(str(number)).show(f"training {number}", 50)
    lines = drawn(boards, 80).splitlines()
    assert len(lines) == 23 and lines[20] == "and 44 more"


def test_lanes_take_their_own_time_and_say_their_own_rounds(capsys):
    with Ticker({ROUND: 4}, workers=2) as ticker:
        one, two = ticker.lane("a"), ticker.lane("b")
        one.begin("training none (seed 0)", 2)
        two.begin("training none (seed 1)", 2)
        for number in (1, 2):
            one.round(ROUND, report(number), None)
            two.round(ROUND, report(number), None)
        two.trained()
        one.trained()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/4] training none (seed 0): round 1 of 2")
    assert lines[1].startswith("[2/4] training none (seed 1): round 1 of 2") and "; about " in lines[1]
    assert [line.partition(":")[0] for line in lines[2:]] == ["training none (seed 1)", "training none (seed 0)"]


def test_of_several_no_thread_draws_the_table(monkeypatch):
    """It could hold the lock of a stream at the moment at which a worker is forked, which then waits for ever."""
    monkeypatch.setenv("TERM", "xterm")
    for workers, threads in ((1, 1), (2, 0)):
        out, before = io.StringIO(), threading.active_count()
        console = Console(file=out, force_terminal=True, width=80)
        with Ticker({ROUND: 2}, console=console, workers=workers) as ticker:
            assert threading.active_count() - before == threads
            ticker.lane("a").begin("training none (seed 0)", 2)
            ticker.refresh()
        assert workers == 1 or "training none (seed 0)" in out.getvalue()
