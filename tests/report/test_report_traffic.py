"""Accuracy against bytes: hand-computed ends, one line per training, and no figure where all send the same."""

import json
import statistics

import pytest
from scipy import stats

from consilium.report.analyse.communication import traffic
from consilium.report.analyse.summary import rows
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page

HEADING = "Accuracy for bytes sent"


def rewrite(folder, training, change):
    """Every round of one training, changed in place."""
    path = folder / "trainings" / training / "rounds.jsonl"
    lines = [line for line in map(_parsed, path.read_text().splitlines()) if line]
    path.write_text("".join(json.dumps(change(line)) + "\n" for line in lines))
    return lines


def _parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


@pytest.fixture
def cheap(write_study, tmp_path):
    """A study in which the trainings under dp-sgd sent a tenth of the bytes, in two seeds."""
    folder = write_study(tmp_path, trouble=False)
    for home in (folder / "trainings").glob("td*"):
        rewrite(folder, home.name, lambda line: {**line, "bytes_up": 9800})
    return folder


def lines(folder):
    study = read_study(folder)
    return traffic(study, rows(study))


def test_one_line_per_training_and_its_end_by_hand(cheap):
    found = lines(cheap)
    assert len(found) == 4  # privacy by robustness; compression comes after training, so its arms share a line
    assert [line.sent for line in found] == [19_600, 19_600, 196_000, 196_000]  # 10 rounds over 5 sites
    (plain,) = (line for line in found if "none" in line.arms)
    assert plain.arms == ("none", "static-int8") and plain.code.endswith("+1")
    last = [
        [_parsed(x) for x in (cheap / "trainings" / f"tnn{seed}n" / "rounds.jsonl").read_text().splitlines()][9]
        for seed in (0, 1)
    ]
    values = [line["mean_accuracy"] for line in last]
    mean, spread = statistics.mean(values), statistics.stdev(values) / 2**0.5
    assert plain.accuracy == pytest.approx(mean) and plain.seeds == 2
    if spread:
        assert plain.high == pytest.approx(min(1.0, mean + stats.t.ppf(0.975, 1) * spread))
    assert plain.points[0][0] == 19_600 and len(plain.points) == 10 and plain.points[-1] == (plain.sent, plain.accuracy)


def test_seeds_that_differ_give_an_interval(cheap):
    rewrite(cheap, "tnn1n", lambda line: {**line, "mean_accuracy": line["mean_accuracy"] - 0.01})
    (plain,) = (line for line in lines(cheap) if "none" in line.arms)
    half = stats.t.ppf(0.975, 1) * 0.005
    assert plain.high - plain.accuracy == pytest.approx(half) and plain.accuracy - plain.low == pytest.approx(half)


def test_where_all_send_the_same_there_is_no_figure(study, folder, cheap):
    assert traffic(study, rows(study)) == ()
    assert HEADING not in write_page(folder).read_text()
    text = write_page(cheap).read_text()
    assert HEADING in text and text.count('data-figure="traffic"') == 1
    assert "19.6 kB" in text and "10.0 %" in text


def test_rounds_that_nobody_judged_count_their_bytes(cheap):
    rewrite(cheap, "tnn0n", lambda line: line if line["round"] > 8 else {**line, "mean_accuracy": None})
    (plain,) = (line for line in lines(cheap) if "none" in line.arms)
    assert [point[0] for point in plain.points] == [9 * 19_600, 10 * 19_600]


def test_a_training_that_was_cut_off_is_no_cheap_one(cheap):
    path = cheap / "trainings" / "tdn0n" / "rounds.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + "\n")
    assert all("dp-sgd" not in line.arms for line in lines(cheap))
