"""What is seen of a run while it runs: the table at several widths, plain lines, time left, epsilon spent so far."""

import io
import json
import re
import statistics

import pytest
from rich.console import Console

from consilium import Study
from consilium.core.charge import Composed, Gaussian, PoissonSampled, RandomisedResponse
from consilium.core.rounding import round_up
from consilium.federate.client.participant import SiteState
from consilium.measure.accounting.privacy import claims, epsilon
from consilium.monitor import epsilon_tracker as spending_module
from consilium.monitor.epsilon_tracker import EpsilonSpent, Spending
from consilium.monitor.eta import Kind, Pace, RemainingTime
from consilium.monitor.live_table import Board
from consilium.monitor.progress import Ticker
from consilium.monitor.round_summary import attendance, byte_text, figure, round_line, site_rows

ROUND, OTHER, PGD = Kind("rounds", "none"), Kind("rounds", "dp-sgd"), Kind("attacks", "pgd")
SPENT = EpsilonSpent(2.3123, 1e-5, "example", 8.0, 11)


def report(sites=5, **more):
    """A round of ``sites`` sites; site-1 was refused, site-2 late, site-4 told no figures."""
    told = [
        {"site": f"site-{i}", "n": 30 + i, "accuracy": 0.5 + (i * 37 % 100) / 250, "loss": 0.4 + i / 100, "reason": ""}
        for i in range(sites)
    ]
    told[4] |= {"n": 0, "accuracy": None, "loss": None, "reason": "the site gives no consent"}
    return {
        "round": 12,
        "seconds": 1.5,
        "cohort": [f"site-{i}" for i in range(sites)],
        "bytes_up": 1_234_567,
        "bytes_down": 913,
        "mean_accuracy": 0.8712,
        "worst_accuracy": 0.5,
        "mean_loss": 0.4123,
        "sites": told,
        "refused": [{"site": "site-1", "reason": "not finite"}],
        "late": ["site-2"],
        **more,
    }


def board(made, spent=SPENT, rounds=50):
    pace = Pace({ROUND: 50, PGD: 4})
    for times in (1, 11):
        pace.count(ROUND, 3.0, times)
    shown = Board(pace)
    shown.show("training dp-sgd (seed 0)", rounds)
    shown.after(made, spent)
    return shown


def drawn(shown, width, **how):
    console = Console(width=width, record=True, file=io.StringIO(), **how)
    console.print(shown)
    return console.export_text()


# the time that is left


def test_what_is_left_is_counts_times_medians():
    pace = Pace({ROUND: 10, OTHER: 10, PGD: 4})
    assert not pace.left().whole and str(pace.left()) == "time left not known yet"
    for seconds in (30.0, 2.0, 2.0, 2.0, 90.0):  # the first sets things up, and one slow round is no trend
        pace.count(ROUND, seconds)
    assert pace.left() == RemainingTime(5 * 2.0 / 2, whole=False)
    assert str(pace.left()) == "more than 5 s left"
    for seconds in (9.0, 7.0):
        pace.count(OTHER, seconds)
    for seconds in (150.0, 100.0):
        pace.count(PGD, seconds)
    assert pace.left() == RemainingTime(5 * 2.0 + 8 * 7.0 + 2 * 100.0, whole=True)
    assert str(pace.left()) == "about 4 min left"
    assert (pace.done, pace.total) == (9, 24)


def planted(durations):
    """The estimates of a run of ``durations``, a list for each kind, one kind after the other, beside what was left."""
    pace = Pace({kind: len(times) for kind, times in durations.items()})
    left = sum(map(sum, durations.values()))
    for kind, times in durations.items():
        for seconds in times:
            pace.count(kind, seconds)
            left -= seconds
            yield pace.left(), left


PLANTED = {
    "a slow start": {ROUND: [60.0, *[1.0] * 99], PGD: [5.0, *[2.0] * 9]},
    "a private arm is five times slower": {ROUND: [3.0, *[1.0] * 20], OTHER: [9.0, *[5.0] * 20], PGD: [4.0] * 8},
    "attacks are all there is": {PGD: [8.0, *[2.5, 1.5] * 20], Kind("attacks", "fgsm"): [0.1] * 41},
    "an attack far slower than the others": {PGD: [1.0] * 40, Kind("attacks", "transfer"): [30.0] * 20},
}


