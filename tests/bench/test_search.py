"""pure: the search for the highest rate that is borne, over servers whose limit is known."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.search import Search, Verdict


def searched(search: Search, showed: Callable[[float], Verdict]) -> list[float]:
    """The rates that it tried, in order."""
    tried = []
    while (rate := search.rate) is not None:
        tried.append(rate)
        search.tell(showed(rate))
    return tried


def up_to(limit: float) -> Callable[[float], Verdict]:
    return lambda rate: Verdict.BORNE if rate <= limit else Verdict.OVER


@given(limit=st.floats(2, 1e6), start=st.floats(1, 1e4), tolerance=st.floats(0.01, 0.5))
def test_the_limit_is_between_the_two_rates_it_ends_with(limit, start, tolerance):
    search = Search(start, tolerance=tolerance, repeats=1)
    if limit < start / 1000:
        return
    tried = searched(search, up_to(limit))
    assert search.low <= limit < search.high
    assert search.high <= search.low * (1 + tolerance)
    steps = abs(math.log2(limit / start)) + max(0.0, math.log2(math.log(2) / math.log1p(tolerance)))
    assert len(tried) <= steps + 4


def test_rates_double_until_one_is_not_borne_and_then_the_bracket_is_halved():
    tried = searched(Search(100, repeats=1, tolerance=0.2), up_to(550))
    assert tried == pytest.approx([100, 200, 400, 800, 400 * 2**0.5, 400 * 2**0.25])


def test_a_majority_decides_and_no_trial_is_made_that_changes_nothing():
    counts = Counter(searched(Search(100, repeats=5), up_to(300)))
    assert set(counts.values()) == {3}


def test_one_bad_trial_does_not_end_the_search():
    bad = iter([Verdict.OVER])
    tried = searched(Search(100, repeats=3), lambda rate: next(bad, up_to(350)(rate)))
    assert tried[:4] == [100, 100, 100, 200]


def test_a_server_that_is_borne_now_and_then_near_its_limit_is_found_near_it():
    source = random.Random(1)

    def noisy(rate: float) -> Verdict:
        chance = 1 / (1 + math.exp((rate - 1000) / 20))
        return Verdict.BORNE if source.random() < chance else Verdict.OVER

    for _ in range(20):
        search = Search(100)
        searched(search, noisy)
        assert 900 < search.low < search.high < 1100


def test_the_highest_rate_ends_it_where_it_is_borne():
    search = Search(100, highest=300, repeats=1)
    assert searched(search, up_to(1e9)) == [100, 200, 300]
    assert (search.low, search.high, search.limit) == (300, math.inf, None)


def test_a_server_that_bears_nothing_is_given_up():
    search = Search(100, repeats=1)
    tried = searched(search, up_to(0))
    assert tried[-1] < 0.2
    assert len(tried) == 11
    assert (search.low, search.limit) == (0, Verdict.OVER)


def test_it_is_known_when_the_executor_was_the_limit():
    search = Search(100, repeats=3)
    searched(search, lambda rate: Verdict.BORNE if rate < 500 else Verdict.NOT_KEPT)
    assert search.limit is Verdict.NOT_KEPT


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"start": 0}, "the first rate is more than 0, and no higher than the highest"),
        ({"start": 9, "highest": 8}, "the first rate is more than 0, and no higher than the highest"),
        ({"start": 9, "repeats": 0}, "the tolerance is more than 0, and a rate is tried once or more often"),
        (
            {"start": 9, "tolerance": 0},
            "the tolerance is more than 0, and a rate is tried once or more often",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(settings, problem):
    with pytest.raises(ValueError, match=problem):
        Search(**settings)
