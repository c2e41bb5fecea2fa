"""Rounds and bytes to an accuracy, from a planted log."""

from __future__ import annotations

from consilium.measure.convergence import to_accuracy


def line(number, accuracy, up=10, down=20):
    sites = [{"site": "a", "n": 30, "accuracy": accuracy}, {"site": "b", "n": 4, "accuracy": None}]
    return {"round": number, "bytes_up": up, "bytes_down": down, "mean_accuracy": accuracy, "sites": sites}


LOG = [line(1, 0.2), line(2, None, up=5), line(3, 0.71), line(4, 0.6), line(5, 0.9)]


def test_the_first_round_that_reaches_it_counts() -> None:
    rounds, sent = to_accuracy(0.7, LOG)
    assert (rounds.value, rounds.n) == (3, 30)
    assert sent.value == 30 + 25 + 30


def test_another_target_is_reached_in_another_round() -> None:
    assert to_accuracy(0.8, LOG)[0].value == 5
    assert to_accuracy(0.1, LOG)[1].value == 30


def test_what_was_not_reached_has_a_reason_and_no_figure() -> None:
    rounds, sent = to_accuracy(0.95, LOG)
    assert rounds.value is None
    assert sent.reason == "0.95 was not reached in 5 rounds (best 0.900)"
