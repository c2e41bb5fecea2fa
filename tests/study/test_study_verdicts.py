"""Every card and every effect of a real study, computed again from its folder by other code than the report's.

What is shared with the report is what the page says: the words of a card and the marks of an effect.
"""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import stats

from consilium import Study
from consilium.report.analyse import compare
from consilium.report.analyse.columns import columns
from consilium.report.analyse.effects import effects, unpaired
from consilium.report.analyse.highlights import UNDETERMINED, highlights
from consilium.report.analyse.outcomes import LOST_SCORES
from consilium.report.analyse.summary import rows
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page

HIGH = {"accuracy": True, "balanced_accuracy": True, "worst_case": True, "robust": True, "mia_advantage": False}


class Cell:
    """One cell as it lies in the folder."""

    def __init__(self, path):
        self.evidence = json.loads(path.read_text())
        about = self.evidence["cell"]
        self.arm, self.seed, self.by, self.choices = (about[k] for k in ("arm", "seed", "infected_by", "choices"))
        self.files = {p.stem: load_file(p) for p in path.parent.glob("*.safetensors")}
        self.cost = {m["name"]: m for m in self.evidence["cost"]}
        self.claims = self.evidence["privacy"]["epsilon"]

    def sums(self, key):
        """{record: (value, unit)} in parts, and what the mean of each part counts."""
        held = self.files["scores"]
        if key == "mia_advantage":
            return self._told(self.files["loss-threshold"])
        right = held["correct"]
        if key in ("worst_case", "robust"):
            names = [n for n, f in self.evidence["findings"].items() if f["threat"]["aim"] == "evasion"]
            right = np.all([self.files[name]["correct"] for name in names], axis=0)
        parts = (
            [held["label"] == c for c in np.unique(held["label"])] if key == "balanced_accuracy" else [right == right]
        )
        rows = [(int(i), float(r), int(u)) for i, r, u in zip(held["id"], right, held["unit"], strict=True)]
        return [
            ({i: (r, u) for (i, r, u), inside in zip(rows, part, strict=True) if inside}, 1 / len(parts))
            for part in parts
        ]

    def _told(self, held):
        score, member, known = held["score"].astype(float), held["member"].astype(bool), held["known"].astype(bool)
        cuts = [math.inf, *sorted(set(score[known].tolist()))]
        gain = {c: (score[known & member] >= c).mean() - (score[known & ~member] >= c).mean() for c in cuts}
        best = max(cuts, key=lambda c: (gain[c] > 1e-12 and round(gain[c], 12), c))
        lower = [c for c in score[known] if c < best]
        cut = best if best == math.inf or not lower else (best + max(lower)) / 2
        made = []
        for inside, sign in ((member, 1.0), (~member, -1.0)):
            places = np.flatnonzero(inside & ~known)
            made.append(
                ({int(held["id"][k]): (sign * float(score[k] >= cut), int(held["unit"][k])) for k in places}, 1.0)
            )
        return made


def figure(cell, key):
    return sum(weight * np.mean([v for v, _ in part.values()]) for part, weight in cell.sums(key))


def interval(groups, key, confidence):
    """As :func:`plain_interval`, but of leakage above chance: below 0 counts as 0."""
    mean, low, high = plain_interval(groups, key, confidence)
    if key != "mia_advantage":
        return mean, low, high
    after, before = (
        plain_interval([[(1, cell) for s, cell in group if s == sign] for group in groups], key, confidence)[1:]
        for sign in (1, -1)
    )
    mean = np.mean([sum(sign * max(0.0, figure(cell, key)) for sign, cell in group) for group in groups])
    low = min(low, max(0.0, after[0])) if low > 0 else max(low, -max(0.0, before[1]))
    high = max(high, -max(0.0, before[0])) if high < 0 else min(high, max(0.0, after[1]))
    return mean, low, high


