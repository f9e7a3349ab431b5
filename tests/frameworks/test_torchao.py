"""torchao: modules with quantised weights cross, and give equal outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.notebook import ON_DEVICE, Notebook

pytest.importorskip("torch")
pytest.importorskip("torchao")

MODEL = """
import copy, torch
from torch import nn
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).eval()
x = torch.randn(4, 64)
"""
CONFIGS = ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig"]


@pytest.mark.parametrize("config", CONFIGS)
def test_quantised_in_a_plain_cell(notebook: Notebook, config: str) -> None:
    """Weights that were quantised in the notebook are the same in the worker, and stay there."""
    notebook.once(MODEL)
    notebook.cell(
        f"""
        model = copy.deepcopy(plain)
        quantize_(model, {config}())
        weights = [model[0].weight, model[2].weight]
        with torch.inference_mode():
            here = model(x)
        """
    )
    notebook.gpu("with torch.inference_mode():\n    there = model(x)\nkind = type(model[0].weight)")
    first = notebook.receipt["sent_bytes"]
    notebook.gpu("with torch.inference_mode():\n    again = model(x)")
    assert notebook.receipt["sent_bytes"] < first / 2
    assert (
        notebook.cell(
            """
            print(torch.equal(here, there), torch.equal(here, again), torch.equal(here, plain(x)))
            weight = model[0].weight
            print(type(weight) is kind, weights[0] is weight, isinstance(weight, nn.Parameter))
            """
        )
        == "True True False\nTrue True True"
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_quantised_in_a_gpu_cell(notebook: Notebook, config: str) -> None:
    """A GPU cell quantises the notebook's model in place; plain cells compute with it."""
    notebook.once(MODEL)
    notebook.cell(
        f"""
        model, other = copy.deepcopy(plain), copy.deepcopy(plain)
        quantize_(other, {config}())
        layer = model[0]
        """
    )
    notebook.gpu(
        f"quantize_(model, {config}())\nwith torch.inference_mode():\n    there = model(x)"
    )
    assert (
        notebook.cell(
            """
            with torch.inference_mode():
                print(torch.equal(model(x), there), torch.equal(other(x), there))
            print(layer is model[0], model[2] is layer)
            print(type(layer.weight) is type(other[0].weight), layer.weight.shape)
            print(torch.equal(layer.weight.dequantize(), other[0].weight.dequantize()))
            """
        )
        == "True True\nTrue False\nTrue torch.Size([128, 64])\nTrue"
    )


def test_files_of_quantised_weights(notebook: Notebook, tmp_path: Path) -> None:
    """A state_dict saved by one kind of cell is loaded by the other."""
    notebook.once(MODEL)
    notebook.cell(
        f"""
        path = {str(tmp_path / "weights.pt")!r}
        model = copy.deepcopy(plain)
        quantize_(model, Int8WeightOnlyConfig())
        """
    )
    notebook.gpu("torch.save(model.state_dict(), path)")
    assert (
        notebook.cell(
            """
            fresh = copy.deepcopy(plain)
            fresh.load_state_dict(torch.load(path, weights_only=False), assign=True)
            with torch.inference_mode():
                print(torch.equal(fresh(x), model(x)))
            """
        )
        == "True"
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_on_a_device(notebook: Notebook, config: str) -> None:
    """Quantised before or after it was placed in a plain cell, a model answers in a GPU cell."""
    notebook.once(ON_DEVICE)
    notebook.once(MODEL)
    notebook.restart_worker()  # torchao's operators know the device from their import on
    notebook.cell(
        f"""
        model, other = copy.deepcopy(plain), copy.deepcopy(plain).to("cuda")
        quantize_(model, {config}())
        with torch.inference_mode():
            here = model(x)
        model.to("cuda")
        """
    )
    notebook.gpu(
        f"""
        quantize_(other, {config}())
        with torch.inference_mode():
            there, again = model(x.to("cuda")), other(x.to("cuda"))
        """
    )
    assert (
        notebook.cell(
            """
            print(there.device, again.device, model[0].weight.device, other[0].weight.device)
            print(torch.equal(here, there.cpu()), torch.equal(here, again.cpu()))
            with torch.inference_mode():
                print(torch.equal(model(x.cuda()), there), torch.equal(other(x.cuda()), there))
            """
        )
        == "cuda:0 cuda:0 cuda:0 cuda:0\nTrue True\nTrue True"
    )
