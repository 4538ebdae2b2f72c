"""Chromium without a window: pages are opened, and measured from within, at any width."""

import contextlib
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
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


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder: Path):
    """The address of a server of the folder: of files, a browser does not list what they load."""
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(address: str, profile: Path, *flags: str) -> subprocess.CompletedProcess:
    """Opens a page; its console is in the standard error."""
    command = [
        PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", *flags, address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


def console(page: Path) -> list[str]:
    """What the console of the browser says about a page: errors of scripts, of SVG, of a policy."""
    found = run(page.as_uri(), page.parent / "profile").stderr.splitlines()
    return [line for line in found if "CONSOLE" in line]


def measured(
    pages: Sequence[str],
    folder: Path,
    size: tuple[int, int],
    *,
    open_tables: bool = True,
    axe: str = "",
    flags: Sequence[str] = (),
) -> list[dict]:
    """Measures copies of the pages, each in a frame of its own: a frame may be as narrow as 360 px.

    Args:
      pages: HTML.
      folder: for the copies.
      size: width and height of the frames, in CSS pixels.
      open_tables: whether to open all tables before measuring.
      axe: the source of axe-core, to be run as well.
      flags: of the browser.
    """
    frames = []
    for index, page in enumerate(pages):
        # The policy of a report forbids every script, also the one that measures.
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        settings = f"const INDEX = {index}, OPEN = {int(open_tables)}, AXE = {int(bool(axe))};"
        scripts = f"<script>{axe}</script><script>{settings}{MEASURE}</script>"
        copy = folder / f"copy-{index}.html"
        copy.write_text(page.replace("<head>", "<head>" + scripts, 1))
        style = f"width:{size[0]}px;height:{size[1]}px;border:0"
        frames.append(f'<iframe src="{copy.name}" style="{style}"></iframe>')
    around = folder / "frames.html"
    collect = _COLLECT.replace("COUNT", str(len(pages)))
    around.write_text("<!doctype html><meta charset=utf-8>" + collect + "".join(frames))
    with served(folder) as address:
        flags = ("--virtual-time-budget=60000", *flags)
        shown = run(f"{address}/{around.name}", folder / "profile", *flags).stdout
    found = re.search(r"<pre>(.*?)</pre>", shown, re.S)
    assert found and found[1], "a page did not report what was measured"
    return sorted(json.loads(html.unescape(found[1])), key=lambda result: result["index"])
