"""The page of figures that these suites write their tables into. Pure."""

from __future__ import annotations


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text between this table's markers; `ValueError` where it has none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no place for the table: lines {begin.strip()} and {end.strip()}")
    return before + begin + text + end + after
