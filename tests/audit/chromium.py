"""Chromium without a window: pages are opened, and measured from within, at any width."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_chromium = pytest.mark.skipif(
    not PROGRAM, reason="there is no Chromium: install Debian's package `chromium`"
)
MEASURE = (Path(__file__).parent / "measure_page.js").read_text()
_COLLECT = """<script>
const results = [];
addEventListener("message", (event) => {
  results.push(event.data);
  if (results.length === COUNT) document.querySelector("pre").textContent = JSON.stringify(results);
});
</script><pre></pre>"""


def run(page: Path, *flags: str, seconds: float = 120) -> subprocess.CompletedProcess:
    """Opens a page; its console is in the standard error."""
    command = [
        PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", *flags,
        page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)


def console(page: Path) -> list[str]:
    """What the console of the browser says about a page: errors of scripts, of SVG, of a policy."""
    return [line for line in run(page, "--dump-dom").stderr.splitlines() if "CONSOLE" in line]


def measured(
    pages: Sequence[str], folder: Path, width: int, height: int, axe: str = "", flags=()
) -> list[dict]:
    """Measures copies of the pages, each in a frame of its own: a frame may be as narrow as 360 px.

    Args:
      pages: HTML.
      folder: for the copies.
      width, height: of the frames, in CSS pixels.
      axe: the source of axe-core, to be run as well.
      flags: of the browser.
    """
    frames = []
    for index, page in enumerate(pages):
        # The policy of a report forbids every script, also the one that measures.
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        settings = f"const INDEX = {index}, AXE = {json.dumps(bool(axe))};"
        scripts = f"<script>{axe}</script><script>{settings}{MEASURE}</script>"
        copy = folder / f"copy-{index}.html"
        copy.write_text(page.replace("<head>", "<head>" + scripts, 1))
        style = f"width:{width}px;height:{height}px;border:0"
        frames.append(f'<iframe src="{copy.name}" style="{style}"></iframe>')
    around = folder / "frames.html"
    collect = _COLLECT.replace("COUNT", str(len(pages)))
    around.write_text("<!doctype html><meta charset=utf-8>" + collect + "".join(frames))
    shown = run(around, "--dump-dom", "--virtual-time-budget=60000", *flags).stdout
    found = re.search(r"<pre>(.*?)</pre>", shown, re.S)
    assert found and found[1], "a page did not report what was measured"
    return sorted(json.loads(html.unescape(found[1])), key=lambda result: result["index"])
