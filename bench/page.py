"""A page of documentation with a place for figures, between two lines of their own. Pure."""

from __future__ import annotations


def markers(name: str) -> tuple[str, str]:
    """The lines before and after the place of this name."""
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text in the place of this name; `ValueError` where it has none."""
    begin, end = markers(name)
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no place for the table: lines {begin.strip()} and {end.strip()}")
    return before + begin + text + end + after
