"""The pages of a run and of a phase in a real browser: what people see of them, and what they can do with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from imginav.manifest.loading import load, load_phase
from imginav.plugin.registry import installed
from imginav.runs.evaluation_result import RankedLayout, load_evaluation
from imginav.runs.experiment import run_experiment
from imginav.study.phases import open_phase
from imginav_reports import run_page
from imginav_tests import tiny
from imginav_tests.csv_tables import read_table

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="needs a browser and its driver: on Debian, apt-get install chromium chromium-driver",
    ),
]

PHASE = tiny.changed(
    tiny.PHASE,
    """
phase = { id = "1.1", experiment = "ae", group = "channels", title = "Channels" }
data = { type = "procedural", image_size = 64, count = 12 }
losses.segmentation.weight = 0.05
train = { epochs = 3, optimizer.learning_rate = 2e-3 }

[callbacks]
metrics_csv = {}
step_log = { rows = 4 }
checkpoint = {}
samples = { every = 1, tile = 64 }

[sweep]
selector = { type = "best" }

[sweep.experiments]
L2 = { "encoder.latent_channels" = 2 }
L10 = { "encoder.latent_channels" = 10 }
V4 = { "encoder.latent_channels" = 4, "encoder.variational" = true, "losses.kld" = { weight = 1e-4 } }
""",
)

LONG = "a_name_that_is_long_and_has_no_place_to_break_" * 5

STRANGE = f"<b>bold</b> & \"two\" $x_1$ <script>console.error('ran')</script> {LONG}"

WIDTHS, SCHEMES = (400, 1600), ("light", "dark")

LEAST_CONTRAST, LEAST_PIXELS = 4.5, 12

FAULTS_OF_TEXT = """
const [leastContrast, leastPixels] = arguments, faults = [];
const channels = (text) => text.match(/[\\d.]+/g).map(Number);
const over = (top, bottom) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => top[i] * a + bottom[i] * (1 - a)); };
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const below = (element) => {
  const colour = channels(getComputedStyle(element).backgroundColor);
  const parent = element.parentElement;
  return (colour[3] ?? 1) === 1 || !parent ? colour.slice(0, 3) : over(colour, below(parent));
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || element.closest("script, style") || !element.checkVisibility()) continue;
  seen += 1;
  const style = getComputedStyle(element), svg = element.closest("svg"), behind = below(element);
  const ink = over(channels(svg ? style.fill : style.color), behind);
  const [high, low] = [light(ink), light(behind)].sort((a, b) => b - a);
  const contrast = (high + 0.05) / (low + 0.05);
  const pixels = parseFloat(style.fontSize) * (svg ? svg.getScreenCTM().a : 1);
  if (contrast < leastContrast) faults.push(`contrast ${contrast.toFixed(2)}: ${text.slice(0, 40)}`);
  if (pixels < leastPixels) faults.push(`${pixels.toFixed(1)} px: ${text.slice(0, 40)}`);
  if (svg) {
    const [inner, outer] = [element.getBoundingClientRect(), svg.getBoundingClientRect()];
    const [left, right] = [outer.left - inner.left, inner.right - outer.right];
    const cut = Math.max(left, right, outer.top - inner.top, inner.bottom - outer.bottom);
    if (cut > 1) faults.push(`cut off by ${cut.toFixed(1)} px: ${text.slice(0, 40)}`);
  }
}
return [seen, faults];
"""


@attrs.frozen
class Browser:
    """A headless Chromium that shows one page at a time."""

    driver: webdriver.Chrome

    def show(self, page: Path, width: int = 1600, scheme: str = "light") -> None:
        """Open a page in a window of a width, with all that is folded in open."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for log in ("browser", "performance"):
            self.driver.get_log(log)  # what pages before have left
        self.driver.get(page.as_uri())
        self.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> Any:
        (found,) = self.all(selector)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root may not do without
        "--disable-gpu",
        "--disable-dev-shm-usage",  # containers have little of it
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the path of a driver, none is looked for in the network.
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train three arms once; return the pages of their phase, of two of them, and of one with strange names."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "phase.toml").write_text(PHASE)
    roots = [f"output.{root}={str(folder / 'outputs')!r}" for root in ("experiments", "shared")]
    roots.append(f"machine.cache={str(folder / 'cache')!r}")
    phase = load_phase(folder / "phase.toml", installed(), settings=roots)
    for experiment in phase.experiments:
        run_experiment(experiment, log=lambda _: None)
    open_phase(phase, installed().hooks, log=lambda _: None).conclude()
    outputs = folder / "outputs"
    return {
        "phase": outputs / "channels" / "report.html",
        "run": outputs / "ae_L2" / "report.html",
        "variational": outputs / "ae_V4" / "report.html",
        "strange": write_strange(outputs / "ae_L10", folder / "strange"),
    }


