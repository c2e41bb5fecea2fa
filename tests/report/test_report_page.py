"""The page as text: self-contained, escaped, honest about what it leaves out, and equal to the table."""

import base64
import csv
import hashlib
import json
import re
import shutil
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from safetensors.torch import save_file

from consilium.core.finding import Measure
from consilium.report.analyse.columns import columns
from consilium.report.analyse.matrix_columns import main_columns, other_columns
from consilium.report.analyse.summary import rows
from consilium.report.load.numbers import number
from consilium.report.load.read import read_study
from consilium.report.render.figures import histogram
from consilium.report.render.heatmap import heat_groups
from consilium.report.render.page import write_page
from consilium.report.render.table import write_csv

LIBRARY = re.compile(r'<script type="text/plain" id="plotly-source">.*?</script>', re.S)


def page_of(folder, share=None):
    """The page without its plotting library."""
    text = write_page(folder, share).read_text(encoding="utf-8")
    assert LIBRARY.search(text)
    return LIBRARY.sub("", text)


@pytest.fixture(scope="module")
def copy(folder, tmp_path_factory):
    return shutil.copytree(folder, tmp_path_factory.mktemp("pages") / "study")


@pytest.fixture(scope="module")
def page(copy):
    return page_of(copy)


def drawn(page):
    return json.loads(re.search(r'<script type="application/json" id="drawn">(.*?)</script>', page, re.S)[1])


