"""Contract: models whose numbers would lead LightGBM or XGBoost out of their memory never reach them."""

import json

import pytest

from engine.runtimes.options import LoadOptions
from tests.engine.runtimes.refusals import refused


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("left_child=1", "left_child=99"),
        ("left_child=1", "left_child=0"),
        ("split_feature=2", "split_feature=400"),
        ("max_feature_idx=3", "max_feature_idx=1"),
        ("num_leaves=", "num_leaves=9"),
        ("\nTree=1\n", "\nTree=7\n"),
        ("end of trees", "end of it"),
        ("threshold=", "threshold=x"),
        ("decision_type=2", "decision_type=3"),
        ("num_tree_per_iteration=3", "num_tree_per_iteration=4"),
    ],
)
def test_a_lightgbm_model_that_would_end_the_process_or_leave_its_memory(
    sample_of, old: str, new: str
) -> None:
    text = sample_of("lightgbm").data.decode()
    assert old in text
    said = refused(text.replace(old, new, 1).encode(), "lightgbm", LoadOptions())
    assert said.startswith("the file is no LightGBM model, or not all of it: ")


@pytest.mark.parametrize(
    ("path", "value"),
    [(("left_children", 0), 999), (("left_children", 0), 0), (("split_indices", 0), 77)],
)
def test_an_xgboost_model_whose_trees_lead_nowhere(sample_of, path: tuple[str, int], value: int) -> None:
    model = json.loads(sample_of("xgboost json").data)
    tree = model["learner"]["gradient_booster"]["model"]["trees"][3]
    tree[path[0]][path[1]] = value
    assert refused(json.dumps(model).encode(), None, LoadOptions()).startswith(
        "the file is no XGBoost model, or not all of it: a node of a tree "
    )
