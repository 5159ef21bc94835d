"""The HTML page, as text and in a browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from pinnerfs.report.html import page
from pinnerfs.report.model import Note, Report
from tests.report.made import EVIL, report, site

THREE = report(
    site(),
    site("0badcafe", 12, owner="mali", site="kbase_x", cma_pages=None),
    site("22222222", 1, owner="rdma", site="ib_umem_get"),
    site("11111111", 1, role="victim", owner="dma-buf", site="cma_heap_allocate"),
)
HOSTILE = report(
    site(owner=EVIL, site=EVIL, stack=(EVIL,), refused=(EVIL,)),
    site("11111111", 1, role="victim", owner=EVIL, site=EVIL),
    headline=EVIL,
    proves=EVIL,
    sources=(EVIL,),
    generation=EVIL,
    notes=(Note(EVIL, EVIL),),
)


class Reader(HTMLParser):
    """Collects the tags and the attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]


@pytest.mark.parametrize("one", [THREE, HOSTILE, report()], ids=["three sites", "hostile", "empty"])
def test_no_outside_references(one: Report) -> None:
    """The page refers to nothing outside itself, and forbids that."""
    text = page(one)
    assert all(re.match(r"#stack-|data:,$", reference) for reference in Reader(text).references)
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text


def test_a_hostile_dump_is_text() -> None:
    """Markup and control characters of a dump add no tag."""
    text = page(HOSTILE)
    assert Reader(text).tags.count("script") == 1
    assert all(char == "\n" or char.isprintable() for char in text)


def test_placeholders_in_a_dump() -> None:
    """A name that looks like a placeholder of the template stays as it is."""
    assert "$headline ${x} $$" in page(report(site(), headline="$headline ${x} $$"))


def test_the_page_is_reproducible() -> None:
    """The same report gives the same page."""
    assert page(THREE) == page(THREE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Debian's chromium without a window; skip, or fail in CI, if it is not installed."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        reason = f"needs {', '.join(missing)}: .ci/setup oracle installs it"
        if os.environ.get("PINNERFS_REQUIRE_FUSE"):
            pytest.fail(reason)
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("browser")
    options = ChromeOptions()
    options.binary_location = programs["chromium"] or ""
    # Chromium's sandbox does not work for root, and a container's /dev/shm may be small.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,1600")
    options.add_argument(f"--user-data-dir={directory}/profile")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver is here, on this machine: no proxy leads to it.
    service = Service(programs["chromedriver"], env=os.environ | {"HOME": str(directory)})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        driver = Chrome(options=options, service=service)
    yield driver
    driver.quit()


def complaints(browser: Chrome) -> list[object]:
    """Return what the browser's console has."""
    return list(browser.get_log("browser"))  # type: ignore[no-untyped-call]


def opened(browser: Chrome, one: Report, directory: Path) -> None:
    """Open the page of a report, and check that the browser has no complaint."""
    file = directory / "report.html"
    file.write_text(page(one), encoding="utf-8")
    browser.get(file.as_uri())
    assert browser.execute_script("return document.readyState") == "complete"
    assert complaints(browser) == []


def column(browser: Chrome, number: int) -> list[str]:
    """Return the text of a column of the table of sites."""
    cells = browser.find_elements(By.CSS_SELECTOR, f"#sites tbody tr td:nth-child({number})")
    return [cell.text for cell in cells]


def test_the_shares_of_the_map() -> None:
    """A cell tells which share of its pages was held, up to all of them."""
    order = report().pageblock_order
    assert order is not None
    full = report(site(blocks=(994,), holds=1))
    hold = replace(full.holds[0], pfn=994 << order, pages=1 << order)
    text = page(replace(full, holds=(hold,)))
    assert 'title="block 994: 100% of the pages"' in text and 'title="block 995: 0% of the pages"' in text


def test_the_value_that_a_column_is_sorted_by() -> None:
    """The column CMA is sorted by its shares, not by numbers of pages that it does not show."""
    text = page(report(site(holds=4, cma_pages=16)))
    assert '<td class="number" data-value="0.25">25%</td>' in text


def test_in_a_browser(browser: Chrome, tmp_path: Path) -> None:
    """A browser shows the page without an error: headline, rows, map, bars, findings and stacks."""
    opened(browser, THREE, tmp_path)
    assert browser.find_element(By.TAG_NAME, "h1").text == "v4l2 is to blame"
    assert column(browser, 1) == ["5e1f09aa", "0badcafe", "22222222"]
    assert [heading.text for heading in browser.find_elements(By.TAG_NAME, "h2")] == [
        "Who was refused",
        "Where the pages are",
        "How long",
        "Findings",
        "Stacks",
        "What was skipped",
    ]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".cells i[style]")) == 7
    assert len(browser.find_elements(By.CSS_SELECTOR, ".track b")) == 3
    assert "vb2_dma_sg_get_userptr+0x130/0x260" in browser.find_element(By.CSS_SELECTOR, "pre").text


def test_the_table_sorts(browser: Chrome, tmp_path: Path) -> None:
    """A click on a title sorts by the numbers behind the text, and a second click the other way round."""
    opened(browser, THREE, tmp_path)
    titles = {title.text: title for title in browser.find_elements(By.CSS_SELECTOR, "#sites th button")}
    assert "holds" in titles and "owner" in titles
    titles["holds"].click()
    assert column(browser, 4) == ["12", "3", "1"]
    titles["holds"].click()
    assert column(browser, 4) == ["1", "3", "12"]
    titles["owner"].click()
    assert column(browser, 2) == ["mali", "rdma", "v4l2"]
    titles["max"].click()
    assert column(browser, 1) == ["0badcafe", "5e1f09aa", "22222222"]
    sorted_by = browser.find_elements(By.CSS_SELECTOR, "#sites th[aria-sort]")
    assert [(title.text.split()[0], title.get_attribute("aria-sort")) for title in sorted_by] == [("max", "descending")]
    assert complaints(browser) == []


def test_a_hostile_page_in_a_browser(browser: Chrome, tmp_path: Path) -> None:
    """A script in a dump does not run: an alert would make the next command fail."""
    opened(browser, HOSTILE, tmp_path)
    assert "<script>alert(1)</script>" in browser.find_element(By.TAG_NAME, "h1").text