@pytest.mark.parametrize("durations", PLANTED.values(), ids=PLANTED)
def test_the_first_estimate_is_within_two_or_not_given(durations):
    estimates = [(one.seconds, left) for one, left in planted(durations) if one.whole and left > 0]
    assert estimates
    first, left = estimates[0]
    assert left / 2 <= first <= left * 2


@pytest.mark.parametrize("durations", PLANTED.values(), ids=PLANTED)
def test_a_lower_bound_is_one(durations):
    assert all(one.seconds <= left + 1e-9 for one, left in planted(durations) if not one.whole)


def test_the_first_piece_alone_is_no_estimate():
    """What a run on a busy machine once said after its first round was seven times too long."""
    pace = Pace({ROUND: 100})
    pace.count(ROUND, 60.0)
    assert str(pace.left()) == "time left not known yet"
    pace.count(ROUND, 1.0)
    assert str(pace.left()) == "about 98 s left"


def test_what_was_found_done_takes_no_time_and_says_nothing_of_it():
    pace = Pace({ROUND: 11, PGD: 1})
    pace.count(ROUND, None, 9)
    assert not pace.left().whole
    pace.count(ROUND, 1.0, 2)
    pace.count(PGD, None)
    assert pace.left() == RemainingTime(0.0, whole=True) and pace.done == pace.total


def test_only_recent_rounds_count():
    pace = Pace({ROUND: 1000})
    for i in range(100):
        pace.count(ROUND, 1.0 if i < 80 else 5.0)
    assert pace.left().seconds == 900 * 5.0


@pytest.mark.parametrize(
    ("seconds", "told"), [(9, "about 9 s left"), (150, "about 2 min left"), (7500, "about 2 h 05 min left")]
)
def test_spans(seconds, told):
    assert str(RemainingTime(seconds, whole=True)) == told


# a round in words


def test_a_round_in_words():
    made = report()
    assert round_line(made, 50) == "round 12 of 50, loss 0.412, accuracy 0.871 (worst site 0.500)"
    assert attendance(made) == "3 took part, 1 refused (site-1: not finite), 1 late (site-2)"
    states = {row.site: row.state for row in site_rows(report(absent=["site-3"], cohort=["site-0", "site-1"]))}
    assert states == {
        "site-0": "took part",
        "site-1": "refused: not finite",
        "site-2": "late",
        "site-3": "absent",
        "site-4": "not in the cohort; no figures: the site gives no consent",
    }


def test_many_are_counted_and_the_first_named():
    made = report(
        20, absent=[f"far-{i}" for i in range(100)], absent_count=4000, slow=["site-7"], aborted="2 of 5 updates"
    )
    assert attendance(made) == (
        "18 took part, 1 refused (site-1: not finite), 1 late (site-2), "
        "4000 absent (far-0, far-1, far-2, far-3, far-4, 3995 more), 1 slow (site-7), "
        "the round was aborted (2 of 5 updates)"
    )


def test_a_report_of_another_version_is_read_as_far_as_it_goes():
    assert round_line({"round": 1}, 2) == "round 1 of 2"
    assert attendance({"round": 1, "late": 3, "refused": None}) == "0 took part"
    drawn(board({"round": 1}), 80)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (913, "913 B"), (6768, "6.77 kB"), (999_999, "1 MB"), (2.5e9, "2.5 GB")]
)
def test_bytes(count, text):
    assert byte_text(count) == text


def test_figures():
    assert [figure(v) for v in (None, float("nan"), 0.12345, 12345.6)] == ["-", "-", "0.123", "1.23e+04"]


# the table


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("sites", [5, 12, 100])
def test_the_table_fits(width, sites):
    text = drawn(board(report(sites)), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width and len(lines) <= 24
    words = " ".join(text.split())
    for told in ("training dp-sgd (seed 0)", "round 12 of 50", "loss 0.412", "accuracy 0.871", "worst site 0.500",
                 "epsilon 2.32 of 8 (delta 1e-05, per example) at round 11", "1.23 MB up, 913 B down",
                 "12 of 54 rounds and attacks", "more than 57 s left", "refused", "late"):  # fmt: skip
        assert told in words, told
    assert ("records" in words) == (width >= 60)


def test_few_sites_stand_each_with_its_figures():
    lines = drawn(board(report()), 80).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("site-")}
    assert rows["site-0"] == ["site-0", "30", "0.500", "0.400", "took", "part"]
    assert rows["site-1"][:4] == ["site-1", "31", "0.648", "0.410"]
    assert rows["site-4"][:4] == ["site-4", "-", "-", "-"] and len(rows) == 5


