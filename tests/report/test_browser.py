"""The page of a run in a real browser: headless Chromium, where Debian's packages are installed."""

from __future__ import annotations

import shutil
import time
from functools import partial

import pytest

from kvlab.cli.record import page_of
from tests.report.run_files import events_of, operation, record_of, tiny_events

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS_MAX = 50

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no browser here: apt-get install chromium chromium-driver",
    ),
]

WRONG_PLACES = """
return [...document.querySelectorAll("main *")].filter((one) =>
  one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".wide, .repeat, pre, .chart"))
  .map((one) => one.outerHTML.slice(0, 80))
"""
SIZES = """
return [...document.querySelectorAll("[data-figure]")].map((chart) => {
  const box = chart.querySelector("svg.main-svg").getBoundingClientRect();
  return [chart.id, box.width, box.height, chart.querySelectorAll("path").length];
})
"""


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(SECONDS_MAX)
    yield driver
    driver.quit()


@pytest.fixture
def pages(tmp_path):
    """A small run that is invalid, and one with more operations than a picture of clients shows."""
    many = [operation(n, n * 500, 400, client=f"c{n % 8}", key=f"k{n % 9}") for n in range(5000)]
    for name, events in (("small", tiny_events()), ("large", events_of(many))):
        (tmp_path / f"{name}.html").write_text(page_of(record_of(events)))
    return tmp_path


def until(browser, script, wanted):
    """Wait until a script returns what is wanted."""
    deadline = time.monotonic() + SECONDS_MAX
    while (found := browser.execute_script(script)) != wanted:
        time.sleep(0.05)
        assert time.monotonic() < deadline, f"{found} in place of {wanted}: {script}"


def show(browser, path, *, width=1280, scheme="light"):
    """Open a page in a window and a colour scheme; wait until every chart is drawn."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(path.as_uri())
    count = browser.execute_script("return document.querySelectorAll('[data-figure]').length")
    until(browser, "return document.documentElement.dataset.drawn", str(count))


def test_a_page_is_drawn_and_can_be_looked_into(browser, pages) -> None:
    """All in one test: a browser takes seconds to start."""
    for width, scheme, card in ((1280, "light", (255, 255, 255)), (400, "dark", (27, 33, 43))):
        show(browser, pages / "small.html", width=width, scheme=scheme)
        _everything_is_drawn(browser, f"rgb{card}")
    show(browser, pages / "large.html")
    _a_choice_of_time_in_the_overview_is_one_for_the_clients(browser)
    assert [one for one in browser.get_log("browser") if one["level"] != "INFO"] == []


def _everything_is_drawn(browser, card) -> None:
    sizes = browser.execute_script(SIZES)

    assert [name for name, *_ in sizes] == [
        "proof-0",
        "overview",
        "clients",
        "held",
        "nodes",
        "keys",
    ]
    assert all(wide > 250 and high > 50 and paths for _, wide, high, paths in sizes), sizes
    assert browser.execute_script(WRONG_PLACES) == [], "nothing sticks out"
    room = "return document.documentElement.clientWidth - document.documentElement.scrollWidth"
    assert browser.execute_script(room) == 0
    assert browser.execute_script("return performance.getEntriesByType('resource')") == []
    behind = "return getComputedStyle(document.querySelector('svg.main-svg')).backgroundColor"
    assert browser.execute_script(behind) == card


def _a_choice_of_time_in_the_overview_is_one_for_the_clients(browser) -> None:
    wait = partial(until, browser)
    shown = (
        "return document.getElementById('clients').layout.xaxis.range.map((one) => +one.toFixed(6))"
    )
    first = browser.execute_script(shown)
    button = browser.find_element("css selector", "button.on")

    assert first[1] - first[0] < 0.5, "it begins with a window of time"
    browser.execute_script(
        "Plotly.relayout('overview', {'xaxis.range[0]': 0.5, 'xaxis.range[1]': 0.75})"
    )
    wait(shown, [0.5, 0.75])
    browser.find_element("css selector", "button[data-all]").click()
    wait(shown, [0, 3])
    button.click()
    wait(shown, first)
