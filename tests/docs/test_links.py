"""Links between README and pages lead somewhere; pages stay as short as they are meant to be."""

import posixpath

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, read

ENTRIES = ("README.md", "docs/index.md")
# The toctrees of these pages list the notebooks and files of the root, which the build copies.
LINES = {"README.md": 150, "CONTRIBUTING.md": 40, "BUILD_NOTES.md": 250}


def is_outside(target):
    return target.startswith(("https://", "http://", "mailto:"))


def target_of(page, link):
    """Path from the root, and anchor, of a link to a file of the repository."""
    path, _, anchor = link.partition("#")
    return posixpath.normpath(
        posixpath.join(posixpath.dirname(page), path)
    ) if path else page, anchor


@pytest.mark.parametrize("page", [page for page in PAGES if links(page)])
def test_links_lead_somewhere(page):
    for link in links(page):
        if is_outside(link):
            continue
        path, anchor = target_of(page, link)
        assert not path.startswith(".."), f"{page}: {link} leaves the repository"
        assert (ROOT / path).exists(), f"{page}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(path), f"{page}: {path} has no heading #{anchor}"


def test_every_page_can_be_reached():
    """By links alone, from the README."""
    reached, left = set(), list(ENTRIES)
    while left:
        page = left.pop()
        if page in reached or page not in PAGES:
            continue
        reached.add(page)
        left += [target_of(page, link)[0] for link in links(page) if not is_outside(link)]
        left += toctree(page)
    assert set(PAGES) <= reached


def toctree(page):
    """Pages that the table of contents of a page lists."""
    names = [line.strip().rpartition("<")[2].rstrip(">") for line in read(page).splitlines()]
    return [target_of(page, f"{name}.md")[0] for name in names if name and " " not in name]


@pytest.mark.parametrize("page", LINES)
def test_short_pages_stay_short(page):
    assert len(read(page).splitlines()) <= LINES[page]
