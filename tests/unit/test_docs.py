"""The README and docs/ tell the truth as far as a program can check it."""

import dataclasses
import re
from pathlib import Path

import pytest

from zerokernel.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
SETTING = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link names a file of the repository, and every anchor a heading in it."""
    for link in LINK.findall(TEXTS[page]):
        if re.match(r"[a-z]+://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_can_be_reached_from_the_readme():
    """No page of docs/ is left without a link from the README or from a page that has one."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in TEXTS:
            continue
        reached.add(page)
        links = LINK.findall(TEXTS[page])
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links]
    assert reached == set(PAGES)


def documented_settings() -> dict[str, tuple[str, str]]:
    text = TEXTS[ROOT / "docs" / "configuration.md"]
    return {name: (default, meaning) for name, default, meaning in SETTING.findall(text)}


def test_the_table_has_exactly_the_settings_there_are():
    """A setting that is not documented, and a documented one that is not there, both fail."""
    assert list(documented_settings()) == [field.name for field in dataclasses.fields(Settings)]


@pytest.mark.parametrize(
    "field",
    [f for f in dataclasses.fields(Settings) if f.default is not dataclasses.MISSING],
    ids=lambda field: field.name,
)
def test_the_documented_default_is_the_default(field):
    """The table's default, read as TOML would be, is the one in the code."""
    default, _ = documented_settings()[field.name]
    values = {"true": True, "false": False}
    word = default.strip("`")
    shown = word.strip('"') if word.startswith('"') else values.get(word, word)
    assert str(shown) == str(field.default)


def test_the_documented_meaning_is_the_one_in_the_code():
    """Docstring and table say the same about each setting."""
    docstring = " ".join((Settings.__doc__ or "").split())
    for name, (_, meaning) in documented_settings().items():
        assert f"{name}: {meaning}" in docstring


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_commands_exist(page):
    """Every `make NAME` that a page tells the reader to type is a target."""
    told = set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXTS[page], re.MULTILINE))
    assert told <= make_targets()


def test_the_readme_tells_the_two_commands():
    """The set-up is `make demo` and `make test`, and continuous integration runs the latter."""
    told = re.findall(r"^make ([a-z-]+)", TEXTS[ROOT / "README.md"], re.MULTILINE)
    assert told == ["demo", "test"]
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_zerokernel_exist(page, capsys):
    """Every `zerokernel NAME` that a page tells the reader to type is a command."""
    from zerokernel import cli

    with pytest.raises(SystemExit):
        cli.main(["--help"])
    known = capsys.readouterr().out
    for command in re.findall(r"(?:^|`)zerokernel ([a-z-]+)", TEXTS[page], re.MULTILINE):
        assert re.search(rf"^\s+{command}\s", known, re.MULTILINE), command


def test_the_options_in_the_readme_are_options():
    """Every option that the README shows behind `%%gpu` is one that it takes."""
    from zerokernel.notebook.options import OPTIONS

    flags = {flag for option in OPTIONS for flag in option.flags}
    for page, text in TEXTS.items():
        for line in re.findall(r"%%gpu ([^\n`]*)", text):
            for option in re.findall(r"(?<!\w)--?[a-z]+", line):
                assert option in flags, (page.name, option)


def test_no_page_names_this_machine():
    """Nothing that a reader gets holds a path of the machine it was written on."""
    for page, text in TEXTS.items():
        assert str(ROOT) not in text, page.name
