"""The page in a real browser: nothing in the console, nothing wider than the window."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.record.reader import Record
from analysis.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the path"),
]
PROBE = """
<script>
window.addEventListener("load", () => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const wide = [...document.body.querySelectorAll("*")]
    .filter((e) => !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.tagName + "." + e.className + ":" + e.textContent.trim().slice(0, 30));
  const all = document.documentElement;
  document.title = "width " + innerWidth + " scroll " + all.scrollWidth + " wide " + wide.join("|");
});
</script>
"""


@pytest.fixture(scope="module")
def page(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report with a script that opens every part and measures the page."""
    report = write_report(record, tmp_path_factory.mktemp("browser"))
    probed = report.page.with_name("probed.html")
    probed.write_text(report.page.read_text(encoding="utf-8") + PROBE, encoding="utf-8")
    return probed


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_the_console_is_silent(page: Path, width: int, scheme: str) -> None:
    """Use a frame of the wanted width, because headless windows are at least 500 pixels wide."""
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(
        f'<iframe id="f" src="{page.name}" style="width:{width}px;height:2000px;border:0"></iframe>'
        "<script>onload = () => setTimeout(() => { document.title = "
        'document.getElementById("f").contentDocument.title; }, 500);</script>',
        encoding="utf-8",
    )
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--v=0",
        "--window-size=1400,2100",
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        "--virtual-time-budget=4000",
        "--dump-dom",
        frame.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title is not None, done.stdout[:500]
    measured = re.match(r"width (\d+) scroll (\d+) wide ?(.*)", title[1], flags=re.DOTALL)
    assert measured is not None, title[1]
    assert int(measured[1]) == width
    assert int(measured[2]) <= width, measured[3]
    assert measured[3] == ""
    assert "CONSOLE" not in done.stderr
