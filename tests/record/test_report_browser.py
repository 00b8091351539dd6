"""The page in headless Chromium: a silent console, every figure drawn, hover and keys, narrow and in print."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entitrack.methods import method_names
from entitrack.record.report.page import report
from entitrack.record.report.reading import Run
from tests.record.small_runs import Runs


@pytest.fixture(scope="module")
def browser(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that has the page of all methods open."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        reason = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report([Run(folder, result) for result, folder in map(runs, method_names())]))
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_window_size(1280, 900)
    opened.get(path.as_uri() + "#light")
    yield opened
    opened.quit()


def test_the_console_is_silent(browser: Any) -> None:
    assert browser.get_log("browser") == []


def test_every_figure_is_drawn_and_no_text_is_cut_off(browser: Any) -> None:
    """Whatever is written in a picture lies in it."""
    pictures, cut = browser.execute_script(
        """
        const cut = [], pictures = [...document.querySelectorAll('svg[role=img]')];
        for (const svg of pictures) {
          const box = svg.getBoundingClientRect();
          if (box.width < 60 || box.height < 40 || svg.children.length < 4) cut.push(svg.getAttribute('aria-label'));
          for (const text of svg.querySelectorAll('text')) {
            const at = text.getBoundingClientRect();
            if (at.width && (at.left < box.left - 2 || at.right > box.right + 2 || at.bottom > box.bottom + 2))
              cut.push(svg.getAttribute('aria-label') + ': ' + text.textContent);
          }
        }
        return [pictures.length, cut];
        """
    )
    assert pictures > len(method_names())
    assert cut == []


def test_a_cell_tells_its_value_under_the_pointer(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    cell = browser.find_element(By.CSS_SELECTOR, "#path_patching .cell[data-tip]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", cell)
    ActionChains(browser).move_to_element(cell).perform()
    tip = browser.find_element(By.ID, "tip")
    assert "shown" in tip.get_attribute("class")
    assert tip.text == cell.get_attribute("data-tip")
    assert tip.text.startswith("layer ")


def test_keys_go_through_the_values_and_tell_them(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    picture = browser.find_element(By.CSS_SELECTOR, "#cmap svg[role=img]")
    browser.execute_script("arguments[0].focus()", picture)
    told = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT):
        picture.send_keys(key)
        told.append(browser.execute_script("return document.getElementById('told').textContent"))
    first, second, again = told
    assert first == again != second
    assert first.startswith("llama (base): ")
    picture.send_keys(Keys.ESCAPE)
    assert "shown" not in browser.find_element(By.ID, "tip").get_attribute("class")


def test_colours_are_the_readers_choice(browser: Any) -> None:
    from selenium.webdriver.common.by import By

    def ground() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    button, seen = browser.find_element(By.ID, "theme"), {}
    for _ in range(3):
        seen[button.text] = ground()
        browser.execute_script("arguments[0].click()", button)
    assert set(seen) == {"Colours: light", "Colours: dark", "Colours: auto"}
    assert seen["Colours: light"] == "rgb(255, 255, 255)"
    assert seen["Colours: dark"] == "rgb(18, 22, 28)"
    assert browser.execute_script("return getComputedStyle(document.querySelector('.cell')).fill") != ""


def test_prompts_are_sifted(browser: Any) -> None:
    count = """
        const details = document.querySelector('#cmap .prompts').closest('details');
        const choice = details.querySelector('select');
        details.open = true; choice.value = arguments[0]; choice.dispatchEvent(new Event('change'));
        return [...details.querySelectorAll('tbody tr')].filter((row) => !row.hidden).length;
        """
    every, wrong = browser.execute_script(count, ""), browser.execute_script(count, "0")
    assert 0 <= wrong < every


def test_it_is_read_on_a_narrow_page_and_in_print(browser: Any, tmp_path: Path) -> None:
    browser.set_window_size(500, 900)
    width, page = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert page <= width
    browser.set_window_size(1280, 900)
    printed = base64.b64decode(browser.print_page())
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000