def write_strange(run: Path, to: Path) -> Path:
    """Write a page with names that are long and look like HTML, and with a history of many terms and no numbers."""
    shutil.copytree(run, to)
    evaluation = load_evaluation(to / "evaluation.json")
    shown = evaluation.reconstruction
    reconstruction = attrs.evolve(
        shown,
        by_type={kind: {} for kind in (*shown.by_type, STRANGE)},
        layouts={**shown.layouts, STRANGE: 1},
        by_class={LONG: {STRANGE: 0.5}},
        worst=(RankedLayout(name=STRANGE, type=STRANGE, mse=1.0),),
        not_measured={STRANGE: STRANGE},
    )
    evaluation = attrs.evolve(
        evaluation, title=STRANGE, data=STRANGE, notes=(STRANGE,) * 9, reconstruction=reconstruction, latency=None
    )
    terms = (*(f"term{n}" for n in range(11)), STRANGE)
    history = [
        {"epoch": float(n), **{f"train_loss_{term}": float("nan") if n % 7 == 0 else 10.0 / n**3 for term in terms}}
        for n in range(1, 51)
    ]
    resolved = load(to / "manifest.toml", installed())
    resolved = attrs.evolve(resolved, origins=dict.fromkeys(resolved.origins, STRANGE))
    run_page.write(evaluation, to, resolved, history)
    return to / "report.html"


def visible(elements: Sequence[Any]) -> list[Any]:
    return [element for element in elements if element.is_displayed()]


