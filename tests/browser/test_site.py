"""The site from its folder: no page asks another host, no link leads nowhere, the search finds."""

import pytest
from playwright.sync_api import expect

from tripletlib.publishing import site

pytest.importorskip("myst_nb", reason="the extra `site` is not installed: make site")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site's folder, and what Sphinx warned of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "open_retrieval", lambda **_: None)
        patch.setattr(
            site, "write_query_page", lambda _, file: file.write_text("<title>page</title>")
        )
        folder = tmp_path_factory.mktemp("site")
        return folder, site.build_site(folder)


@pytest.fixture
def page(new_page):
    return new_page()


def test_every_page_is_built_without_a_warning(built):
    folder, warnings = built
    assert warnings == []
    lessons = {page.stem for page in (folder / "notebooks").glob("0*.html")}
    assert len(lessons) == len(list((folder / "notebooks" / "exercises").glob("0*.html"))) == 5
    assert (folder / "index.html").read_bytes() == (folder / "README.html").read_bytes()
    assert not list(folder.rglob("*source*/**/*solution*"))


def test_no_page_asks_another_host_or_fails(built, page):
    asked, problems = set(), []
    page.on("request", lambda request: asked.add(request.url.partition(":")[0]))
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
    pages = [file for file in sorted(built[0].rglob("*.html")) if "_static" not in file.parts]
    for file in pages:
        page.goto(file.as_uri())
        assert page.title(), file
        assert page.locator("html").get_attribute("lang") == "en" or file.name == site.QUERY_PAGE
    assert asked <= {"file", "data", "blob"}
    # What a page still asked for when the next one was opened is no fault of it.
    assert [problem for problem in problems if "ERR_ABORTED" not in problem] == []
    assert len(pages) > 20


def test_formulas_are_drawn_by_the_browser(built, page):
    page.goto((built[0] / "notebooks" / "02_hard_mining_explained.html").as_uri())
    formula = page.locator("math").first
    expect(formula).to_be_visible()
    assert formula.bounding_box()["height"] > 8


def test_the_search_finds_without_a_server(built, page):
    page.goto(f"{(built[0] / 'search.html').as_uri()}?q=reciprocal")
    expect(page.locator("#search-results li").first).to_be_visible()