def test_many_sites_are_the_worst_by_name_and_the_quantiles_of_all():
    made = report(100)
    text = drawn(board(made), 80)
    told = sorted((row["accuracy"], row["site"]) for row in made["sites"] if row["accuracy"] is not None)
    assert re.findall(r"^(site-\d+) ", text, re.MULTILINE) == [site for _, site in told[:5]]
    figures = [accuracy for accuracy, _ in told]
    for name, share in (("10 % below", 0.1), ("median", 0.5), ("10 % above", 0.9)):
        (shown,) = re.findall(rf"^{name} +- +(\S+)", text, re.MULTILINE)
        below = statistics.mean(value <= float(shown) + 5e-4 for value in figures)
        assert abs(below - share) < 0.02, (name, below)


def test_a_round_without_figures_keeps_the_last_ones():
    shown = board(report())
    empty = dict.fromkeys(("mean_accuracy", "worst_accuracy", "mean_loss"))
    shown.after({**report(round=13, late=[]), "sites": [], **empty}, None)
    text = drawn(shown, 80)
    assert "round 13 of 50\n" in text and "figures of sites after round 12:" in text
    assert re.search(r"site-2 +32 +0.796 +0.420 +took part", text)
    shown.show("pgd on dp-sgd (seed 0)")
    assert "site-2" not in drawn(shown, 80)


def test_what_a_site_calls_itself_is_no_markup():
    made = report()
    made["sites"][0]["site"] = "[red]ward[/red]"
    assert "[red]ward[/red]" in drawn(board(made), 80)


def test_without_colour_the_words_are_the_same(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)

    def seen():
        out = io.StringIO()
        Console(width=80, file=out, force_terminal=True, color_system="standard").print(board(report()))
        return out.getvalue()

    coloured = seen()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = seen()
    assert "\x1b[31m" in coloured and not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)
    words = [re.sub(r"\x1b\[[0-9;]*m|[━╸╺]+ *", "", text) for text in (coloured, plain)]
    assert words[0] == words[1]


# the ticker


def ticked(console=None, **how):
    with Ticker({ROUND: 2, PGD: 1}, console=console, **how) as ticker:
        lane = ticker.lane("train")
        lane.begin("training none (seed 0)", 2)
        lane.round(ROUND, report(round=1), None)
        lane.round(ROUND, report(round=2), None)
        lane.trained()
        ticker.end("train")
        lane = ticker.lane("evaluate")
        lane.begin("pgd on none (seed 0)")
        lane.did(PGD)


def test_elsewhere_plain_lines_on_standard_error(capsys):
    ticked()
    out, err = capsys.readouterr()
    assert out == "" and "\x1b" not in err
    lines = err.splitlines()
    assert lines[0] == "training none (seed 0), round 1: the update of site-1 was refused: not finite"
    assert lines[1].startswith("[1/3] training none (seed 0): round 1 of 2, loss 0.412, accuracy 0.871")
    assert "1 late (site-2); time left not known yet" in lines[1]
    assert lines[2].startswith("training none (seed 0): round 2 of 2, ")
    assert lines[3] == "[3/3] pgd on none (seed 0); about 0 s left" and len(lines) == 4


def test_quiet_is_quiet(capsys):
    ticked(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    ticked(Console(file=out, force_terminal=True, width=80))
    assert "\x1b[2K" not in out.getvalue() and "[1/3] training none" in out.getvalue()


def test_on_a_terminal_the_table_goes_and_what_was_said_stays(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    ticked(Console(file=out, force_terminal=True, width=80))
    shown = out.getvalue()
    assert "\x1b[2K" in shown and shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))
    assert shown.count("training none (seed 0): round 2 of 2") == 1 and "[1/3]" not in shown


# epsilon spent


def ledger(rate, sigma, count):
    return (Composed(PoissonSampled(rate, Gaussian(sigma)), count),)