def plain_interval(groups, key, confidence):
    """Mean and limits over groups of (sign, cell): the influence of every unit, one after the other."""
    estimates, centres, influence = [], [], {}
    strata = 1
    for group in groups:
        each = [(sign, cell.sums(key)) for sign, cell in group]
        strata, span, centre, estimate = len(each[0][1]), max(1.0, len(group) / 2), 0.0, 0.0
        for s, (first, weight) in enumerate(each[0][1]):
            change = {i: sum(sign * parts[s][0][i][0] for sign, parts in each) for i in first}
            assert all(parts[s][0].keys() == first.keys() for _, parts in each)
            units = {i: unit for i, (_, unit) in first.items()}
            size = len(units) / len(set(units.values())) / math.sqrt(strata)
            total = len(change) + 2 * size
            mean = sum(change.values()) / total
            for i, d in change.items():
                influence[units[i]] = influence.get(units[i], 0.0) + weight * (d - mean) / total / len(groups)
            for sign in (1, -1):
                added = weight * size * (sign * span - mean) / total / len(groups)
                influence[s, sign] = influence.get((s, sign), 0.0) + added
            centre, estimate = centre + weight * mean, estimate + weight * np.mean(list(change.values()))
        centres.append(centre)
        estimates.append((group[0][1].seed, estimate))
    n, level = len(influence), (1 + confidence) / 2
    half = stats.t.ppf(level, n - strata) * math.sqrt(n / (n - 1) * sum(z * z for z in influence.values()))
    seeds = sorted({seed for seed, _ in estimates})
    if len(seeds) > 1:
        means = [np.mean([e for s, e in estimates if s == seed]) for seed in seeds]
        half = math.hypot(half, stats.t.ppf(level, len(seeds) - 1) * np.std(means, ddof=1) / math.sqrt(len(seeds)))
    return np.mean([e for _, e in estimates]), np.mean(centres) - half, np.mean(centres) + half


class Folder:
    """A study's folder, and what follows from it."""

    def __init__(self, folder):
        self.cells = [Cell(path) for path in sorted(folder.glob("cells/*/evidence.json"))]
        self.top = json.loads((folder / "study.json").read_text())
        self.order = [arm["name"] for arm in self.top["arms"]]

    def of(self, arm, by="none"):
        return sorted((c for c in self.cells if (c.arm, c.by) == (arm, by)), key=lambda c: c.seed)

    def against(self, after, before):
        return [((1, a), (-1, b)) for a, b in zip(after, before, strict=True)]

    def best(self, key, arms):
        """The arm with the best figure, and those that cannot be told from it."""
        sign = 1 if HIGH[key] else -1
        means = {arm: np.mean([figure(c, key) for c in self.of(arm)]) for arm in arms}
        if key == "mia_advantage":
            means = {arm: max(0.0, mean) for arm, mean in means.items()}
        ranked = sorted(arms, key=lambda arm: -sign * means[arm])
        first, rivals = ranked[0], ranked[1:]
        alike = []
        for rival in rivals:
            _, low, high = interval(self.against(self.of(first), self.of(rival)), key, 1 - 0.05 / len(rivals))
            if not (low > 0 if HIGH[key] else high < 0):
                alike.append(rival)
        return first, {first, *alike} if alike else set()

    def harm(self):
        change = {
            (arm, by): self.against(self.of(arm, by), self.of(arm)) for arm in self.order for by in self.infections()
        }
        drop = {
            k: np.mean([figure(a, "accuracy") - figure(b, "accuracy") for (_, a), (_, b) in g])
            for k, g in change.items()
        }
        worst = min(drop, key=drop.get)
        sure = [interval(g, "accuracy", 1 - 0.05 / len(change))[2] < 0 for g in change.values()]
        if not any(sure):
            return "no measurable harm", set()
        alike = []
        rivals = [k for k in change if k != worst]
        for rival in rivals:
            groups = [(*a, *((-s, c) for s, c in b)) for a, b in zip(change[worst], change[rival], strict=True)]
            if interval(groups, "accuracy", 1 - 0.05 / len(rivals))[2] >= 0:
                alike.append(rival[0])
        return ("no arm is measurably hurt most", {worst[0], *alike}) if alike else (None, set())

    def infections(self):
        return sorted({c.by for c in self.cells} - {"none"})

    def pairs(self, axis, label):
        if axis == "infected":
            return [((1, c), (-1, *self._same(c, by="none"))) for c in self.cells if c.by == label]
        first = self.top["axes"][axis][0]
        chosen = [c for c in self.cells if c.by == "none" and c.choices[axis] == label]
        return [((1, c), (-1, *self._same(c, choices={**c.choices, axis: first}))) for c in chosen]

    def _same(self, cell, by=None, choices=None):
        return [c for c in self.cells
                if (c.seed, c.by, c.choices) == (cell.seed, by or cell.by, choices or cell.choices)]  # fmt: skip