class Addresses(HTMLParser):
    """Every address that some tag would load, and every handler."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.handlers = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        loading = ("src", "href", "srcset", "action", "poster", "data", "background", "ping")
        self.loads += [value for name, value in attrs if name in loading and not value.startswith("#")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_nothing_is_loaded_from_anywhere(page):
    found = Addresses(page)
    assert {address.split(",")[0].split(";")[0] for address in found.loads} <= {"data:image/png", "data:"}
    assert found.handlers == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page and "connect-src" not in page


def test_a_planted_load_is_found():
    found = Addresses('<a href="#matrix"><img src="https://example.org/x.png" onload=alert(1)>')
    assert (found.loads, found.handlers) == (["https://example.org/x.png"], ["onload"])


def test_the_library_is_packed_and_the_policy_knows_what_comes_out(copy):
    text = write_page(copy).read_text(encoding="utf-8")
    packed = re.search(r'<script type="text/plain" id="plotly-source">(.*?)</script>', text, re.S)[1]
    source = zlib.decompress(base64.b64decode(packed))
    assert base64.b64encode(hashlib.sha256(source).digest()).decode() in text and len(packed) < len(source) / 2


def test_the_answer_comes_first_then_the_effects_then_the_claims(page):
    places = [page.index(text) for text in ('<section id="answer">', '<section id="effects">', 'id="statement"')]
    assert places == sorted(places) and places[-1] < page.index('<section id="matrix">')
    said = re.search(r'<dl class="answer">(.*?)</dl>', page, re.S)[1]
    folded = re.search(r'id="more-findings">(.*?)</details>', page, re.S)[1]
    assert "points of accuracy" in said and "failed or are missing" in folded


def test_the_matrix_keeps_what_fits_and_the_rest_stands_below(study, page):
    every = rows(study)
    main, others = main_columns(study, every), other_columns(study, every)
    assert [c.key for c in main] == [
        "accuracy", "epsilon", "worst_case", "mia_advantage", "bytes", "latency_ratio", "bytes_up_per_round_site",
    ]  # fmt: skip
    assert {c.key for c in main} | {c.key for c in others} == {c.key for c in columns(study)}
    tables = re.findall(r'<table id="(?:matrix|more)-table".*?</table>', page, re.S)
    for column in columns(study):
        assert [f'<td data-column="{column.key}"' in table for table in tables] == [column in main, column in others]


def test_a_figure_that_differs_from_accuracy_stays_in_the_matrix(study):
    cells = [
        replace(c, utility=tuple(replace(m, value=0.5) if m.name == "balanced_accuracy" else m for m in c.utility))
        for c in study.evidence
    ]
    apart = replace(study, evidence=tuple(cells))
    assert "balanced_accuracy" in [c.key for c in main_columns(apart, rows(apart))]


def test_distances_are_not_cut_at_one(study):
    """An HD95 of 5 px with an interval of 3 to 8 was once shown as 3 to 1."""
    cells = [replace(c, utility=(*c.utility, Measure("hd95", 5.0, 3.0, 8.0, None, 40, "px"))) for c in study.evidence]
    one = replace(study, seeds=(0,), evidence=tuple(c for c in cells if c.seed == 0))
    assert (rows(one)[0].figures["hd95"].low, rows(one)[0].figures["hd95"].high) == (3.0, 8.0)


def test_under_attack_only_paired_differences_are_coloured(one_seed):
    """Beyond the paired interval from the first arm: that arm has no colour, and nor has a copy of it."""
    evasion = heat_groups(one_seed, rows(one_seed))[0]
    assert {cell.tile.background for cell in evasion.cells[0]} == {""}
    tiles = [cell.tile for line in evasion.cells for cell in line]
    assert any(tile.background for tile in tiles)
    assert all(not tile.background for tile in tiles if "not measurable: no colour" in tile.title)
    assert all("Against A: " in tile.title for tile in tiles if tile.background)
    first = one_seed.arm_cells("none", "none")[0]
    cells = [replace(c, attacks=first.attacks) if c.arm == "adversarial-training" else c for c in one_seed.evidence]
    alike = replace(one_seed, evidence=tuple(cells))
    line = next(i for i, row in enumerate(rows(alike)) if row.arm.name == "adversarial-training")
    assert {cell.tile.background for cell in heat_groups(alike, rows(alike))[0].cells[line]} == {""}


def test_text_of_a_study_cannot_run(page, injected):
    assert injected not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert" in page
    scripts = re.findall(r"<script(?![^>]*(?:application/json|text/plain))[^>]*>", page)
    assert scripts == ["<script>"]  # ours alone, and the policy lists its hash
    assert len(re.findall(r"'sha256-[^']+'", page)) == 2 and "unsafe-inline'; img-src data:" in page
    assert "script-src 'sha256-" in page


def test_an_arm_named_like_markup_is_inert(folder, tmp_path):
    evil = shutil.copytree(folder, tmp_path / "study")
    text = (evil / "study.json").read_text().replace('"name": "none"', '"name": "</script><b onclick=x>"')
    (evil / "study.json").write_text(text.replace('"arm": "none"', '"arm": "</script><b onclick=x>"'))
    page = page_of(evil)
    assert "<b onclick" not in page and "&lt;/script&gt;&lt;b onclick=x&gt;" in page


def test_page_and_table_agree(copy, page):
    with write_csv(copy).open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    for row in rows(read_study(copy)):
        mine = [r for r in table if (r["arm"], r["infected_by"]) == (row.arm.name, row.infected_by)]
        for key in ("accuracy", "mia_auc", "bytes"):
            values = [float(r[key]) for r in mine if r[key]]
            if values:
                assert row.figures[key].value == pytest.approx(sum(values) / len(values))
                assert f'data-column="{key}" data-value="{row.figures[key].value}"' in page


def test_every_section_stands(page):
    for name in ("matrix", "heat", "effects", "trade", "data", "models", "trouble", "reproduce", "glossary"):
        assert f'<section id="{name}">' in page
    assert page.count("<template id=") == 32
    assert "LAWS 10" in page and "pruning is fitted on test data" in page and "set fit-on" in page
    assert "consilium run studies/quickstart.toml --out OUT" in page and "torch 2.13.0" in page


def test_no_promise_without_its_statement(page):
    """The word stands once, where a reader is told not to use it."""
    text = re.sub(r"<style>.*?</style>|<script.*?</script>|<[^>]+>", " ", page, flags=re.S)
    text = text.replace("Do not release these models as private: their noise can be recomputed from the seed.", "", 1)
    assert not re.search(r"\b(private|secure)", text, re.I)


def test_claims_chance_and_bounds_are_written(page):
    assert page.count("-differential privacy of one example, add-or-remove-one") >= 5 * 15
    assert "No-skill level" in page and "Always answering the commonest class scores 0.105" in page
    assert "loose bound" in page and "data-unranked" in page and ">collapsed<" in page


def test_every_figure_under_attack_is_at_most(page):
    """What withstood these attacks may fall to a stronger one (LAWS 26): no bare robust accuracy stands anywhere."""
    evasion = re.findall(
        r'data-column="(?:robust_accuracy:[^"]*|worst_case)".*?<span class="v[^"]*">(.*?)</span>', page, re.S
    )
    assert len(evasion) > 30 and all(text.startswith("≤ ") or text == "–" for text in evasion)
    others = re.findall(r'data-column="accuracy".*?<span class="v[^"]*">(.*?)</span>', page, re.S)
    assert others and not any("≤" in text for text in others)
    heat = re.findall(
        r"<td class=\"tile[^>]*? data-tip=\"[^\"]*, (?:fgsm|pgd|transfer): [^\"]*\"[^>]*>(.*?)</td>", page
    )
    assert heat and all(text.startswith("≤ ") or text == "–" for text in heat)
    card = re.search(r'<h3>Withstands most</h3><p class="figure">(.*?)<', page)
    assert card is None or card[1].startswith(("≤ ", "no arm"))


def test_the_plot_has_a_point_per_arm_that_was_judged(page):
    points = drawn(page)["pareto"]["points"]
    assert len([p for p in points if p["infected_by"] == "none"]) == 8
    assert len(drawn(page)["curves"]) == 16 and len(drawn(page)["histograms"]) == 30


def test_sharing_leaves_out_images_and_scores(copy, page):
    shared = page_of(copy, share=True)
    assert "data:image" in page and "data:image" not in shared
    assert drawn(page)["histograms"] and not drawn(shared)["histograms"]
    assert "answered" not in shared.split('<template id="')[1] and "left out of this page" in shared


def test_sharing_is_the_default_unless_the_data_are_bundled(write_study, tmp_path):
    own = write_study(tmp_path, seeds=(0,), bundled=False, trouble=False)
    assert "data:image" not in page_of(own)
    kept = page_of(own, share=False)
    assert "data:image" in kept and "do not pass it on" in kept


def test_a_study_without_any_evidence_still_has_a_page(tmp_path):
    (tmp_path / "study.json").write_text('{"schema": 1, "name": "bare"}')
    assert "<h1>bare</h1>" in page_of(tmp_path)
    assert write_csv(tmp_path).read_text().startswith("arm,seed,")


def test_one_seed_says_so(one_seed):
    assert "One seed: intervals are the measures' own" in page_of(one_seed.folder).replace("&#39;", "'")


def test_an_effect_inside_its_interval_is_not_coloured(one_seed):
    """Coloured is what lies beyond the interval, with all pairs on one side; the rest says why not."""
    text = page_of(one_seed.folder)
    tiles = re.findall(r'data-tip="([^"]*? pairs[^"]*)"><span class="v (\w+)">.*?</span><span class="i">([^<]*)<', text)
    seen = set()
    for tip, way, limits in tiles:
        low, high = (float(end.replace("−", "-").replace(" %", "")) for end in limits.split(" … "))
        pairs = [float(x.replace("−", "-").replace(" %", "")) for x in tip.rpartition("single pairs ")[2].split(" … ")]
        if way in ("gain", "loss"):
            assert (low >= 0 or high <= 0) and not pairs[0] < 0 < pairs[1]  # limits are rounded
        if way == "open":
            assert low <= 0 <= high and "not measurable" in tip
        if way == "mixed":
            assert pairs[0] <= 0 <= pairs[1]
            assert "pairs are on both sides of 0" in tip or (0 in pairs and "at least one is 0" in tip)
        seen.add(way)
    assert seen >= {"gain", "loss", "open"}


def test_leakage_inside_its_interval_of_chance_has_no_colour(one_seed, study):
    for held in (one_seed, study):
        (group,) = [group for group in heat_groups(held, rows(held)) if group.aim == "membership"]
        made = [cell for line in group.cells for cell in line if cell.figure.value is not None]
        for cell in made:
            told = cell.figure.low is not None and cell.figure.low > 0
            assert bool(cell.tile.background) == told
            assert told or "Not beyond its interval of chance" in cell.tile.title
    assert {bool(cell.tile.background) for line in heat_groups(one_seed, rows(one_seed))[1].cells for cell in line} == {
        True,
        False,
    }


def test_the_page_says_why_an_infected_arm_with_noise_may_answer_better(page, one_seed, tmp_path):
    said = "A corrupted site obeys no site half of a defence: it does not clip and adds no noise"
    assert said in page and "claimed for the honest sites alone" in page
    plain = shutil.copytree(one_seed.folder, tmp_path / "study")
    for path in plain.glob("cells/*/evidence.json"):
        evidence = json.loads(path.read_text())
        path.write_text(json.dumps({**evidence, "privacy": {**evidence["privacy"], "claims": [], "epsilon": None}}))
    assert said not in page_of(plain)


def test_the_heat_map_writes_its_numbers(study):
    evasion, membership = heat_groups(study, rows(study))
    first = rows(study)[0]
    assert evasion.attacks == ("fgsm", "pgd", "transfer") and membership.attacks == ("loss-threshold",)
    assert evasion.cells[0][0].tile.text == "≤ " + number(first.figures["robust_accuracy:fgsm"].value)
    collapsed = next(i for i, row in enumerate(rows(study)) if row.collapsed)
    assert evasion.cells[collapsed][0].tile.background == "" and "not ranked" in evasion.cells[collapsed][0].tile.title
    bound = next(i for i, row in enumerate(rows(study)) if row.arm.name == "dp-sgd + static-int8")
    assert evasion.cells[bound][0].tile.text.startswith("≤ ")


def test_the_histogram_is_level_by_chance_and_tilts_with_a_signal(study, tmp_path):
    finding = study.evidence[0].aimed("membership")[0]
    member = torch.arange(4000) % 2 == 0
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    for shift, tilted in ((0.0, False), (2.0, True)):
        save_file({"score": noise + shift * member, "member": member}, tmp_path / "s.safetensors")
        made = histogram(replace(finding, file=tmp_path / "s.safetensors"))
        assert sum(made["member"]) == pytest.approx(1, abs=1e-3) == sum(made["other"])
        assert (made["member"][-1] - made["other"][-1] > 0.1) == tilted
        assert max(abs(a - b) for a, b in zip(made["member"], made["other"], strict=True)) < (1 if tilted else 0.03)


def test_without_both_sides_there_is_no_histogram(study, tmp_path):
    finding = study.evidence[0].aimed("membership")[0]
    assert histogram(replace(finding, file=None)) is None
    save_file({"score": torch.zeros(4), "member": torch.ones(4)}, tmp_path / "s.safetensors")
    assert histogram(replace(finding, file=tmp_path / "s.safetensors")) is None


def test_a_latency_has_its_interval_and_a_figure_that_is_missing_one_row(one_seed):
    text = page_of(one_seed.folder)
    assert re.search(
        r'data-column="latency_ratio".*?<span class="v">0\.74×</span><span class="i">0\.70× – 1\.05×', text, re.S
    )
    assert re.search(r'sensitivity</th><td class="words soft" colspan="4">no figure: more than two classes</td>', text)
    assert "sensitivity: more than two classes" not in text, "no second row"
    assert (
        "No single arm is shown to lead in: “" in text
        and "mechanism, not for this artefact" not in text.partition('id="cell-')[0]
    )
