"""Pure: gateway/models/catalog.py; which version a request is admitted under."""

import pytest

from common.errors import NotFound, NoWeights
from gateway.models.catalog import Catalog, Version
from gateway.scheduling.requests import ModelKey


def version(number: str, model: str = "default") -> Version:
    return Version(ModelKey(model, number), f"{number:>032}", "0" * 64, 10)


def test_where_nothing_serves_a_request_is_told_so() -> None:
    catalog = Catalog()
    with pytest.raises(NoWeights, match=r"^No weights loaded$"):
        catalog.active()
    assert catalog.get("default") is None
    assert catalog.all() == []


def test_the_version_that_was_switched_to_last_is_active() -> None:
    catalog = Catalog()
    catalog.switch(version("1"))
    admitted = catalog.active()
    catalog.switch(version("2"))
    assert catalog.active() == catalog.get("default") == version("2")
    assert admitted == version("1")


def test_a_version_serves_by_its_name_until_it_is_removed() -> None:
    catalog = Catalog()
    catalog.switch(version("1"))
    catalog.add(version("2"))
    catalog.switch(version("3"))
    assert [catalog.find("default", each) for each in "123"] == [version(each) for each in "123"]
    catalog.remove(version("1").key)
    assert catalog.all() == catalog.of("default") == [version("2"), version("3")]
    with pytest.raises(NotFound, match=r"^version 1 of default does not serve: there are 2, 3$"):
        catalog.find("default", "1")


def test_a_model_whose_active_version_is_removed_answers_only_who_names_another() -> None:
    catalog = Catalog()
    catalog.add(version("1"))
    catalog.switch(version("2"))
    catalog.remove(version("2").key)
    assert catalog.get("default") is None
    with pytest.raises(NoWeights):
        catalog.active()
    assert catalog.find("default", "1") == version("1")


def test_models_know_nothing_of_each_other() -> None:
    catalog = Catalog()
    catalog.switch(version("1"))
    catalog.switch(version("7", "other"))
    assert catalog.models() == ["default", "other"]
    catalog.remove(version("1").key)
    catalog.remove(version("never was").key)
    assert catalog.all() == [version("7", "other")]
    assert catalog.active("other") == version("7", "other")


def test_a_model_nobody_knows_is_not_found() -> None:
    for ask in (lambda c: c.active("x"), lambda c: c.find("x", "1")):
        with pytest.raises(NotFound, match=r"^there is no model x: GET /models says which there are$"):
            ask(Catalog())