def way(mean, low, high, steps, better):
    if mean == 0 and set(steps) == {0}:
        return "equal"
    if min(steps) < 0 < max(steps):
        return "mixed"
    if low <= 0 <= high:
        return "open"
    if min(steps) <= 0 <= max(steps):
        return "mixed"
    return "gain" if (low > 0) == better else "loss"


def check_effects(folder):
    mine, study = Folder(folder), read_study(folder)
    shown, seen = {c.key: c for c in columns(study)}, set()
    for effect in effects(study):
        groups = mine.pairs(effect.axis, effect.label)
        for key, change in effect.changes.items():
            name = "robust" if key.startswith("robust_accuracy") else key
            if change is None or (name not in HIGH and name != "bytes"):
                continue
            if any(c.evidence["collapsed"] for g in groups for _, c in g) and name in ("worst_case", "robust"):
                continue  # the report leaves those pairs out
            if key == "bytes":
                steps = [a.cost[key]["value"] / b.cost[key]["value"] - 1 for (_, a), (_, b) in groups]
                expected = (np.mean(steps), min(steps), max(steps))
            else:
                least = 0.0 if name == "mia_advantage" else -math.inf
                steps = [max(least, figure(a, name)) - max(least, figure(b, name)) for (_, a), (_, b) in groups]
                mean, low, high = interval(groups, name, 0.95)
                expected = (mean, min(low, mean), max(high, mean)) if name == "mia_advantage" else (mean, low, high)
            assert (change.mean, change.gap.low, change.gap.high) == pytest.approx(expected, abs=1e-9), (effect, key)
            steps = [0.0 if abs(step) < 1e-12 else step for step in steps]
            found = change.way(shown[key])
            assert found == way(change.mean, *expected[1:], steps, HIGH.get(name, False)), (effect.label, key)
            assert change.pairs == len(groups)
            seen.add((key, found))
    return seen


