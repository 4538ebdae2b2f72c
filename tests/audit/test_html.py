"""The report of an audit as HTML: what it says, in which order, and that it holds only text."""

import itertools
import re
from pathlib import Path

import pytest

import bap_jax.audit.html
from bap_jax.audit import page
from bap_jax.audit.html import audit_sections, lead_of, render_audit
from bap_jax.audit.text import sentence
from bap_jax.errors import UserError
from tests.audit import example_audits as examples
from tests.audit.page_reader import read

TEMPLATES = Path(bap_jax.audit.html.__file__).parent / "templates"


@pytest.fixture(scope="module", params=examples.AUDITS)
def report(request):
    """An audit, its page as text and as a tree."""
    audit = examples.AUDITS[request.param]()
    text = render_audit(audit, {"command": "python -m bap_jax.audit x.csv", "hashes": {"x": "ab"}})
    return audit, text, read(text)


def test_the_verdict_comes_first(report):
    audit, _, tree = report
    first = tree.first("main").first("section")
    assert first["id"] == "verdict"
    assert first.first("h2").text.strip() == f"Verdict: {audit.verdict.capitalize()}"
    assert first.first("p").text == sentence(audit)
    assert "Tolerance (ε)" in first.first("dl").text
    assert audit.verdict.capitalize() in tree.first("title").text


