"""The docs site: a page for everything public, no link into nothing, and a site that asks no other machine."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sfumato.claims import CLAIMS
from sfumato.learn import languages
from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.export.overview import opening

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gather() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gather_docs", ROOT / "scripts" / "gather_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_has_its_page_and_every_page_its_place(gather: ModuleType) -> None:
    pages, config = gather.gathered()
    expected = (
        "core.sampling",
        "samplers.ddim",
        "core.dpm2015.products",
        "papers.ddpm",
        "models.model",
        "train.loop",
        "cli.sample",
    )
    for module in expected:
        assert f"::: sfumato.{module}" in pages[f"api/{module}.md"]
    beside = {"contributing.md", "citation.md", "notice.md", "first_model.ipynb"}  # linked, not in the navigation
    assert set(re.findall(r": ([\w./]+\.md)$", config, re.MULTILINE)) == set(pages) - beside
    for lesson in CATALOGUE:
        assert lesson.title in pages["lessons.md"]
    assert all(f"`{name}`" in pages["claims.md"] for name in CLAIMS)


def test_the_path_is_told_in_each_language_and_leads_to_what_was_exported(gather: ModuleType) -> None:
    pages, _ = gather.gathered({"index.html", "ddim.html", "ddim.zh.html"})
    told = {"en": pages["lessons.md"], "zh": pages["lessons.zh.md"]}
    for language, other in (("en", "lessons.zh.md"), ("zh", "lessons.md")):
        parts = re.split(r"^## ", told[language], flags=re.MULTILINE)
        assert len(parts) == 1 + len(CATALOGUE)
        with languages.using(language):
            for lesson, part in zip(CATALOGUE, parts[1:], strict=True):
                assert languages.tr(lesson.title) in part
                assert f"({other}#{lesson.name})" in part
                assert len(opening(lesson)) > 60
                assert opening(lesson) in part
        read = "ddim.html" if language == "en" else "ddim.zh.html"
        assert re.findall(r"\]\(lessons/(ddim[^)]*)\)", told[language]) == [read]
    assert "(lessons/index.html)" in told["en"]
    assert "(lessons/" not in gather.gathered()[0]["lessons.md"]


def test_no_link_leads_nowhere(gather: ModuleType) -> None:
    pages, _ = gather.gathered()
    for name, text in pages.items():
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                known = target in pages or (ROOT / "docs" / target).is_file()
                assert known, f"{name} links to {target}"


@pytest.mark.slow
def test_the_site_is_whole_without_a_network() -> None:
    pytest.importorskip("zensical")
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("Chromium is not installed (Debian: chromium)")
    subprocess.run([sys.executable, "scripts/gather_docs.py"], cwd=ROOT, check=True)
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "-f", "mkdocs.yml"], cwd=ROOT / "build", check=True)
    serve = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", "build/site"]
    with (
        subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
        api.sync_playwright() as driver,
    ):
        assert server.stdout is not None
        found = re.search(r"port (\d+)", server.stdout.readline())
        assert found
        base, outside, errors = f"http://127.0.0.1:{found[1]}/", [], []
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": 390, "height": 900})
        page.on("request", lambda r: None if r.url.startswith((base, "data:", "blob:")) else outside.append(r.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        for name in ("index", "lessons", "claims", "goldens", "api/samplers.ddim"):
            page.goto(f"{base}{name}.html")
            page.locator("h1").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 391
        page.goto(f"{base}formulas.html")
        page.locator(".katex").nth(60).wait_for(timeout=20_000)
        assert page.locator(".katex-error").count() == 0
        page.set_viewport_size({"width": 1280, "height": 900})
        page.keyboard.press("/")
        page.keyboard.type("hutchinson")
        page.get_by_text("likelihood").first.wait_for(timeout=20_000)
        browser.close()
        server.kill()
    assert not outside
    assert not errors
