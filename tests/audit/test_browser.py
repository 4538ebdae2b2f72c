"""The report of an audit in a browser, as a reader sees it on a telephone and on a desktop."""

import os
from pathlib import Path

import numpy as np
import pytest

from bap_jax.audit import compare_methods, page
from bap_jax.audit.comparison_html import render_comparison
from bap_jax.audit.html import render_audit
from bap_jax.audit.svg import bars, curves
from bap_jax.reporting import render_run
from tests.audit import example_audits as examples
from tests.audit.chromium import console, measured, needs_chromium
from tests.reporting.fakes import run_record

pytestmark = [needs_chromium, pytest.mark.smoke]
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
        curves.draw_curves(series, "figure-curves", "Multipliers"),
        curves.draw_curves(
            series[:2], "figure-two", "Violations", levels=[curves.Level(1.0, "tolerance")]
        ),
        bars.draw_bars(layers, "figure-bars", "Sparsity of each layer", thing="weight"),
        page.Pictures([page.Picture(PIXEL, "a digit", "a 7 taken for a 1")] * 12),
    ]
    lead = page.Lead("", "A run.")
    return page.render_page(page.Page("A run", lead, [page.Section("run", "Run", parts)]))


def page_of_a_comparison():
    """Three methods, one of them with a long name, on groups with hostile ones."""
    rng = np.random.default_rng(0)
    names = [*examples.HOSTILE, "small"]
    groups = np.repeat(names, 100)
    dense = rng.random(len(groups)) < 0.9
    methods = ("nft", "ceag, " + "pruning.sparsity=0.95, " * 4, "<b>el</b>")
    correct = {name: rng.random((2, len(groups))) < 0.85 for name in methods}
    found = compare_methods(correct, dense, groups, tolerance=0.02, resamples=100)
    return render_comparison(found, ABOUT)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    reports = {name: render_audit(make(), ABOUT) for name, make in examples.AUDITS.items()}
    whole_run = render_run(run_record(tmp_path_factory.mktemp("run")))
    return {
        **reports,
        "a run": page_of_a_run(),
        "a whole run": whole_run,
        "a comparison": page_of_a_comparison(),
    }


@pytest.fixture(scope="module", params=SIZES)
def results(request, pages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    found = measured(list(pages.values()), folder, SIZES[request.param])
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


def test_a_name_that_is_cut_ends_in_an_ellipsis(results):
    for name, result in results.items():
        assert result["cutWithoutRoom"] == [], name


def test_hostile_names_are_shown_literally(results):
    assert sorted(results["hostile"]["names"]) == sorted(examples.HOSTILE)


def test_what_goes_wrong_is_noticed(tmp_path):
    """The same measures, for a page on which everything that they look for is wrong."""
    bad = """<!doctype html><head></head><body style="margin:0"><div id="verdict"
    style="height:700px;width:400px;font-size:9px">tiny</div><figure><svg class="drawing">
    <text y="20">one</text><text y="22">other</text></svg></figure>
    <script>alert(1); nothing.here</script><img src="missing.png"></body>"""
    (result,) = measured([bad], tmp_path, SIZES["telephone"])
    assert result["overflow"] == 40 and result["verdictBottom"] == 700
    assert result["alerts"] == 1 and len(result["errors"]) == 1
    assert len(result["requests"]) == 1
    assert result["overlaps"] == ["one / other"] and result["withoutWords"] == 1
    assert result["smallestType"] == 9
    wrong = tmp_path / "wrong.html"
    wrong.write_text('<svg><line x1="nan"/></svg>')
    assert len(console(wrong)) == 1


@pytest.mark.parametrize(
    "name", ["hostile", "violated", "counts alone", "a run", "a whole run", "a comparison"]
)
def test_the_console_stays_silent(name, pages, tmp_path):
    report = tmp_path / "report.html"
    report.write_text(pages[name])
    assert console(report) == []


def test_ten_thousand_groups_open_at_360_pixels(tmp_path):
    report = render_audit(examples.huge(), ABOUT)
    (result,) = measured([report], tmp_path, SIZES["telephone"], open_tables=False)
    assert result["overflow"] <= 0
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
    results = measured(list(pages.values()), tmp_path, SIZES[size], axe=axe, flags=flags)
    for name, result in zip(pages, results, strict=True):
        serious = [text for text in result["axe"] if text.startswith(("serious", "critical"))]
        assert not serious, name
