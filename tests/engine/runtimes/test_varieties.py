"""Contract: the kinds of models that each library makes, beyond the one of the contract, load and answer."""

import io
from typing import Any

import lightgbm
import numpy as np
import pytest
import skops.io
import torch
import xgboost
from onnx import TensorProto, helper
from sklearn.datasets import load_iris, make_regression
from sklearn.linear_model import LogisticRegression
from torch import nn

from common.errors import LoadError, ModelError
from common.tensor import TensorSpec
from engine.rows import NUMPY_TYPES
from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Runtime

CPU = torch.device("cpu")


def load(data: bytes, options: LoadOptions | None = None) -> Any:
    return load_runtime(data, None, options or LoadOptions(), CPU)


def regression_rows(target: int = 1) -> tuple[Any, Any]:
    x, y = make_regression(400, 6, n_targets=target, random_state=1)
    x[:, 0] = np.abs(x[:, 0] * 3).astype(int) % 5  # a category
    return x.astype(np.float32), y


xgboost_models: dict[str, dict[str, Any]] = {
    "linear": {"booster": "gblinear"},
    "dart": {"booster": "dart", "rate_drop": 0.3},
    "forest": {"num_parallel_tree": 4, "subsample": 0.5},
    "pruned": {"gamma": 5000, "max_depth": 6},
    "two targets": {"targets": 2},
    "lossguide": {"tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 9},
    "categories": {"categories": True, "max_cat_to_onehot": 1},
    "one-hot categories": {"categories": True, "max_cat_to_onehot": 100},
}


@pytest.mark.parametrize("form", ["ubj", "json"])
@pytest.mark.parametrize("name", xgboost_models)
def test_xgboost(name: str, form: str) -> None:
    parameters = {"nthread": 1, "verbosity": 0, **xgboost_models[name]}
    x, y = regression_rows(parameters.pop("targets", 1))
    kinds = ["c"] + ["q"] * 5 if parameters.pop("categories", False) else None
    # Two of them: of one that it was trained on, XGBoost remembers the answers, summed in another order.
    trained, asked = (
        xgboost.DMatrix(x, y, feature_types=kinds, enable_categorical=kinds is not None) for _ in range(2)
    )
    booster = xgboost.train(parameters, trained, 8)
    answers = load(bytes(booster.save_raw(form))).run([x.copy()])[1][0]
    np.testing.assert_array_equal(answers, booster.predict(asked))


def test_xgboost_trees_of_several_targets_are_refused_in_words() -> None:
    x, y = regression_rows(2)
    parameters = {"nthread": 1, "multi_strategy": "multi_output_tree"}
    booster = xgboost.train(parameters, xgboost.DMatrix(x, y), 3)
    with pytest.raises(LoadError, match=r"several targets each \(multi_output_tree\), and are not served$"):
        load(bytes(booster.save_raw()))


def test_xgboost_of_three_classes_that_stopped_early_answers_as_its_classifier() -> None:
    x, y = load_iris(return_X_y=True)
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, learning_rate=0.9, n_jobs=1)
    model.fit(x[::2], y[::2], eval_set=[(x[1::2], y[1::2])], verbose=False)
    assert model.best_iteration < 59
    answers = load(bytes(model.get_booster().save_raw())).run([x.astype(np.float32)])[1][0]
    np.testing.assert_array_equal(answers, model.predict_proba(x.astype(np.float32)))


def test_xgboost_takes_nan_for_a_value_that_is_missing() -> None:
    x, y = regression_rows()
    x[::3, 2] = np.nan
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(x, y), 5)
    answers = load(bytes(booster.save_raw())).run([x.copy()])[1][0]
    np.testing.assert_array_equal(answers, booster.predict(xgboost.DMatrix(x)))


lightgbm_models: dict[str, dict[str, Any]] = {
    "dart": {"boosting": "dart"},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "categories": {"categorical_feature": [0], "min_data_per_group": 1, "cat_smooth": 1},
    "one-hot categories": {"categorical_feature": [0], "max_cat_to_onehot": 100},
    "trees of one leaf": {"min_data_in_leaf": 1000},
    "binary": {"objective": "binary"},
    "poisson": {"objective": "poisson"},
}


