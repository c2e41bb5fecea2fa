"""Who is late: on a terminal within seconds, elsewhere one line for each site and question after a fair wait."""

import io
import re

from rich.console import Console

from consilium.monitor.eta import Kind, Pace
from consilium.monitor.live_table import Board
from consilium.monitor.progress import Ticker
from consilium.monitor.stragglers import Lateness, waiting_line


def waited(late, question, sites, seconds):
    """A wait of whole seconds, as the engine tells of it."""
    for second in range(1, seconds + 1):
        late(question, sites, float(second))


def test_each_site_is_told_once_a_question_and_not_before_ten_seconds():
    said = []
    late = Lateness(said.append)
    waited(late, "round 1", ["site-1", "site-2"], 9)
    assert said == []
    waited(late, "round 1", ["site-1", "site-2"], 300)
    assert said == ["round 1: no answer yet from site-1, site-2 after 10 s"]
    waited(late, "round 2", ["site-2"], 300)
    assert said[1:] == ["round 2: no answer yet from site-2 after 10 s"]


def test_one_that_falls_behind_later_is_told_later():
    said = []
    late = Lateness(said.append)
    waited(late, "round 1", ["site-1"], 12)
    for second in (13.0, 14.0):
        late("round 1", ["site-1", "site-0"], second)
    assert said[1:] == ["round 1: no answer yet from site-0 after 13 s"]


def test_rounds_that_take_minutes_are_late_after_twice_their_shortest():
    said = []
    late = Lateness(said.append)
    late("round 1", (), 60.0)
    late("round 2", (), 300.0)  # somebody was late: no measure
    waited(late, "round 3", ["site-0"], 119)
    assert said == []
    waited(late, "round 3", ["site-0"], 121)
    assert said == ["round 3: no answer yet from site-0 after 120 s"]


def test_of_many_the_first_are_named():
    line = waiting_line("round 1", [f"site-{i}" for i in range(30)], 11.4)
    assert line == "round 1: no answer yet from site-0, site-1, site-2, site-3, site-4, 25 more after 11 s"


def drawn(board):
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(board)
    return console.export_text()


def test_the_table_names_them_within_seconds_and_until_they_answer():
    board = Board(Pace({Kind("rounds", "none"): 3}))
    board.show("training none (seed 0)", 3)
    board.waits("round 1", ["[red]site-1"], 1.0)
    assert "no answer" not in drawn(board)
    board.waits("round 1", ["[red]site-1"], 3.0)
    assert "round 1: no answer yet from [red]site-1 after 3 s" in drawn(board)
    board.waits("round 1", (), 4.0)
    assert "no answer" not in drawn(board)
    board.waits("round 2", ["site-1"], 5.0)
    board.show("training dp-sgd (seed 0)", 3)
    assert "no answer" not in drawn(board)


def test_plain_lines_name_them_once_and_a_new_training_begins_anew(capsys):
    with Ticker({Kind("rounds", "none"): 2}) as ticker:
        ticker.lane().begin("training none (seed 0)", 2)
        waited(ticker.lane().waits, "round 1", ["site-1"], 30)
        ticker.lane().begin("training dp-sgd (seed 0)", 2)
        waited(ticker.lane().waits, "round 1", ["site-1"], 30)
    told = capsys.readouterr().err
    assert len(re.findall("round 1: no answer yet from site-1 after 10 s", told)) == 2 == len(told.splitlines())


def test_the_live_table_says_it_and_leaves_no_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    with Ticker({Kind("rounds", "none"): 2}, console=Console(file=out, force_terminal=True, width=80)) as ticker:
        ticker.lane().begin("training none (seed 0)", 2)
        waited(ticker.lane().waits, "round 1", ["site-1"], 30)
        ticker.live.refresh()
        ticker.lane().waits("round 1", (), 31.0)
    assert "no answer yet from site-1 after 30 s" in out.getvalue()
    assert out.getvalue().rstrip().endswith(("\x1b[2K", "\x1b[?25h"))
