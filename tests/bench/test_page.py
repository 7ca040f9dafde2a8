"""pure: figures in the place that a page has for them."""

import pytest

from bench.page import replaced

PAGE = "before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n"


def test_figures_take_the_place_of_those_before_them():
    assert replaced(PAGE, "x", "new\n") == "before\n<!-- x -->\nnew\n<!-- end of x -->\nafter\n"


def test_a_page_without_a_place_is_said_to_have_none():
    with pytest.raises(ValueError, match="no place for the table: lines <!-- y --> and <!-- end of y -->"):
        replaced(PAGE, "y", "")
