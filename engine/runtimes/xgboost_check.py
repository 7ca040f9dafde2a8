"""Are these bytes a whole XGBoost model? Told without XGBoost, which believes the numbers it reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from engine.runtimes.ubjson import read_ubjson

_INDEXES = ("left_children", "right_children", "parents", "split_indices")
_CATEGORIES = ("nodes", "segments", "sizes")
_MOST_CATEGORIES = 2**24  # XGBoost holds a category in a float32
_LEAF = -1
_NO_PARENT = 2**31 - 1


def check_xgboost(data: bytes) -> str:
    """Which booster it is: gbtree, dart or gblinear. `ValueError` unless all its numbers lead somewhere."""
    model = read_ubjson(data) if data.startswith(b"{L") else json.loads(data)
    try:
        learner = model["learner"]
        booster, shape = learner["gradient_booster"], learner["learner_model_param"]
        name = str(booster["name"])
        if name == "gblinear":
            return name
        _check_trees(booster["gbtree"]["model"] if "gbtree" in booster else booster["model"], shape)
    except (KeyError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from error
    return name


def _check_trees(model: dict[str, Any], shape: dict[str, str]) -> None:
    features = int(shape["num_feature"])
    groups = max(int(shape["num_class"]), int(shape.get("num_target", 1)), 1)
    count = len(model["trees"])
    if len(model["tree_info"]) != count or int(model["gbtree_model_param"]["num_trees"]) != count:
        raise ValueError(f"it has {count} trees and says that it has others")
    if not all(0 <= group < groups for group in model["tree_info"]):
        raise ValueError(f"a tree belongs to none of {groups} answers")
    bounds = list(model.get("iteration_indptr", [0, count]))
    if bounds != sorted(bounds) or bounds[0] != 0 or bounds[-1] != count:
        raise ValueError("its iterations are not made of its trees")
    for tree in model["trees"]:
        nodes = int(tree["tree_param"]["num_nodes"])
        if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
            raise ValueError("its trees have several targets each (multi_output_tree), and are not served")
        if nodes < 1 or any(len(tree[name]) != nodes for name in (*_INDEXES, "split_conditions")):
            raise ValueError(f"a tree of {nodes} nodes has not as many numbers")
        _check_tree(*(np.asarray(tree[name], np.int64) for name in _INDEXES), features=features)
        _check_categories(tree, nodes)


def _check_tree(lefts: Any, rights: Any, parents: Any, splits: Any, *, features: int) -> None:
    inner = lefts != _LEAF
    if not np.array_equal(inner, rights != _LEAF):
        raise ValueError("a node of a tree has one child")
    children = np.concatenate([lefts[inner], rights[inner]])
    # No node has two parents, and the root none: so nothing that begins at the root comes back.
    if len(np.unique(children)) != len(children) or (children < 1).any() or (children >= len(lefts)).any():
        raise ValueError("a node of a tree leads nowhere, or back")
    at = np.flatnonzero(inner)
    if parents[0] != _NO_PARENT or not np.array_equal(parents[children], np.concatenate([at, at])):
        raise ValueError("a node of a tree names another parent than its own")
    if not (((parents >= 0) & (parents < len(lefts))) | (parents == _NO_PARENT)).all():
        raise ValueError("a node of a tree names a parent that is not there")
    if not ((splits[inner] >= 0) & (splits[inner] < features)).all():
        raise ValueError(f"a node of a tree asks for a feature beyond the {features} there are")


def _check_categories(tree: dict[str, Any], nodes: int) -> None:
    """Nodes that split by category name their pieces of one list of categories."""
    at, starts, sizes = (np.asarray(tree.get(f"categories_{part}", []), np.int64) for part in _CATEGORIES)
    categories = np.asarray(tree.get("categories", []), np.int64)
    kinds = np.asarray(tree.get("split_type", []), np.int64)
    if not len(at) == len(starts) == len(sizes) or ((at < 0) | (at >= nodes)).any():
        raise ValueError("a tree's sets of categories are not there")
    if (starts < 0).any() or (sizes < 0).any() or (starts > len(categories) - sizes).any():
        raise ValueError("a tree's sets of categories are not there")
    if ((categories < 0) | (categories >= _MOST_CATEGORIES)).any():
        raise ValueError("a tree has more categories than XGBoost can count")
    if len(kinds) not in {0, nodes} or not set(np.flatnonzero(kinds).tolist()) <= set(at.tolist()):
        raise ValueError("a tree splits by categories that are not there")
