"""pure: the text that Prometheus reads, as its own client reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.recorder import Histogram
from gateway.metrics.text import counter, gauge, histogram, labels


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)
def test_whatever_a_model_is_called_its_figures_are_read_as_they_were_counted(name: str) -> None:
    counted = Histogram((1.0, 2.5))
    for value in (0.5, 2.0, 2.5, 7.25):
        counted.add(value)
    each = labels(model=name, code="ok")
    text = histogram("a_seconds", "Some.", [(each, counted)]) + counter("b_total", "More.", [(each, 3)])
    first, second = text_string_to_metric_families(text + gauge("c", "Most.", [("", 0.5)])), {}
    for family in first:
        second |= {
            (each.name, each.labels.get("le")): (each.labels.get("model"), each.value)
            for each in family.samples
        }
    assert second == {
        ("a_seconds_bucket", "1"): (name, 1.0), ("a_seconds_bucket", "2.5"): (name, 3.0),
        ("a_seconds_bucket", "+Inf"): (name, 4.0), ("a_seconds_sum", None): (name, 12.25),
        ("a_seconds_count", None): (name, 4.0), ("b_total", None): (name, 3.0), ("c", None): (None, 0.5),
    }  # fmt: skip
