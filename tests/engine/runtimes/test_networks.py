"""contract: networks of torchvision's and transformers' interfaces answer through both kinds of torch program
as they do in torch."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import ModelError
from common.tensor import TensorSpec
from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Runtime
from engine.runtimes.torch_outputs import MAX_DETECTIONS, NO_SCORE, name_outputs
from tests.services.networks import DeepLab, FasterRcnn, ResNet18, Roberta

CPU = torch.device("cpu")
ENDINGS = ["ts", "pt2"]
ROWS = torch.export.Dim("rows", min=1, max=4096)


def runtime_of(network: nn.Module, ending: str, *example: torch.Tensor, free: Any = None) -> Runtime:
    """A network, saved and loaded again; `free` says which dimensions are, the rows if it is not given."""
    file = io.BytesIO()
    if ending == "ts":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(network), file)
    else:
        shapes = tuple({0: ROWS} for _ in example) if free is None else free
        program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
        torch.export.save(program, file)
    return load_runtime(file.getvalue(), None, LoadOptions(), CPU)


def ready(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_resnet_gives_scores_of_a_thousand_classes(ending):
    torch.manual_seed(0)
    network, images = ready(ResNet18(width=8)), torch.rand(3, 3, 224, 224)
    runtime = runtime_of(network, ending, images[:2].clone())
    layout, (scores,) = runtime.run([images.numpy()])
    assert layout == (TensorSpec("result", "FP32", (1000,)),)
    np.testing.assert_allclose(scores, network(images).numpy(), atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_segmentation_network_gives_the_tensors_of_its_dict_by_their_keys(ending):
    torch.manual_seed(0)
    network, images = ready(DeepLab()), torch.rand(3, 3, 48, 64)
    runtime = runtime_of(network, ending, images[:2].clone())
    layout, (scores,) = runtime.run([images.numpy()])
    assert layout == (TensorSpec("out", "FP32", (21, 48, 64)),)
    np.testing.assert_allclose(scores, network(images)["out"].numpy(), atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_text_network_takes_ids_and_a_mask_of_any_length(ending):
    torch.manual_seed(0)
    network = ready(Roberta())
    ids, mask = torch.randint(2, 640, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    tokens = torch.export.Dim("tokens", min=2, max=512)
    free = ({0: ROWS, 1: tokens}, {0: ROWS, 1: tokens})
    runtime = runtime_of(network, ending, ids[:2].clone(), mask[:2].clone(), free=free)
    for length in (9, 4):
        given = [ids[:, :length], mask[:, :length]]
        _, (scores,) = runtime.run([each.numpy().copy() for each in given])
        np.testing.assert_allclose(scores, network(*given).numpy(), atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_detector_gives_what_it_found_in_each_image_with_room_for_more(ending):
    network, images = ready(FasterRcnn()), torch.zeros(3, 3, 32, 32)
    images[0, :, 8:16, 24:32] = 0.75
    images[2, :, 0:8, 0:8] = 0.6
    images[2, :, 24:32, 8:16] = 0.9
    fixed = (None,)  # an exported detector takes one image at a time, as the numbers of what it finds differ
    runtime = runtime_of(network, ending, images[:1].clone(), free=fixed)
    layout, outputs = runtime.run([images.numpy()])
    assert layout == (
        TensorSpec("boxes", "FP32", (MAX_DETECTIONS, 4)),
        TensorSpec("labels", "INT64", (MAX_DETECTIONS,)),
        TensorSpec("scores", "FP32", (MAX_DETECTIONS,)),
    )
    boxes, labels, scores = outputs
    found = scores > 0
    assert found.sum(1).tolist() == [1, 0, 2]
    assert boxes[0][found[0]].tolist() == [[24, 8, 32, 16]]
    assert boxes[2][found[2]].tolist() == [[8, 24, 16, 32], [0, 0, 8, 8]]  # the surer one first
    assert scores[2][:2] == pytest.approx([0.9, 0.6])
    assert labels[found].tolist() == [1, 1, 1]
    assert (scores[~found] == NO_SCORE).all()


def detections(count: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    scores = torch.linspace(0, 1, count)
    return {"boxes": torch.zeros(count, 4), "scores": scores, **more}


def test_of_more_detections_than_there_is_room_for_the_surest_stay():
    named = dict(name_outputs([detections(1000), detections(5)]))
    assert named["boxes"].shape == (2, MAX_DETECTIONS, 4)
    scores = named["scores"]
    assert scores[0].tolist() == torch.linspace(0, 1, 1000).flip(0)[:MAX_DETECTIONS].tolist()
    assert scores[1, 4:6].tolist() == [0.0, NO_SCORE]


def test_a_mask_for_every_detection_is_left_out():
    assert [name for name, _ in name_outputs([detections(2, masks=torch.zeros(2, 1, 8, 8))])] == [
        "boxes",
        "scores",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        [{"boxes": torch.zeros(2, 4)}],
        [{"boxes": torch.zeros(2, 4), "scores": torch.zeros(3)}],
        [{"boxes": [1.0], "scores": torch.zeros(1)}],
        [],
    ],
)
def test_what_is_no_detection_is_refused_in_words(answer):
    with pytest.raises(ModelError) as refused:
        name_outputs(answer)
    assert str(refused.value) == "the model answered with a list, not with tensors"
