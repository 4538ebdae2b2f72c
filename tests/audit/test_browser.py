"""The report of an audit in a browser, as a reader sees it on a telephone and on a desktop."""

import os
from pathlib import Path

import numpy as np
import pytest

from bap_jax.audit import page
from bap_jax.audit.html import render_audit
from bap_jax.audit.svg import bars, curves
from tests.audit import example_audits as examples
from tests.audit.chromium import console, measured, needs_chromium

pytestmark = needs_chromium
ABOUT = {"command": "python -m bap_jax.audit predictions.csv --tolerance=0.01 " + "--x=" + "y" * 90}
ABOUT["hashes"] = {"predictions-of-a-model-with-a-long-name.csv": "0123456789abcdef" * 4}
SIZES = {"telephone": (360, 640), "tablet": (768, 1024), "desktop": (1280, 800)}
# One white pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP8/x8AAwMCAO"
    "+ip1sAAAAASUVORK5CYII="
)


def page_of_a_run():
    """Figures that the report of a run adds to those of an audit."""
    rng = np.random.default_rng(0)
    steps = np.arange(5000)
    series = [
        curves.Series(f"group {name}", steps, np.exp(rng.normal(0, 0.02, 5000).cumsum()))
        for name in [*range(20), examples.LONG]
    ]
    layers = [bars.Bar(f"block_{i}/conv/kernel", i / 20, 1000 * i) for i in range(1, 20)]
    parts = [
        curves.draw_curves(series, "figure-curves", "Multipliers", log=True),
        curves.draw_curves(
            series[:2], "figure-two", "Violations", levels=[curves.Level(1.0, "tolerance")]
        ),
        bars.draw_bars(layers, "figure-bars", "Sparsity of each layer", thing="weight"),
        page.Pictures([page.Picture(PIXEL, "a digit", "a 7 taken for a 1")] * 12),
    ]
    lead = page.Lead("", "A run.")
    return page.render_page(page.Page("A run", lead, [page.Section("run", "Run", parts)]))


@pytest.fixture(scope="module")
def pages():
    reports = {name: render_audit(make(), ABOUT) for name, make in examples.AUDITS.items()}
    return {**reports, "a run": page_of_a_run()}


@pytest.fixture(scope="module", params=SIZES)
def results(request, pages, tmp_path_factory):
    width, height = SIZES[request.param]
    found = measured(list(pages.values()), tmp_path_factory.mktemp("pages"), width, height)
    return dict(zip(pages, found, strict=True))


def test_no_script_error_and_no_request(results):
    for name, result in results.items():
        assert result["errors"] == [] and result["alerts"] == 0, name
        assert result["requests"] == [], name


def test_nothing_overflows_also_with_all_tables_open(results):
    for name, result in results.items():
        assert result["overflow"] <= 0, name
        assert result["overflowOpen"] <= 0, name


def test_the_verdict_is_within_the_first_screen(results):
    for name, result in results.items():
        assert result["verdictBottom"] <= result["height"], name


def test_every_figure_has_words_and_something_to_see(results):
    for name, result in results.items():
        assert result["withoutWords"] == 0 and result["empty"] == 0, name


def test_type_is_never_tiny(results):
    for name, result in results.items():
        assert result["smallestType"] >= 11, name


def test_words_in_figures_do_not_overlap(results):
    for name, result in results.items():
        assert result["overlaps"] == [], name


def test_hostile_names_are_shown_literally(results):
    assert sorted(results["hostile"]["names"]) == sorted(examples.HOSTILE)


@pytest.mark.parametrize("name", ["hostile", "violated", "counts alone", "a run"])
def test_the_console_stays_silent(name, pages, tmp_path):
    report = tmp_path / "report.html"
    report.write_text(pages[name])
    assert console(report) == []


def test_ten_thousand_groups_open_at_360_pixels(tmp_path):
    (result,) = measured([render_audit(examples.huge(), ABOUT)], tmp_path, 360, 640)
    assert result["overflow"] <= 0 and result["overflowOpen"] <= 0
    assert len(result["names"]) == 10_000
    assert result["verdictBottom"] <= 640 and result["overlaps"] == []


@pytest.mark.skipif(
    "AXE_CORE" not in os.environ,
    reason="set AXE_CORE to the file axe.min.js of the npm package `axe-core`",
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_violation(pages, size, scheme, tmp_path):
    axe = Path(os.environ["AXE_CORE"]).read_text()
    flags = [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    results = measured(list(pages.values()), tmp_path, *SIZES[size], axe, flags)
    for name, result in zip(pages, results, strict=True):
        serious = [text for text in result["axe"] if text.startswith(("serious", "critical"))]
        assert not serious, name