@pytest.mark.parametrize("name", lightgbm_models)
def test_lightgbm(name: str) -> None:
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1, **lightgbm_models[name]}
    x, y = regression_rows()
    x, y = x.astype(np.float64), np.abs(y)
    if parameters["objective"] == "binary":
        y = (y > np.median(y)).astype(int)
    categories = parameters.pop("categorical_feature", "auto")
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, categorical_feature=categories), 8)
    answers = load(booster.model_to_string().encode()).run([x.copy()])[1][0]
    np.testing.assert_array_equal(answers, booster.predict(x, num_threads=1))


def test_lightgbm_with_the_line_ends_of_windows() -> None:
    x, y = regression_rows()
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 3)
    data = booster.model_to_string().replace("\n", "\r\n").encode()
    np.testing.assert_array_equal(load(data).run([x.astype(np.float64)])[1][0], booster.predict(x))


def test_lightgbm_of_linear_trees_is_refused_in_words() -> None:
    x, y = regression_rows()
    parameters = {"verbosity": -1, "num_threads": 1, "linear_tree": True}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), 3)
    with pytest.raises(LoadError, match=r"its trees are linear, and such trees are not served$"):
        load(booster.model_to_string().encode())


class Two(nn.Module):
    """Two inputs, one of free length; two outputs, one of half precision."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": a.sum(1) + b, "half": b.half()}


def test_a_torch_export_program_of_two_inputs_and_a_free_length() -> None:
    rows, length = torch.export.Dim("rows", min=1, max=4096), torch.export.Dim("length", min=2, max=100)
    program = torch.export.export(
        Two(), (torch.zeros(3, 5), torch.zeros(3)), dynamic_shapes=({0: rows, 1: length}, {0: rows})
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    runtime = load(file.getvalue())
    assert runtime.inputs == (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", ()))
    assert runtime.outputs is None
    layout, outputs = runtime.run([np.ones((3, 7), np.float32), np.arange(3, dtype=np.float32)])
    assert layout == (TensorSpec("sum", "FP32", ()), TensorSpec("half", "FP32", ()))
    assert [output.tolist() for output in outputs] == [[7, 8, 9], [0, 1, 2]]


def test_an_onnx_model_of_words_takes_and_gives_them() -> None:
    text = helper.make_tensor_value_info("words", TensorProto.STRING, ["n"])
    out = helper.make_tensor_value_info("same", TensorProto.STRING, ["n"])
    graph = helper.make_graph([helper.make_node("Identity", ["words"], ["same"])], "g", [text], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    runtime = load(model.SerializeToString())
    assert runtime.inputs == (TensorSpec("words", "BYTES", ()),)
    layout, [answer] = runtime.run([np.array(["größer".encode(), b""], np.object_)])
    assert layout == (TensorSpec("same", "BYTES", ()),)
    assert answer.tolist() == ["größer", ""]
    with pytest.raises(
        ModelError, match=r"^ONNX models take text, and the row holds bytes that are not UTF-8"
    ):
        runtime.run([np.array([b"\xff"], np.object_)])


@pytest.mark.parametrize(
    ("kind", "datatype", "sentence"),
    [
        ("sklearn", "BYTES", "a scikit-learn model takes no BYTES, and its input x is said to be"),
        ("onnx", "BF16", "an ONNX model takes no BF16, and its input x is said to be"),
        ("torch", "BYTES", "a torch state_dict takes no BYTES, and its input x is said to be"),
    ],
)
def test_a_format_that_does_not_know_a_datatype_says_so(kind: str, datatype: str, sentence: str) -> None:
    with pytest.raises(LoadError) as raised:
        load_runtime(b"", kind, LoadOptions(inputs=(TensorSpec("x", datatype, (1,)),)), torch.device("cpu"))
    assert str(raised.value) == sentence


def upper(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A callable of BYTES."""
    return np.array([[each.upper() for each in row] for row in text], np.object_)


