"""Pure: gateway/catalog.py; which version a request is admitted under."""

import pytest

from common.errors import NoWeights
from gateway.catalog import Active, Catalog
from gateway.requests import ModelKey


def version(number: str, model: str = "default") -> Active:
    return Active(ModelKey(model, number), f"{number:>032}", "0" * 64, 10)


def test_where_nothing_serves_a_request_is_told_so() -> None:
    catalog = Catalog()
    with pytest.raises(NoWeights, match=r"^No weights loaded$"):
        catalog.active()
    assert catalog.get("default") is None
    assert catalog.all() == []


def test_the_version_that_was_switched_to_last_serves() -> None:
    catalog = Catalog()
    catalog.switch(version("1"))
    admitted = catalog.active()
    catalog.switch(version("2"))
    assert catalog.active() == catalog.get("default") == version("2")
    assert admitted == version("1")
    assert catalog.all() == [version("2")]


def test_models_are_switched_and_cleared_one_by_one() -> None:
    catalog = Catalog()
    catalog.switch(version("1"))
    catalog.switch(version("7", "other"))
    assert catalog.active("other") == version("7", "other")
    catalog.clear("default")
    catalog.clear("never was")
    assert catalog.all() == [version("7", "other")]
    with pytest.raises(NoWeights):
        catalog.active()