@pytest.mark.parametrize("name", ["run", "variational", "strange", "phase"])
def test_a_page_is_readable_at_every_width_in_light_and_in_dark(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    for width in WIDTHS:
        for scheme in SCHEMES:
            browser.show(pages[name], width, scheme)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            seen, faults = browser.run(FAULTS_OF_TEXT, LEAST_CONTRAST, LEAST_PIXELS)
            assert seen > 100
            assert faults == [], (width, scheme)
            background = browser.run("return getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(20, 23, 27)") is (scheme == "dark")


@pytest.mark.parametrize("name", ["run", "variational", "strange", "phase"])
def test_a_page_loads_without_complaint_and_asks_for_nothing_but_itself(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.show(pages[name])
    assert browser.run("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert (
        browser.run("return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:'))") == []
    )
    assert [url for url in browser.requests() if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.driver.get_log("browser") == []


LONG_LINES = """
const long = (path) => getComputedStyle(path).stroke.startsWith("rgb") && path.getBoundingClientRect().width > 100;
return [...document.querySelectorAll(".charts svg")].map((svg) =>
  [...svg.querySelectorAll("[id^=line2d] > path")].filter(long).map((path) => getComputedStyle(path).stroke));
"""


@pytest.fixture
def without_scripts(browser: Browser) -> Iterator[None]:
    """Let pages run no script of their own."""
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.usefixtures("without_scripts")
def test_without_scripts_every_drawing_shows_its_curves_in_the_colours_of_the_legend(
    browser: Browser, pages: dict[str, Path]
) -> None:
    for scheme in SCHEMES:
        browser.show(pages["run"], scheme=scheme)
        titles = browser.run(
            "return [...document.querySelectorAll('.charts figcaption')].filter((e) => e.checkVisibility())"
            ".map((e) => e.firstChild.data)"
        )
        assert titles == [
            "loss",
            "loss term: mse",
            "loss term: segmentation",
            "PSNR of the mean MSE (dB)",
            "learning rate",
        ]
        legend = browser.run("return [...document.querySelectorAll('.legend i')].map((i) => getComputedStyle(i).color)")
        drawn = browser.run(LONG_LINES)
        for lines in drawn[:3]:
            assert [colour for colour in lines if colour in legend[:2]] == legend[:2]
        assert all(drawn)
        assert not visible(browser.all(".tools, .plot, #steps"))


def plot(browser: Browser, title: str) -> Any:
    """Return the first figure whose title begins with a text: that of the epochs, which come before the steps."""
    return next(figure for figure in browser.all("figure[data-plot]") if figure.text.startswith(title))


def test_files_are_opened_from_the_page_and_from_its_copy_in_the_phases_folder(
    browser: Browser, pages: dict[str, Path]
) -> None:
    own = pages["run"]
    for page in (own, own.parents[1] / "channels" / "ae_L2_report.html"):
        assert page.is_file()
        browser.show(page)
        links = browser.run("return [...document.querySelectorAll('.files a')].map((link) => link.href)")
        assert {Path(link.removeprefix("file://")) for link in links} == {
            path for path in own.parent.rglob("*") if path.is_file() and path != own
        }


SCALE = "const { min, max } = arguments[0].uplot.scales[arguments[1]]; return [min, max]"


def test_a_curve_says_its_values_at_the_cursor_zooms_and_has_a_logarithmic_axis(
    browser: Browser, pages: dict[str, Path]
) -> None:
    rows = read_table(pages["run"].parent / "ae_L2_metrics.csv")
    for width in WIDTHS:
        browser.show(pages["run"], width)
        assert not visible(browser.all(".drawing"))
        loss = plot(browser, "loss")
        browser.run("arguments[0].scrollIntoView({ block: 'center' })", loss)
        area = loss.find_element(By.CSS_SELECTOR, ".u-over")
        assert loss.find_element(By.CSS_SELECTOR, ".u-wrap").rect["width"] <= loss.rect["width"]
        ActionChains(browser.driver).move_to_element(area).perform()
        epoch, train, validation = [cell.text for cell in loss.find_elements(By.CSS_SELECTOR, ".u-value")]
        assert epoch == "2"  # the middle one of three
        assert float(train) == pytest.approx(float(rows[1]["train_loss"]), rel=1e-4)
        assert float(validation) == pytest.approx(float(rows[1]["val_loss"]), rel=1e-4)

        before = browser.run(SCALE, loss, "x")
        # From the middle to the right edge, as a person drags.
        ActionChains(browser.driver).move_to_element(area).click_and_hold().move_by_offset(
            int(area.rect["width"]) // 2 - 4, 0
        ).release().perform()
        zoomed = browser.run(SCALE, loss, "x")
        assert zoomed[0] > before[0] + 0.5
        log, whole = loss.find_elements(By.CSS_SELECTOR, ".tools button")
        whole.click()
        assert browser.run(SCALE, loss, "x") == before

        pressed = log.get_attribute("aria-pressed")
        log.click()
        assert {pressed, log.get_attribute("aria-pressed")} == {"true", "false"}
        kinds = browser.run("return arguments[0].uplot.scales.y.distr", loss)
        assert (kinds == 3) is (log.get_attribute("aria-pressed") == "true")
    assert browser.driver.get_log("browser") == []


def test_the_steps_have_curves_with_their_range(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["run"])
    steps = [f for f in browser.all("#steps ~ .charts figure") if f.is_displayed()]
    titles = [figure.find_element(By.CSS_SELECTOR, "figcaption").text for figure in steps]
    assert titles == ["loss", "loss term: mse", "loss term: segmentation", "gradient norm", "learning rate"]
    rows = read_table(pages["run"].parent / "ae_L2_steps.csv")
    drawn = browser.run("return arguments[0].uplot.data", steps[0])
    assert drawn[0] == [int(row["step"]) for row in rows]
    for column, name in zip(drawn[1:], ("loss", "max_loss", "min_loss"), strict=True):
        assert column == pytest.approx([float(row[name]) for row in rows], rel=1e-5)


def test_curves_follow_the_width_of_the_window_and_the_colours_of_the_page(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.show(pages["run"], 1600)
    browser.run("document.body.style.width = '20rem'")
    WebDriverWait(browser.driver, 10).until(
        lambda _: browser.run("return document.querySelector('[data-plot]').uplot.width") < 330
    )
    colours = set()
    for scheme in SCHEMES:
        browser.show(pages["run"], scheme=scheme)
        colours.add(browser.run("return document.querySelector('[data-plot]').uplot.series[1].stroke()"))
    assert len(colours) == 2


def test_the_slider_goes_through_the_epochs_by_keyboard_and_by_its_buttons(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.show(pages["run"])
    pictures, slider, label = browser.all(".sample"), browser.one("#epoch"), browser.one("output")
    earlier, later = browser.all("[data-step]")
    assert len(pictures) == 3

    def assert_shown(place: int) -> None:
        assert visible(pictures) == [pictures[place]]
        assert label.text == pictures[place].get_attribute("data-label")
        assert label.text.startswith(f"epoch {place + 1}")
        assert slider.get_attribute("value") == str(place)

    evaluation = load_evaluation(pages["run"].parent / "evaluation.json")
    assert_shown(evaluation.weights_epoch - 1)
    assert label.text == f"epoch {evaluation.weights_epoch}, the weights"
    slider.send_keys(Keys.HOME)
    assert_shown(0)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert_shown(1)
    later.click()
    assert_shown(2)
    later.click()
    assert_shown(2)
    slider.send_keys(Keys.ARROW_LEFT)
    earlier.click()
    earlier.click()
    assert_shown(0)
    shown = {browser.run("return arguments[0].querySelector('img').src", picture) for picture in pictures}
    assert len(shown) == 3


@pytest.mark.parametrize("allowed", [True, False])
def test_the_block_for_phase_2_is_copied_or_where_that_is_forbidden_selected(
    browser: Browser, pages: dict[str, Path], *, allowed: bool
) -> None:
    browser.show(pages["run"])
    write = "async (text) => { window.copied = text; }" if allowed else "async () => { throw new Error('forbidden'); }"
    browser.run(f"Object.defineProperty(navigator, 'clipboard', {{ value: {{ writeText: {write} }} }})")
    button = browser.one("[data-copy]")
    said = button.text
    button.click()
    WebDriverWait(browser.driver, 10).until(lambda _: button.text != said)
    text = browser.run("return document.getElementById('phase-2-text').textContent")
    assert text.startswith("# Train on ")
    if allowed:
        assert button.text == "Copied"
        assert browser.run("return window.copied") == text
    else:
        assert button.text == "Selected: press Ctrl-C"
        assert browser.run("return getSelection().toString()").split() == text.split()


def test_a_link_of_the_navigation_leads_to_its_part(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["run"])
    for link in browser.all("nav a"):
        target = browser.run("return document.querySelector(arguments[0].hash).id", link)
        link.click()
        top = browser.run("return document.getElementById(arguments[0]).getBoundingClientRect().top", target)
        height = browser.run("return document.querySelector('nav').offsetHeight")
        assert top >= height - 1, f"{target} lies below the navigation"


def test_the_runs_of_a_phase_are_sorted_by_any_column_the_best_first(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["phase"])

    def names() -> list[str]:
        return [cell.text.removesuffix(" ★") for cell in browser.all("#experiments tbody th")]

    def heading(text: str) -> Any:
        (found,) = [b for b in browser.all("#experiments thead button") if b.text.split("\n")[0].startswith(text)]
        return found

    rows = read_table(pages["phase"].parent / "comparison.csv")
    by_mse = [row["experiment"] for row in sorted(rows, key=lambda row: float(row["val_mse"]))]
    heading("MSE").click()
    assert names() == by_mse
    heading("MSE").click()
    assert names() == by_mse[::-1]
    heading("PSNR").send_keys(Keys.ENTER)
    assert names() == by_mse
    heading("latent_").click()
    assert names() == ["L2", "V4", "L10"]  # by number, not by letters
    sorted_by = browser.all("#experiments thead th:not([aria-sort=none])")
    assert [th.get_attribute("aria-sort") for th in sorted_by] == ["ascending"]
    heading("experiment").click()
    assert names() == ["L2", "L10", "V4"]
    marked = [cell.text for cell in browser.all("#experiments td.best")]
    assert f"{min(float(row['val_mse']) for row in rows):#.4g}" in marked


def test_the_page_of_a_phase_leads_to_those_of_its_runs_wherever_its_folder_lies(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved here"
    shutil.copytree(pages["phase"].parent, moved)
    browser.show(moved / "report.html")
    links = [link.get_attribute("href") for link in browser.all("#experiments a")]
    assert len(links) == 3
    for link in links:
        browser.driver.get(link)
        assert browser.driver.title.startswith("Phase 1.1 · Channels · ")
