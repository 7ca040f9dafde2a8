"""Runtime of a program that `torch.export.save` wrote (.pt2), of torch 2.8 or later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.runtimes.filling import choose_multiple
from engine.runtimes.options import LoadOptions
from engine.runtimes.pt2_check import check_pt2, require_operators_of
from engine.runtimes.runtime import Specs, datatype_of, first_line
from engine.runtimes.source import Source, open_source, source_size
from engine.runtimes.torch_call import TorchRuntime


def load(source: Source, options: LoadOptions, device: torch.device) -> TorchRuntime:
    """A warm runtime of tensors in, tensors out, the first dimension of each being the rows.

    A program exported for exactly so many rows gets exactly so many. `LoadError` for what is no such
    program, or could run code as it loads.
    """
    options.refuse("architecture", "arguments", "methods", because="a torch.export program has no use for it")
    with open_source(source) as file:
        try:
            if options.allow_pickle:
                require_operators_of(torch._C.PyTorchFileReader(file))
            else:
                check_pt2(file)
            file.seek(0)
            program = torch.export.load(source if isinstance(source, Path) else file)
            inputs, fixed_rows = _signature(program)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            network = program.module()
        except LoadError:
            raise
        except Exception as error:  # torch raises a dozen kinds here, none of them its own
            raise LoadError(
                f"the file is not what torch.export.save wrote (torch 2.8 or later), or not all of it: "
                f"{first_line(error)}"
            ) from error
    multiple = choose_multiple(options, source_size(source))
    return TorchRuntime(
        network, options.inputs or inputs, device, rows_multiple=multiple, fixed_rows=fixed_rows
    )


def _signature(program: torch.export.ExportedProgram) -> tuple[Specs, int]:
    """What one row of each input is, and the number of rows where that is fixed, else 0."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    specs: list[TensorSpec] = []
    rows: set[int] = set()
    for name in program.graph_signature.user_inputs:
        value: Any = values.get(str(name))
        if not isinstance(value, torch.Tensor) or not value.ndim:
            raise LoadError(f"its input {name} is no tensor of rows")
        sizes = [size if isinstance(size, int) else -1 for size in value.shape]
        rows.add(max(sizes[0], 0))
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
        specs.append(TensorSpec(str(name), datatype_of(dtype), tuple(sizes[1:])))
    if len(rows) != 1:
        raise LoadError(f"its inputs have different numbers of rows: {sorted(rows)} (0 is any)")
    return tuple(specs), rows.pop()
