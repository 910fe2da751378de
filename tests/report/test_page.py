"""`report.html`, and the plain page of a run that stops earlier, in a real browser: nothing from the network, sorted
and filtered, by keyboard, on a phone, on paper."""

import base64
import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import fabricated
import numpy as np
import pandas as pd
import pytest
from chromium import Page, chromium
from PIL import Image

from heatproof.stages.report import report
from heatproof.stages.report.plain import Table, render

pytestmark = pytest.mark.browser
EVIL = ('<b>&"x', "<img src=x onerror=alert(1)>", "</script><i>y</i>")
FEW = fabricated.METRICS[:3]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose classes, images, warnings and configuration are full of markup."""
    facts = fabricated.FACTS | {"name": EVIL[0], "warnings": list(EVIL), "config": "".join(EVIL)}
    records = fabricated.records(12, classes=EVIL)
    scores = fabricated.scores(12, metrics=FEW)
    names = {f"case_{i:03d}.png": f"{EVIL[i % 3]}{i}" for i in range(12)}
    for table in (records["samples"].table, records["predictions"].table, scores.table):
        table["image"] = table["image"].map(names)
    made = report(tmp_path_factory.mktemp("run"), **records, scores=scores, facts=facts, seed=0)
    return made.folder / "report.html"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that stops before it measures, as full of markup."""
    recalls = [0.9, 0.75, 1.0, 0.05, 0.5, 0.6, 0.25, 0.8]
    frame = pd.DataFrame({
        "class": [*EVIL, *"abcd", "vessel"],
        "images": range(8),
        "recall": [f"{value:.2f} [0.00, 1.00]" if value > 0.1 else "–" for value in recalls],
    })  # fmt: skip
    dot = io.BytesIO()
    Image.new("RGB", (300, 200)).save(dot, "png")
    source = f"data:image/png;base64,{base64.b64encode(dot.getvalue()).decode()}"
    summary = {"name": EVIL[0], "n_images": 12, "split_kind": "official", "data_hash": "d" * 16, "plan_hash": "p" * 16,
               "warnings": list(EVIL), "overrides": list(EVIL)}  # fmt: skip
    page = render(
        summary, subject="the classifier", heading="How good is the classifier?", warnings=EVIL[:1], notes=EVIL,
        tables=[Table("Per class", frame), Table("Rest", frame.head(2), 7)], config="".join(EVIL),
        figures=[{"name": EVIL[0], "caption": EVIL[1], "source": source, "width": "300"}],
    )  # fmt: skip
    made = tmp_path_factory.mktemp("plain") / "classifier.html"
    made.write_text(page, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


def opened(browser: Page, file: Path) -> Page:
    """The page, newly opened on a desktop."""
    browser.size(1280, 900)
    browser.requests.clear()
    browser.errors.clear()
    browser.open(file.as_uri())
    return browser


@pytest.fixture
def page(browser: Page, file: Path) -> Page:
    return opened(browser, file)


@pytest.fixture(params=["file", "plain"])
def each(browser: Page, request: pytest.FixtureRequest) -> Page:
    """Both pages, one after the other."""
    return opened(browser, request.getfixturevalue(request.param))


def test_it_asks_nobody_and_complains_of_nothing(each: Page) -> None:
    page = each
    assert page.requests[0].startswith("file:")
    assert all(address.startswith("data:") for address in page.requests[1:])
    assert page.errors == []
    assert page.ask("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_names_are_text_and_never_markup(page: Page) -> None:
    assert page.ask("document.querySelectorAll('td b, td i, li i, pre b, img[onerror], .tiles b').length") == 0
    for name in EVIL:
        assert name in page.ask("document.getElementById('classifier').parentElement.textContent")
        assert name in page.ask("document.querySelector('.tiles').textContent")
        assert name in page.ask("document.querySelector('details pre').textContent")
    assert page.ask("document.title").startswith(EVIL[0])


def test_a_table_is_sorted_by_keyboard(page: Page) -> None:
    table = "document.querySelector('#metrics').parentElement.querySelector('table')"
    page.ask(f"{table}.querySelectorAll('th button')[1].focus()")
    for order in ("ascending", "descending"):
        page.press("Enter", "\r")
        assert page.ask(f"{table}.querySelectorAll('thead th')[1].getAttribute('aria-sort')") == order
        shown = page.ask(f"[...{table}.tBodies[0].rows].map(row => row.cells[1].dataset.sort)")
        values = [float(text) for text in shown if text]
        assert values == sorted(values, reverse=order == "descending")
        assert len(values) == 7


def test_what_is_undefined_is_sorted_last_either_way(page: Page) -> None:
    table = "document.querySelectorAll('#metrics ~ .scroll table')[1]"
    for _ in range(2):
        page.ask(f"{table}.querySelectorAll('th button')[1].click()")
        shown = page.ask(f"[...{table}.tBodies[0].rows].map(row => row.cells[1].dataset.sort)")
        assert "" in shown
        assert shown == sorted(shown, key=lambda text: text == "")


def test_a_table_is_filtered(page: Page) -> None:
    page.ask("document.querySelector('#metrics ~ .filter input').focus()")
    for letter in "blur mean":
        page.press(letter, letter)
    assert page.ask("document.querySelector('#metrics ~ .filter [role=status]').textContent") == "1 of 7 rows"
    rows = "[...document.querySelector('#metrics ~ .scroll table').tBodies[0].rows]"
    assert page.ask(f"{rows}.filter(row => !row.hidden).map(row => row.cells[0].textContent)") == [
        f"blurred-{fabricated.FUSED}"
    ]


def test_a_plain_page_is_escaped_sorted_filtered_and_printed(browser: Page, plain: Path, tmp_path: Path) -> None:
    page = opened(browser, plain)
    assert page.ask("document.querySelectorAll('td b, td i, li i, pre b, img[onerror]').length") == 0
    assert EVIL[1] in page.ask("document.querySelector('[aria-label=\"Per class\"]').textContent")
    table = "document.querySelector('[aria-label=\"Per class\"] table')"
    page.ask(f"{table}.querySelectorAll('th button')[2].focus()")
    for order in ("ascending", "descending"):
        page.press("Enter", "\r")
        shown = [
            float(one) for one in page.ask(f"[...{table}.tBodies[0].rows].map(row => row.cells[2].dataset.sort)") if one
        ]
        assert len(shown) >= 6
        assert shown == sorted(shown, reverse=order == "descending")
    page.ask("document.querySelector('#tables ~ .filter input').focus()")
    for letter in "vessel":
        page.press(letter, letter)
    assert page.ask(f"[...{table}.tBodies[0].rows].filter(row => !row.hidden).length") == 1
    assert len(re.findall(rb"/Type\s*/Page\b", page.printed(tmp_path / "page.pdf").read_bytes())) <= 2
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.ask("['nav', '.filter'].map(name => getComputedStyle(document.querySelector(name)).display)") == ["none"] * 2  # fmt: skip  # noqa: E501
    page.call("Emulation.setEmulatedMedia", media="")


def test_images_switch_their_maps_by_method(page: Page) -> None:
    maps = "[...document.querySelectorAll('.tiles .map')].map(image => image.src)"
    first = page.ask(maps)
    options = page.ask("[...document.getElementById('method').options].map(option => option.text)")
    assert options == ["gradcam", fabricated.FUSED, "weak", f"sd of {fabricated.FUSED}"]
    page.ask("document.getElementById('method').focus()")
    page.press("ArrowDown")
    page.press("ArrowDown")
    page.wait("document.getElementById('method').value === 'weak'")
    assert not set(first) & set(page.ask(maps))
    assert page.ask("document.querySelector('.tiles .map').alt") == "map of weak"
    assert page.ask("[...document.querySelectorAll('.state')].map(one => one.textContent)").count("map: zero") == 1
    page.ask("which.value = 'wrong'; which.dispatchEvent(new Event('input'))")
    shown = page.ask("[...document.querySelectorAll('.tiles li')].filter(tile => !tile.hidden).length")
    assert shown == page.ask("document.querySelectorAll('.tiles li[data-outcome=wrong]').length") == 1
    assert page.ask("seen.textContent") == "weak: 1 of 12 images shown"


def test_a_phone_scrolls_tables_and_nothing_else(each: Page) -> None:
    page = each
    page.size(390, 844, mobile=True)
    page.open(page.requests[0])
    assert page.ask("document.documentElement.scrollWidth") == 390
    wide = """[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, table')
        && one.getBoundingClientRect().right > 391).map(one => one.outerHTML.slice(0, 80))"""
    assert page.ask(wide) == []
    assert page.ask("parseFloat(getComputedStyle(document.body).fontSize)") >= 14


def test_paper_shows_what_is_folded_and_no_controls(page: Page, tmp_path: Path) -> None:
    page.ask("addEventListener('beforeprint', () => { window.folded = document.querySelectorAll('details:not([open])').length })")  # fmt: skip  # noqa: E501
    closed = page.ask("document.querySelectorAll('details:not([open])').length")
    pages = re.findall(rb"/Type\s*/Page\b", page.printed(tmp_path / "page.pdf").read_bytes())
    assert 5 <= len(pages) <= 25
    assert page.ask("window.folded") < closed
    assert page.ask("document.querySelectorAll('details:not([open])').length") == closed
    page.call("Emulation.setEmulatedMedia", media="print")
    hidden = "['nav', '.filter', '.controls'].map(name => getComputedStyle(document.querySelector(name)).display)"
    assert page.ask(hidden) == ["none"] * 3
    page.call("Emulation.setEmulatedMedia", media="")


def test_a_screen_reader_is_told_what_is_what(each: Page) -> None:
    page = each
    found = page.names()
    roles = [role for role, _ in found]
    assert roles.count("main") == roles.count("banner") == roles.count("navigation") == 1
    levels = page.ask("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    for role, name in found:
        if role in ("button", "link", "searchbox", "textbox", "combobox", "slider", "checkbox", "image", "region"):
            assert name.strip(), role
    assert {"columnheader", "figure"} <= set(roles)
    assert page.ask("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")


def test_the_tab_key_meets_everything_in_the_order_of_the_page(each: Page) -> None:
    page = each
    wanted = page.ask("""[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
        .filter(one => one.checkVisibility() && one.type !== 'hidden').length""")
    page.ask("window.met = []; document.addEventListener('focusin', event => met.push(event.target))")
    page.press("Tab")
    assert page.ask("document.activeElement.textContent").startswith("Skip to")
    for _ in range(wanted - 1):
        page.press("Tab")
    assert page.ask("new Set(met).size") == wanted
    order = "met.every((one, i) => !i || met[i - 1].compareDocumentPosition(one) & (4 | 16))"
    assert page.ask(order)


@pytest.mark.slow
def test_a_page_of_64_images_and_10_methods_stays_below_10_mb(tmp_path: Path) -> None:
    own = tuple(fabricated.method(f"cam{number}") for number in range(10))
    records = fabricated.records(64)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (64, 224, 224, 3), dtype=np.uint8)  # compresses worse than any real image
    pixels = np.kron(records["samples"].pixels, np.ones((1, 7, 7, 3), np.uint8)) // 2 + noise
    masks = np.kron(records["samples"].masks, np.ones((1, 7, 7), np.uint8))
    heat = {str(m.name): rng.random((64, 224, 224), np.float32) for m in own}
    status = dict.fromkeys(heat, ("ok",) * 64)
    maps = replace(records["maps"], methods=own, files=heat, sd_files={}, status=status)
    records |= {"samples": replace(records["samples"], pixels=pixels, masks=masks), "maps": maps}
    made = report(tmp_path, **records, scores=fabricated.scores(64, metrics=FEW), facts=fabricated.FACTS, seed=0)
    assert len(re.findall('data-outcome="', (made.folder / "report.html").read_text())) >= 8
    assert (made.folder / "report.html").stat().st_size < 10e6
