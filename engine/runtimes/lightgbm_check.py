"""Is this text a whole LightGBM model? Told without LightGBM, which ends the process on one that is not.

It reads trees on several threads, where an error has nobody to catch it, follows a tree's numbers without
looking where they lead, and takes a list of parameters without an end for memory (all seen).
"""

from __future__ import annotations

import json
import re

from common.errors import LoadError

_INTS_PER_SPLIT = ("split_feature", "decision_type", "left_child", "right_child")
_CATEGORICAL = 1  # a bit of decision_type

Fields = dict[str, str]

_TREE_SIZES = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)
_NO_PARAMETERS = "\n\nparameters:\n\nend of parameters\n\npandas_categorical:null\n"


def checked_lightgbm(text: str) -> str:
    """What LightGBM needs of the text to predict: its trees, without the parameters they were trained by,
    and without their sizes, so that it reads one after the other and an error has somebody to catch it.

    `LoadError` unless every tree is there and every number of it leads somewhere.
    """
    try:
        trees, end, rest = text.replace("\r\n", "\n").partition("\nend of trees\n")
        if not end:
            raise ValueError("it has no end")
        _check_trees(trees)
        _check_rest(rest)
        return _TREE_SIZES.sub("", trees) + end + _NO_PARAMETERS
    except (KeyError, ValueError, IndexError) as error:
        raise LoadError(f"the file is no LightGBM model, or not all of it: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)[:200]


def _check_rest(rest: str) -> None:
    """It is not used, but a file that is not whole may have been meant otherwise."""
    _, start, parameters = rest.partition("\nparameters:")
    after = rest
    if start:
        _, end, after = parameters.partition("\nend of parameters")
        if not end:
            raise ValueError("its parameters have no end")
    _, categories, listed = after.partition("pandas_categorical:")
    if categories:
        json.loads(listed)
    elif start and after.strip():
        raise ValueError("it ends in the middle of a line")


def _check_trees(trees: str) -> None:
    header, *blocks = trees.split("\nTree=")
    fields = _fields(header)
    features = int(fields["max_feature_idx"]) + 1
    classes, per_iteration = int(fields["num_class"]), int(fields["num_tree_per_iteration"])
    if min(features, classes, per_iteration) < 1 or len(blocks) % per_iteration or not blocks:
        raise ValueError(f"it has {len(blocks)} trees of {features} features for {classes} classes")
    if max(classes, per_iteration, features) > 1_000_000:
        raise ValueError("it has more classes or features than any model")
    for name in ("feature_names", "feature_infos"):
        if len(fields[name].split()) != features:
            raise ValueError(f"{name} has {len(fields[name].split())} of {features} features")
    for at, block in enumerate(blocks):
        number, _, rest = block.partition("\n")
        if int(number) != at:
            raise ValueError(f"tree {number[:20]} stands where tree {at} should")
        _check_tree(_fields(rest), features)


def _fields(block: str) -> Fields:
    return {
        name: value
        for name, is_field, value in (line.partition("=") for line in block.split("\n"))
        if is_field
    }


def _check_tree(fields: Fields, features: int) -> None:
    leaves = int(fields["num_leaves"])
    splits = leaves - 1
    if leaves < 1 or len(fields["leaf_value"].split()) < leaves:
        raise ValueError(f"a tree of {leaves} leaves has not as many values")
    list(map(float, fields["leaf_value"].split()))
    if fields.get("is_linear", "0") != "0":
        raise ValueError("its trees are linear, and such trees are not served")
    if not splits:
        return
    numbers = {name: list(map(int, fields[name].split())) for name in _INTS_PER_SPLIT}
    for name, values in numbers.items():
        if len(values) != splits:
            raise ValueError(f"a tree of {splits} splits has {len(values)} {name}")
    thresholds = list(map(float, fields["threshold"].split()))
    if len(thresholds) != splits or not all(0 <= each < features for each in numbers["split_feature"]):
        raise ValueError("a tree's splits are not by its features")
    # A split makes a later one: so no tree leads back to where it came from.
    for name in ("left_child", "right_child"):
        if not all(at < child < splits or -leaves <= child < 0 for at, child in enumerate(numbers[name])):
            raise ValueError("a tree's children are not there")
    _check_categories(fields, numbers["decision_type"], thresholds)


def _check_categories(fields: Fields, decisions: list[int], thresholds: list[float]) -> None:
    """A categorical split's threshold says which set of categories is its own."""
    count = int(fields.get("num_cat", "0"))
    used = [at for decision, at in zip(decisions, thresholds, strict=True) if decision & _CATEGORICAL]
    if not all(0 <= at < count for at in used):
        raise ValueError("a tree's sets of categories are not there")
    if not count:
        return
    bounds = list(map(int, fields["cat_boundaries"].split()))
    words = list(map(int, fields["cat_threshold"].split()))
    if len(bounds) != count + 1 or bounds != sorted(bounds) or bounds[0] or bounds[-1] != len(words):
        raise ValueError("a tree's sets of categories are not there")