def check_cards(folder):
    mine, study = Folder(folder), read_study(folder)
    made = {card.title: card for card in highlights(study, rows(study))}
    fit = [arm for arm in mine.order if not any(c.evidence["collapsed"] for c in mine.of(arm))]
    claimed = [arm for arm in fit if mine.of(arm)[0].claims is not None]
    wanted = {"Most accurate": ("accuracy", fit), "Most accurate with an ε": ("accuracy", claimed)}
    wanted |= {"Withstands most": ("worst_case", fit), "Leaks least": ("mia_advantage", fit)}
    for title, (key, arms) in ((title, by) for title, by in wanted.items() if by[1]):
        first, alike = mine.best(key, arms)
        card = made[title]
        assert card.arm == first and {name for _, name in card.alike} == alike, title
        assert (card.figure == "no arm is measurably best") == bool(alike) == (not card.crowned), title
        value = np.mean([figure(c, key) for c in mine.of(first)])
        assert alike or float(card.figure.removeprefix("≤ ").replace("−", "-")) == pytest.approx(value, abs=6e-4), title
    said, alike = mine.harm()
    hurt = made["Infection hurts most"]
    assert {name for _, name in hurt.alike} == alike and (said is None or hurt.figure == said)
    size = {arm: [c.cost["bytes"]["value"] for c in mine.of(arm)] for arm in mine.order}
    least = min(size, key=lambda arm: np.mean(size[arm]))
    same = {arm for arm in size if any(a >= b for a, b in zip(size[least], size[arm], strict=True))}
    assert made["Smallest"].arm in same and {name for _, name in made["Smallest"].alike} == (
        same if len(same) > 1 else set()
    )
    return made


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two arms, three seeds, clean and infected; long enough for some difference to be beyond chance."""
    study = {
        "name": "seeds", "seeds": [0, 1, 2], "data": {"kind": "digits", "sites": 3},
        "model": {"kind": "mlp", "hidden": 8},
        "federation": {"kind": "fed-avg", "rounds": 2, "local-epochs": 2, "lr": 0.3},
        "vary": {"robustness": [{"kind": "adversarial-training", "radius": 0.2, "steps": 1}]},
        "attacks": [{"kind": "fgsm", "radius": 0.1}, {"kind": "pgd", "radius": 0.1, "steps": 3}, "loss-threshold"],
        "corruptions": [{"kind": "label-flip", "sites": 1}], "options": {"threads": 1},
    }  # fmt: skip
    return Study(**study).run(tmp_path_factory.mktemp("verdicts"), quiet=True).folder


def test_every_card_of_a_real_study_follows_from_its_scores(tiny, seeds):
    assert not check_cards(tiny.folder)["Leaks least"].crowned
    check_cards(seeds)


def test_every_effect_of_a_real_study_follows_from_its_scores(tiny, seeds):
    seen = check_effects(tiny.folder) | check_effects(seeds)
    assert {found for _, found in seen} >= {"gain", "loss", "open"}
    assert {key for key, _ in seen} == {"accuracy", "balanced_accuracy", "worst_case", "mia_advantage", "bytes"}
    assert {found for key, found in seen if key == "mia_advantage"} <= {
        "open",
        "mixed",
    }  # two rounds fit nobody by heart


@pytest.mark.parametrize("fault", ["unpaired", "by the figure alone", "seeds left out"])
def test_the_checks_can_fail(seeds, tiny, monkeypatch, fault):
    """The same folders under a report that does not pair, crowns by figures, or takes seeds for more records."""
    true = compare.paired

    def wrong(pairs, confidence):
        mean, low, high = true(pairs, confidence)
        if fault == "unpaired":
            return mean, low - 0.02, high + 0.02
        if fault == "by the figure alone":
            return mean, mean, mean
        return true([replace(pair, seed=0) for pair in pairs], confidence)

    monkeypatch.setattr(compare, "paired", wrong)
    with pytest.raises(AssertionError):
        check_effects(seeds)
    if fault == "by the figure alone":
        with pytest.raises(AssertionError):
            check_cards(tiny.folder)


def changed_answers(path):
    answers = load_file(path)
    answers["correct"] = ~answers["correct"]
    save_file(answers, path)


@pytest.mark.parametrize("damage", [changed_answers, lambda path: path.unlink()], ids=["changed", "gone"])
def test_a_tampered_answer_is_noticed(seeds, tmp_path, damage):
    """Answers changed after the figure was made, or gone: nothing is compared, and that is no absence of harm."""
    folder = shutil.copytree(seeds, tmp_path / "seeds")
    before = {card.title: card for card in highlights(read_study(folder), rows(read_study(folder)))}
    for path in folder.glob("cells/*/scores.safetensors"):
        damage(path)
    study = read_study(folder)
    assert len(study.altered) == len(study.evidence)
    assert all("scores.safetensors was changed or is gone" in line for line in study.altered)
    assert {e.changes["accuracy"].gap.reason for e in effects(study)} == {LOST_SCORES}
    made = {card.title: card for card in highlights(study, rows(study))}
    for title in ("Most accurate", "Withstands most", "Infection hurts most"):
        card = made.get(title)
        if card is not None and before[title].text != card.text:
            assert card.figure == UNDETERMINED and "are gone or changed" in card.text, card
    harm = f"the scores of {len(study.evidence)} cells are gone or changed"
    assert made["Infection hurts most"].figure == UNDETERMINED and harm in made["Infection hurts most"].text
    ways = {effect.changes["accuracy"].way(column) for effect in effects(study) for column in columns(study)[:1]}
    assert ways == {"unknown"} and "undetermined: the scores" in write_page(folder).read_text()
    assert made["Most accurate"].figure == UNDETERMINED


def test_an_infected_model_without_evidence_is_no_model_without_harm(seeds, tmp_path):
    folder = shutil.copytree(seeds, tmp_path / "seeds")
    infected = [cell for cell in read_study(folder).evidence if cell.infected_by != "none"]
    for cell in infected[1:]:
        shutil.rmtree(folder / "cells" / cell.digest)
    study = read_study(folder)
    card = {card.title: card for card in highlights(study, rows(study))}["Infection hurts most"]
    assert f"{len(infected) - 1} infected model" in card.text and card.figure != "no measurable harm"
    shutil.rmtree(folder / "cells" / infected[0].digest)
    study = read_study(folder)
    card = {card.title: card for card in highlights(study, rows(study))}["Infection hurts most"]
    assert card.figure == UNDETERMINED and f"{len(infected)} infected models" in card.text
    assert unpaired(study) == ((infected[0].infected_by, len(infected)),)
    assert "the effect of the corruption on them is undetermined" in write_page(folder).read_text()
