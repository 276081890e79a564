"""What a browser makes of a page: the report's tests open it in Chromium where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["CHROMIUM", "Seen", "needs_chromium", "open_page"]

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the report with")

LISTEN = """<script>
window.seen = {errors: [], requests: []};
addEventListener("error", (e) => seen.errors.push(String(e.message || e.target.outerHTML)), true);
document.addEventListener("securitypolicyviolation", (e) => seen.errors.push(e.violatedDirective + " " + e.blockedURI));
</script>"""
TELL = """<script>
addEventListener("load", () => {
  seen.requests = performance.getEntriesByType("resource").map((r) => r.name).filter((n) => !n.startsWith("data:"));
  seen.images = [...document.images].map((i) => ({alt: i.alt, width: i.naturalWidth, shown: i.getBoundingClientRect().width}));
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.stages = [...document.querySelectorAll(".stage")].map((s) => s.innerText.split("\\n").filter(Boolean));
  DO
  const told = btoa(encodeURIComponent(JSON.stringify(seen)));
  document.body.append(Object.assign(document.createElement("pre"), {id: "seen", textContent: told}));
});
</script>"""


@dataclass(frozen=True)
class Seen:
    """What the page did: errors and refused requests, requests made, its pictures, and how much wider than the window it is."""

    errors: list[str]
    requests: list[str]
    images: list[dict[str, object]]
    overflow: float
    stages: list[list[str]]
    log: str
    result: object = None


def open_page(page: str, folder: Path, *, width: int = 1200, then: str = "") -> Seen:
    """Open the HTML ``page`` in a window of that width; ``then`` is JavaScript that may set ``seen.result``."""
    from base64 import b64decode
    from urllib.parse import unquote

    file = folder / "page.html"
    page = page.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{TELL.replace('DO', then)}</body>", 1)
    file.write_text(page, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1600", "--virtual-time-budget=4000", "--dump-dom",
        file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = re.search(r'<pre id="seen">([^<]+)</pre>', done.stdout)
    if found is None:
        raise RuntimeError(f"the page's scripts did not end; Chromium says: {done.stderr[-2000:]}")
    log = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Seen(**json.loads(unquote(b64decode(found[1]).decode())), log=log)