def planned(charges, n=100, delta=1e-5):
    return [claim for site, ledger in charges.items() for claim in claims(site, ledger, n=n, delta=delta)]


def states(charges):
    return {site: SiteState(ledger=ledger) for site, ledger in charges.items()}


def test_spent_is_the_largest_of_honest_sites_and_planned_at_the_end():
    end = {"a": ledger(0.1, 1.1, 40), "b": ledger(0.2, 1.5, 40)}
    half = {"a": ledger(0.1, 1.1, 20), "b": ledger(0.2, 1.5, 20), "corrupted": ledger(0.9, 0.3, 20)}
    watched = Spending(planned(end))
    spent = watched.after(1, states(half), last=True)
    assert spent.epsilon == max(epsilon(half[site], 1e-5).epsilon for site in "ab")
    assert 0 < spent.epsilon < spent.planned and spent.exact
    spent = watched.after(2, states(end), last=True)
    assert spent.epsilon == spent.planned == max(epsilon(made, 1e-5).epsilon for made in end.values())
    assert (
        str(spent)
        == f"epsilon {round_up(spent.epsilon)} of {round_up(spent.epsilon)} (delta 1e-05, per example) at round 2"
    )


def test_without_a_claim_nothing_is_computed(monkeypatch):
    monkeypatch.setattr(spending_module, "epsilon", None)
    assert Spending(()).after(1, states({"a": ledger(0.1, 1.0, 1)}), last=True) is None


def test_a_label_is_charged_once():
    watched = Spending(planned({"a": (RandomisedResponse(1.5, 10),)}))
    spent = watched.after(3, {})
    assert (spent.epsilon, spent.unit, spent.round) == (1.5, "label", 3)
    assert str(spent) == "epsilon 1.5 of 1.5 (per label) at round 3"


def test_accounting_takes_at_most_a_twentieth_of_the_time(monkeypatch):
    clock, calls = [0.0], []

    def slow(charges, delta, adjacency):
        calls.append(clock[0])
        clock[0] += 2.0
        return epsilon(charges, delta, adjacency)

    monkeypatch.setattr(spending_module, "epsilon", slow)
    monkeypatch.setattr(spending_module.time, "monotonic", lambda: clock[0])
    watched = Spending(planned({"a": ledger(0.1, 1.0, 400)}))
    for number in range(1, 401):
        clock[0] += 1.0
        spent = watched.after(number, states({"a": ledger(0.1, 1.0, number)}))
        assert spent is None or number - spent.round <= 42
    assert calls[0] == 5.0 and 2.0 * len(calls) <= 0.05 * clock[0] + 2.0 and len(calls) >= 9


def test_of_many_ledgers_the_dearest_are_composed(monkeypatch):
    charges = {f"site-{i}": ledger(0.01 + 0.001 * i, 1.0 + 0.02 * i, 30) for i in range(30)}
    composed = []
    monkeypatch.setattr(spending_module, "epsilon", lambda c, *how: composed.append(c) or epsilon(c, *how))
    monkeypatch.setattr(spending_module, "_EVERY", -1.0)
    watched = Spending(planned(charges))
    spent = watched.after(1, states(charges))
    assert len(composed) == 4 and not spent.exact and "about" in str(spent)
    assert spent.epsilon == pytest.approx(max(epsilon(made, 1e-5).epsilon for made in charges.values()), rel=1e-3)
    assert watched.after(2, states(charges), last=True).exact and len(composed) == 34


# a whole run


def test_a_run_tells_what_its_evidence_says(tables, tmp_path, capsys):
    del tables["vary"]["robustness"], tables["vary"]["compression"]
    tables |= {"attacks": tables["attacks"][:1], "corruptions": []}
    results = Study.of(tables).run(tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    found = [json.loads(path.read_text()) for path in (results.folder / "cells").glob("*/evidence.json")]
    (private,) = [e["privacy"]["epsilon"] for e in found if e["privacy"]["epsilon"]]
    said = round_up(private)
    assert re.search(rf"training dp-sgd \(seed 0\): round 3 of 3, .*epsilon {said} of {said} ", err)
    assert re.search(r"training none \(seed 0\): round 3 of 3, (?!.*epsilon)", err)
    Study.of(tables).run(tmp_path)
    assert capsys.readouterr() == ("", "")
