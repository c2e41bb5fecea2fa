"""The page in a real browser: it draws, sorts and opens models, complains of nothing and asks no network for anything.

Debian's Chromium is driven by Playwright; ``CONSILIUM_CHROMIUM`` names another executable.
"""

import os
import re
import runpy
import shutil
from pathlib import Path

import pytest

from consilium.report.render.page import write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

EXECUTABLE = os.environ.get("CONSILIUM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--headless", "--no-sandbox", "--no-first-run"] + [
    f"--disable-{what}" for what in ("gpu", "quic", "background-networking", "component-update", "sync")
]
SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "report" / "synthetic.py"))
SLOWEST = 600_000
"""Milliseconds that only end a hang: a browser on a busy machine takes as long as it takes."""
POINTS = "#pareto .points path.point"

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None or not Path(EXECUTABLE).is_file(),
    reason="no Chromium found: install Debian's chromium or set CONSILIUM_CHROMIUM",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = SYNTHETIC["write_study"](tmp_path_factory.mktemp("seen"))
    return write_page(folder).as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS, timeout=SLOWEST)
        yield browser
        browser.close()


@pytest.fixture(params=[(1400, 900, "light"), (390, 844, "dark")], ids=["desk", "phone"])
def page(request, browser, address):
    """An open page; whatever it complains of, or asks a network for, fails the test at its end."""
    width, height, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(SLOWEST)
    trouble = []
    page.on("console", lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda r: trouble.append(r.url) if r.url.split(":")[0] not in ("file", "data", "blob") else None)
    page.goto(address)
    yield page
    page.close()
    assert trouble == []


def column(page, key):
    """The shown figures of one column from top to bottom, None for a dash."""
    cells = page.locator(f'#matrix-table tbody td[data-column="{key}"]')
    return [None if v is None else float(v) for v in cells.evaluate_all("all => all.map(x => x.dataset.value ?? null)")]


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def see(page, selector):
    page.locator(selector).first.scroll_into_view_if_needed()
    page.wait_for_selector(f"{selector}[data-done]")


def test_the_matrix_sorts_by_its_headings(page):
    before = column(page, "accuracy")
    head = page.locator('#matrix-table button[data-sort="accuracy"]')
    head.click()
    best_first = [value for value in column(page, "accuracy") if value is not None]
    assert best_first == sorted(best_first, reverse=True) != before[: len(best_first)]
    assert column(page, "accuracy")[-1] is None  # what has no figure stands last
    assert head.locator("xpath=..").get_attribute("aria-sort") == "descending"
    head.focus()
    page.keyboard.press("Enter")
    worst_first = [value for value in column(page, "accuracy") if value is not None]
    assert worst_first == best_first[::-1] and column(page, "accuracy")[-1] is None
    page.keyboard.press("Enter")
    assert column(page, "accuracy") == before


def test_what_is_not_ranked_sorts_behind(page):
    page.locator('#matrix-table button[data-sort="worst_case"]').click()
    unranked = page.locator('#matrix-table td[data-column="worst_case"]').evaluate_all(
        "all => all.map(x => 'value' in x.dataset ? +('unranked' in x.dataset) : 2)"
    )
    assert unranked == sorted(unranked) and set(unranked) == {0, 1, 2}


def test_rows_can_be_chosen(page):
    page.locator("label", has_text="Infected").first.click()
    assert page.locator("#matrix-table tbody tr:visible").count() == 8


def test_the_pareto_plot_shows_a_point_per_arm(page):
    see(page, "#pareto")
    assert page.locator(POINTS).count() == 8
    ids = page.locator(POINTS).evaluate_all("all => all.map(x => x.id).sort()")
    assert ids == [f"pareto-point-{code}" for code in "ABCDEFGH"]
    page.locator("#pareto-x").select_option("epsilon")
    assert page.locator(POINTS).count() == 8  # those without a claim have a place of their own
    assert "none (no DP)" in page.locator("#pareto .xaxislayer-above").text_content()
    page.locator("#pareto-infection").select_option("adversarial-poisoning")
    assert page.locator(POINTS).count() == 8
    assert overflow(page) <= 0


def test_no_mark_hides_another(page):
    see(page, "#pareto")
    page.locator("#pareto-x").select_option("epsilon")
    traces = page.evaluate(
        """() => document.querySelector("#pareto").data.filter(t => t.ids)
            .map(t => [t.x[0], t.y[0], t.textposition, t.marker.opacity])"""
    )
    assert len({x for x, *_ in traces}) == 8  # arms of one epsilon stand side by side
    assert len({side for _, _, side, _ in traces}) == 2 and all(opacity < 0.8 for *_, opacity in traces)
    assert "front: " in page.locator("#trade figcaption").text_content().replace("Pareto ", "")