def test_headings_are_in_order_under_one_h1(report):
    levels = [int(node.tag[1]) for node in report[2].all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_page_is_complete(report):
    assert report[1].startswith("<!doctype html>") and report[1].rstrip().endswith("</html>")


def test_landmarks_and_skip_link(report):
    tree = report[2]
    for tag in ("header", "main", "nav", "footer"):
        assert len(list(tree.all(tag))) == 1
    skip = tree.first("a")
    assert skip["class"] == "skip" and tree.by_id(skip["href"].removeprefix("#"))
    assert tree.first("html")["lang"] == "en"


def test_names_of_elements_are_unique_and_links_lead_somewhere(report):
    names = [node["id"] for node in report[2].all() if node["id"]]
    assert len(names) == len(set(names))
    for link in report[2].all("a"):
        assert link["href"].removeprefix("#") in names
    for node in report[2].all():
        assert not node["aria-labelledby"] or node["aria-labelledby"] in names


def test_every_figure_has_words_and_a_table_behind_it(report):
    figures = list(report[2].all("figure"))
    assert figures
    for figure in figures:
        images = [node for node in figure.all() if node["role"] == "img"]
        assert len(images) == 1
        assert len(images[0]["aria-label"]) > 40
        assert re.search(r"\d", images[0]["aria-label"])
        assert list(figure.first("details").first("tbody").all("tr"))


def test_every_drawing_is_described_or_hidden(report):
    drawings = list(report[2].all("svg"))
    assert drawings
    for svg in drawings:
        assert any(node["aria-hidden"] == "true" for node in (svg, *svg.parents))


def test_tables_have_captions_and_scopes(report):
    for table in report[2].all("table"):
        assert table.first("caption").text.strip()
        heads = list(table.first("thead").all("th"))
        assert all(head["scope"] == "col" for head in heads)
        for row in table.first("tbody").all("tr"):
            cells = list(row.all("th", "td"))
            assert cells[0].tag == "th" and cells[0]["scope"] == "row"
            assert len(cells) == len(heads)


def test_nothing_is_loaded_and_nothing_runs(report):
    _, text, tree = report
    assert not list(tree.all("script", "iframe", "object", "embed", "base", "form"))
    for node in tree.all():
        assert not [name for name in node.attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert not node[name] or node[name].startswith(("#", "data:"))
    style = tree.first("style").text
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text


def test_no_number_is_missing_from_a_drawing(report):
    for svg in report[2].all("svg"):
        for node in (svg, *svg.all()):
            for name, value in node.attributes.items():
                assert not re.search(r"nan|inf", value), (node.tag, name, value)


def test_minus_signs_are_minus_signs(report):
    cells = [cell.text for cell in report[2].all("td")]
    assert not [cell for cell in cells if re.match(r"-\d", cell)]


def test_hostile_names_are_text_everywhere():
    text = render_audit(examples.hostile(), {name: name for name in examples.HOSTILE})
    tree = read(text)
    names = [row.first("th").text for row in tree.by_id("groups").first("tbody").all("tr")]
    assert sorted(names) == sorted(examples.HOSTILE)
    assert "<script" not in text and "49" not in tree.by_id("gaps").first("table").text
    assert examples.LONG in tree.by_id("figure-gaps").text


@pytest.mark.parametrize("key", ["title", "command", "name", "date", "data"])
def test_what_is_said_about_a_report_is_text(key):
    tree = read(render_audit(examples.violated(), {key: examples.SCRIPT}))
    assert not list(tree.all("script"))
    assert examples.SCRIPT in tree.text


def test_provenance_shows_all_that_is_known():
    about = {
        "command": "python -m bap_jax.audit x.csv --tolerance=0.01",
        "versions": {"numpy": "2.0"},
        "hashes": {"x.csv": "00ff"},
        "date": "2026-01-02",
        "name": "A. Person",
        "data_source": "a survey",
    }
    shown = read(render_audit(examples.violated(), about)).by_id("provenance").text
    for words in (about["command"], "numpy 2.0", "x.csv", "00ff", "2026-01-02", "A. Person"):
        assert words in re.sub(r"\s+", " ", shown)
    assert "Data source" in shown and "a survey" in shown and "Signature" in shown


def test_what_was_judged_is_named_as_the_caller_names_it():
    text = render_audit(examples.violated(), {"samples": "photographs"})
    assert "5,400 photographs" in text and "test samples" not in text


@pytest.mark.smoke
def test_ten_thousand_groups_make_a_page_that_opens():
    text = render_audit(examples.huge(), {})
    assert len(text.encode()) < 5_000_000
    tree = read(text)
    details = tree.by_id("groups").first("details")
    assert "10,000 groups" in details.first("summary").text
    assert len(list(details.first("tbody").all("tr"))) == 10_000
    rows = [node for node in tree.by_id("figure-gaps").all("div") if node["class"] == "row"]
    assert len(rows) == 40
    assert tree.by_id("figure-all-gaps")
    skipped = tree.by_id("not-assessed").first("tbody")
    assert len(list(skipped.all("tr"))) == 300


def test_up_to_sixty_groups_are_all_drawn():
    tree = read(render_audit(examples.undecided(60), {}))
    rows = [node for node in tree.by_id("figure-gaps").all("div") if node["class"] == "row"]
    assert len(rows) == 60
    assert "figure-all-gaps" not in [node["id"] for node in tree.all("figure")]


def test_small_groups_and_missing_values_are_named():
    text = read(render_audit(examples.satisfied(), {})).by_id("not-assessed").text
    assert "tiny" in text and examples.SCRIPT in text
    text = read(render_audit(examples.several_attributes(), {})).by_id("not-assessed").text
    assert "race" in text and "missing" in text


def test_groups_of_several_attributes_are_told_apart():
    tree = read(render_audit(examples.several_attributes(), {}))
    names = [row.first("th").text for row in tree.by_id("groups").first("tbody").all("tr")]
    assert {"race=Asian", "gender=f", "race=missing"} <= set(names)


@pytest.mark.parametrize("name", ["undecided", "satisfied", "violated"])
def test_what_is_not_known_fits_the_verdict(name):
    tree = read(render_audit(examples.AUDITS[name](), {}))
    items = [item.first("strong").text for item in tree.by_id("unknown").all("li")]
    assert items[0] == f"What “{name}” does not say."
    assert ("Groups too small." in items) == (name == "satisfied")
    assert "Only right or wrong." in items


def test_without_flips_there_are_words_instead_of_empty_figures():
    tree = read(render_audit(examples.without_flips(), {}))
    names = [node["id"] for node in tree.all("figure")]
    assert names == ["figure-gaps", "figure-accuracy"]
    assert "No sample flipped" in tree.by_id("flips").text


def test_at_tolerance_0_the_samples_needed_are_left_open():
    text = read(render_audit(examples.AUDITS["tolerance 0"](), {})).by_id("unknown").text
    assert "no number of samples" in text


def test_a_page_of_other_parts():
    """What the report of a run puts together: two audits, pictures, no verdict of its own."""
    audits = [examples.violated(), examples.undecided()]
    sections = [
        page.Section(
            f"split-{i}", f"Part {i}", sections=audit_sections(audit, f"{i}-"), closed="Show"
        )
        for i, audit in enumerate(audits)
    ]
    picture = page.Picture("data:image/png;base64,AA==", "a digit", examples.SCRIPT)
    sections.append(page.Section("worst", "Worst samples", [page.Pictures([picture])]))
    lead = page.Lead("", "Two audits.")
    tree = read(page.render_page(page.Page("A run", lead, sections)))
    names = [node["id"] for node in tree.all() if node["id"]]
    assert len(names) == len(set(names))
    assert tree.first("img")["alt"] == "a digit"
    assert "In short" in tree.by_id("verdict").text
    assert [node.text for node in tree.all("h3")][:1] == ["All samples together"]
    assert lead_of(audits[0]).verdict == "violated"


def test_a_picture_must_be_in_the_page():
    with pytest.raises(UserError, match="starts with 'data:image/', got 'https://x'"):
        page.Pictures([page.Picture("https://x", "", "")])


@pytest.mark.parametrize("words", ["a'b", "</style>", "a\\b", "é\n;}", "plain words"])
def test_strings_of_css_hold_anything(words):
    text = page.css_string(words)
    assert re.fullmatch(r"'[a-zA-Z0-9 \\]*'", text)
    unescaped = re.sub(r"\\([0-9a-f]+) ", lambda m: chr(int(m[1], 16)), text[1:-1])
    assert unescaped == words


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Of WCAG 2, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_on_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_from_their_background(theme):
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.css").read_text(), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme == "dark"]))
    for background in ("paper", "panel"):
        for text in ("ink", "muted", "link"):
            assert contrast(colours[text], colours[background]) >= 4.5, (text, background)
    for verdict in ("good", "bad", "open"):
        assert contrast(colours[verdict], colours[f"{verdict}-panel"]) >= 4.5
        for text in ("ink", "muted"):
            assert contrast(colours[text], colours[f"{verdict}-panel"]) >= 4.5
    for mark in ("harm", "help", "bar", "apart", "accent", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert contrast(colours[mark], colours["paper"]) >= 3, mark