def doubled(halves: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A callable that keeps its dtype."""
    return halves * 2


def callable_of(name: str, datatype: str) -> Runtime:
    options = LoadOptions(inputs=(TensorSpec("x", datatype, (2,)),), allow_code=(__name__,))
    return load(f"{__name__}:{name}".encode(), options)


def test_a_callable_takes_and_gives_bytes() -> None:
    layout, [answer] = callable_of("upper", "BYTES").run([np.array([[b"a", b"\xffb"]], np.object_)])
    assert layout == (TensorSpec("result", "BYTES", (2,)),)
    assert answer.tolist() == [[b"A", b"\xffB"]]


def test_a_callable_takes_halves_as_they_are_and_bfloat16_as_float32() -> None:
    layout, [answer] = callable_of("doubled", "FP16").run([np.array([[1.5, -2]], np.float16)])
    assert (layout, answer.tolist()) == ((TensorSpec("result", "FP16", (2,)),), [[3.0, -4.0]])
    bits = np.array([[0x3FC0, 0xC000]], np.uint16).view(NUMPY_TYPES["BF16"])  # 1.5 and -2
    layout, [answer] = callable_of("doubled", "BF16").run([bits])
    assert (layout, answer.tolist()) == ((TensorSpec("result", "FP32", (2,)),), [[3.0, -4.0]])


def test_a_torch_model_of_bfloat16_is_given_it_and_answered_as_float32() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Identity().bfloat16()), file)
    runtime = load(file.getvalue(), LoadOptions(inputs=(TensorSpec("x", "BF16", (2,)),)))
    bits = np.array([[0x3FC0, 0xC000]], np.uint16).view(NUMPY_TYPES["BF16"])
    layout, [answer] = runtime.run([bits])
    assert (layout, answer.tolist()) == ((TensorSpec("result", "FP32", (2,)),), [[1.5, -2.0]])


def test_a_classifier_of_words_is_refused_in_words_unless_it_is_asked_for_numbers() -> None:
    x, y = load_iris(return_X_y=True)
    data = skops.io.dumps(LogisticRegression(max_iter=1000).fit(x, np.array(["a", "b", "c"])[y]))
    with pytest.raises(
        LoadError, match=r"^its predict answers with words \(a, b, c…\), and answers are numb"
    ):
        load(data)
    layout, _ = load(data, LoadOptions(methods=("predict_proba",))).run([x])
    assert layout == (TensorSpec("predict_proba", "FP64", (3,)),)


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (nn.Flatten(0), "the model answered 16 rows with result of shape [64]: "),
        (nn.LSTM(4, 2), "the model answered with a tuple, not with tensors"),
    ],
)
def test_a_network_that_does_not_answer_row_by_row_is_refused(network: nn.Module, sentence: str) -> None:
    file = io.BytesIO()
    torch.save(network.state_dict() or {}, file)
    name, arguments = type(network).__name__, {"input_size": 4, "hidden_size": 2}
    options = LoadOptions(
        architecture=f"torch.nn:{name}",
        arguments=arguments if name == "LSTM" else {"start_dim": 0},
        inputs=(TensorSpec("x", "FP32", (4,)),),
        allow_code=("torch.nn",),
    )
    with pytest.raises(LoadError) as raised:
        load(file.getvalue(), options)
    assert str(raised.value).startswith(f"the model loads, but does not run on zeros: {sentence}")


def test_rows_that_no_machine_has_room_for_are_refused_before_they_are_made() -> None:
    options = LoadOptions(architecture="linear", inputs=(TensorSpec("x", "FP32", (2**31 - 1, 2**31 - 1)),))
    file = io.BytesIO()
    torch.save({"coefs": torch.tensor([2.0, 3.0])}, file)
    with pytest.raises(LoadError, match=r"input x has rows of .*, and at most 268435456 are allowed"):
        load(file.getvalue(), options)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("1", "the function answered with a str, not with NumPy arrays"),
        (np.zeros(2, np.complex64), "the model answers with complex64, which no answer can carry"),
        (
            np.zeros(3),
            "the model answered 2 rows with result of shape [3]: its first dimension has to be the rows",
        ),
    ],
)
def test_a_callable_that_answers_with_something_else_fails_in_words(answer: Any, sentence: str) -> None:
    from engine.runtimes.python_callable import CallableRuntime

    runtime = CallableRuntime(lambda _: answer, LoadOptions())
    assert (runtime.inputs, runtime.outputs) == (None, None)
    with pytest.raises(ModelError) as raised:
        runtime.run([np.zeros((2, 1))])
    assert str(raised.value) == sentence


def test_rows_are_filled_up_for_small_models_and_by_choice() -> None:
    from engine.runtimes.filling import SMALL, choose_multiple

    assert choose_multiple(LoadOptions(), SMALL) == 16
    assert choose_multiple(LoadOptions(), SMALL + 1) == 1
    assert choose_multiple(LoadOptions(rows_multiple=4), SMALL + 1) == 4
    with pytest.raises(ValueError, match="rows_multiple is 0, and has to be at least 1"):
        LoadOptions(rows_multiple=0)