def test_arms_that_send_less_are_drawn_against_their_bytes(browser, tmp_path):
    """A line and a mark with its letter for every training; nothing is drawn where all arms send the same."""
    folder = SYNTHETIC["write_study"](tmp_path)
    for log in (folder / "trainings").glob("td*/rounds.jsonl"):
        log.write_text(log.read_text().replace('"bytes_up": 98000', '"bytes_up": 9800'))
    page, trouble = browser.new_page(), []
    page.set_default_timeout(SLOWEST)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(write_page(folder).as_uri())
    see(page, "#traffic-plot")
    letters = page.locator("#traffic-plot .textpoint").all_text_contents()
    assert sorted(letters) == ["A +1", "B +1", "E +1", "F +1"]
    assert page.locator("#traffic-plot .errorbars path").count() >= 4
    assert "100 kB" in page.locator("#traffic-plot .xaxislayer-above").text_content()
    assert trouble == []
    page.close()


def test_where_all_send_the_same_bytes_are_not_drawn(page):
    assert page.locator("#traffic").count() == 0


def test_a_front_of_one_arm_says_so(page):
    see(page, "#pareto")
    page.locator("#pareto-y").select_option("accuracy")
    page.locator("#pareto-x").select_option("accuracy")
    assert page.locator("#pareto-front").text_content() == "front: A alone"


def test_a_model_opens_and_closes(page):
    page.locator("#matrix-table tbody a").first.click()
    page.wait_for_selector("#model article")
    assert page.locator("#overview").is_hidden() and "#cell-" in page.url
    see(page, "#model [data-figure=curves]")
    see(page, "#model [data-figure=histogram]")
    widths = page.locator("#model .triple img").evaluate_all("all => all.map(x => x.naturalWidth)")
    assert len(widths) == 3 * 8 * 3 and set(widths) == {12}
    assert overflow(page) <= 0
    page.go_back()
    page.wait_for_selector("#overview", state="visible")
    assert page.locator("#model").is_hidden()


def test_every_model_opens_at_its_address(page, address):
    for digest in page.locator("template[id^=cell-]").evaluate_all("all => all.map(x => x.id)")[::7]:
        page.goto(f"{address}#{digest}")
        page.wait_for_selector("#model article h2")
        assert page.locator("#model section").count() >= 1


def test_figures_explain_themselves(page):
    page.locator("#matrix-table tbody td").first.click()
    said = page.locator("#tip").text_content()
    assert "chance 0.100" in said and "n = 360" in said and "Student t" in said
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_nothing_runs_before_it_is_seen(page):
    assert page.evaluate("typeof window.Plotly") == "undefined" or page.locator("#pareto[data-done]").count()
    assert page.evaluate("document.querySelectorAll('#model *').length") == 0


def test_nothing_is_wider_than_the_screen(page):
    assert overflow(page) <= 0
    page.locator("details").evaluate_all("all => all.forEach(x => { x.open = true; })")
    assert overflow(page) <= 0


def test_tables_of_a_model_fit_and_the_matrix_says_that_it_scrolls(page):
    phone = page.viewport_size["width"] < 700
    wide = page.locator("#matrix > .scroll").evaluate("box => box.scrollWidth > box.clientWidth + 1")
    assert [hint.is_visible() for hint in page.locator("#matrix > .sideways").all()] == [wide, wide]  # above and below
    assert wide or not phone
    page.locator("#matrix-table tbody a").first.click()
    page.wait_for_selector("#model article")
    clipped = page.locator("#model .scroll").evaluate_all("all => all.map(x => x.scrollWidth - x.clientWidth)")
    assert clipped and max(clipped) <= 0
    assert page.locator("#model .lines td .i").first.is_visible() == phone  # the interval stands under its value


def test_injected_text_does_not_run(page):
    page.locator("#trouble").scroll_into_view_if_needed()
    assert "<script>alert('x')</script>" in page.locator("#trouble").text_content()
    assert page.locator("#trouble script, #trouble img").count() == 0


def test_the_policy_stops_what_is_not_ours(browser, address):
    page, said = browser.new_page(), []
    page.set_default_timeout(SLOWEST)
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    page.evaluate(
        """() => {
            document.head.append(Object.assign(document.createElement("script"), { textContent: "window.ran = 1" }));
            document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/x.png" }));
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert sum("Content Security Policy" in text for text in said) == 2
    page.close()


def sheets(page):
    """The number of A4 pages that the page prints on."""
    return len(re.findall(rb"/Type */Page\b", page.pdf(prefer_css_page_size=True)))


def test_paper_holds_the_overview_or_the_open_model(page):
    if page.viewport_size["width"] < 1000:
        pytest.skip("paper has one width")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article").count() == 0  # no model unless one is open
    assert page.locator("[data-figure]:not([data-done])").count() == page.locator("details.howto:not([open])").count()
    assert page.locator("#reproduce details[open]").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print")
    assert "open a model's page to print it" in page.locator("#models").inner_text()
    page.emulate_media(media="screen")
    page.locator("#matrix-table tbody a").first.click()
    page.wait_for_selector("#model article")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#model [data-figure]:not([data-done])").count() == 0
    assert page.locator("#model details:not(.claims)[open]").count() == 0
    assert page.locator("#model details.claims:not([open])").count() == 0


def test_paper_is_short(page):
    if page.viewport_size["width"] < 1000:
        pytest.skip("paper has one width")
    overview = sheets(page)
    page.locator("#matrix-table tbody a").first.click()
    page.wait_for_selector("#model article")
    assert 3 <= overview <= 20 and 2 <= sheets(page) <= 20
