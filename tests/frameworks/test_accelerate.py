"""accelerate: models dispatched over devices and disk, and training by an ``Accelerator``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.notebook import ON_DEVICE, Notebook

pytest.importorskip("torch")
pytest.importorskip("accelerate")

IMPORTS = """
import copy, torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
"""
RESET = "AcceleratorState._reset_state(True)\nGradientState._reset_state()"


def test_an_accelerator_trains_in_both_kinds_of_cells(notebook: Notebook) -> None:
    """Gradients accumulate over two batches wherever a batch is computed.

    The state that all objects of a class share (``GradientState`` is such a class) is one on
    either side, so that optimizer, schedule and accelerator agree when to take a step.
    """
    notebook.once(IMPORTS)
    notebook.cell(RESET)
    notebook.restart_worker()
    notebook.cell(
        """
        torch.manual_seed(0)
        data = TensorDataset(torch.randn(32, 8), torch.randn(32, 2))
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
        twin = copy.deepcopy(net)
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        loader = DataLoader(data, batch_size=8)
        net, optimizer, loader, schedule = accelerator.prepare(net, optimizer, loader, schedule)
        synced = []

        def epoch():
            for x, y in loader:
                with accelerator.accumulate(net):
                    loss = nn.functional.mse_loss(net(x), y)
                    accelerator.backward(loss)
                    optimizer.step(), schedule.step(), optimizer.zero_grad()
                synced.append(accelerator.sync_gradients)

        def by_hand(epochs):
            optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
            for n in range(4 * epochs):
                x, y = data[8 * (n % 4) : 8 * (n % 4) + 8]
                (nn.functional.mse_loss(twin(x), y) / 2).backward()
                if n % 2:
                    optimizer.step(), schedule.step(), optimizer.zero_grad()

        def agree():
            pairs = zip(net.parameters(), twin.parameters(), strict=True)
            alike = all(torch.equal(a, b) for a, b in pairs)
            return alike, synced == [False, True] * (len(synced) // 2)
        """
    )
    notebook.gpu("epoch()\nstate = GradientState()")
    notebook.cell("epoch()")
    notebook.restart_worker()
    notebook.gpu("loader = accelerator.prepare(DataLoader(data, batch_size=8))\nepoch()")
    notebook.cell("by_hand(3)")
    assert notebook.cell("print(agree(), len(synced))") == "(True, True) 12"
    assert (
        notebook.cell(
            """
            print(vars(accelerator.gradient_state) is GradientState._shared_state is vars(state))
            print(vars(accelerator.state) is AcceleratorState._shared_state)
            """
        )
        == "True\nTrue"
    )


def test_an_accelerator_made_in_a_gpu_cell(notebook: Notebook) -> None:
    """What a cell prepares there is used, saved and unwrapped by plain cells."""
    notebook.once(IMPORTS)
    notebook.cell(RESET)
    notebook.restart_worker()
    notebook.gpu(
        """
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        net = nn.Linear(8, 2)
        net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1))
        with accelerator.autocast():
            kind = net(torch.ones(1, 8)).dtype
        """
    )
    assert (
        notebook.cell(
            """
            with accelerator.autocast():
                print(net(torch.ones(1, 8)).dtype, kind, accelerator.mixed_precision)
            print(type(accelerator.unwrap_model(net)).__name__, AcceleratorState().mixed_precision)
            """
        )
        == "torch.float32 torch.float32 bf16\nLinear bf16"
    )


def test_a_model_on_disk_is_dispatched(notebook: Notebook, tmp_path: Path) -> None:
    """Layers whose weights lie on disk compute in a GPU cell what the whole model does."""
    notebook.once(IMPORTS)
    notebook.cell(
        f"""
        from accelerate import cpu_offload, init_empty_weights, load_checkpoint_and_dispatch
        from accelerate.hooks import remove_hook_from_submodules

        from safetensors.torch import save_file
        file, scratch = {str(tmp_path / "model.safetensors")!r}, {str(tmp_path / "offloaded")!r}

        def build():
            return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))

        whole = build()
        save_file(whole.state_dict(), file)
        with init_empty_weights():
            empty = build()
        model = load_checkpoint_and_dispatch(
            empty, file, device_map={{"0": "cpu", "1": "cpu", "2": "disk", "3": "cpu"}},
            offload_folder=scratch,
        )
        x = torch.randn(3, 64)
        here = whole(x)
        """
    )
    notebook.gpu("there = model(x).detach()\ndevices = [str(p.device) for p in model.parameters()]")
    assert (
        notebook.cell(
            """
            print(torch.equal(here, there), torch.equal(model(x), there), model.hf_device_map["2"])
            print([str(p.device) for p in model.parameters()] == devices, devices[2])
            """
        )
        == "True True disk\nTrue meta"
    )
    notebook.gpu("offloaded = cpu_offload(build(), 'cpu')\nthere = offloaded(x).detach()")
    assert notebook.cell("print(torch.equal(offloaded(x), there))") == "True"
    notebook.gpu("remove_hook_from_submodules(offloaded)")
    assert notebook.cell("print(hasattr(offloaded[0], '_hf_hook'))") == "False"


def test_device_map_auto(notebook: Notebook, tmp_path: Path) -> None:
    """``from_pretrained`` with ``device_map`` and ``max_memory``: the same map, the same answer."""
    pytest.importorskip("transformers")
    notebook.once(IMPORTS)
    notebook.cell(
        f"""
        from transformers import GPT2Config, GPT2LMHeadModel
        gpt, spill = {str(tmp_path / "gpt")!r}, {str(tmp_path / "spill")!r}
        config = GPT2Config(vocab_size=200, n_embd=64, n_layer=4, n_head=4, n_positions=64)
        whole = GPT2LMHeadModel(config).eval()
        whole.save_pretrained(gpt)
        memory = {{"cpu": "450KB", "disk": "1GB"}}
        model = GPT2LMHeadModel.from_pretrained(
            gpt, device_map="auto", max_memory=memory, offload_folder=spill
        )
        ids = torch.arange(10)[None]
        how = dict(max_new_tokens=5, do_sample=False, pad_token_id=0)
        here = whole.generate(ids, **how)
        """
    )
    notebook.gpu(
        """
        there = model.generate(ids, **how)
        again = GPT2LMHeadModel.from_pretrained(
            gpt, device_map="auto", max_memory=memory, offload_folder=spill
        )
        """
    )
    assert (
        notebook.cell(
            """
            print(torch.equal(here, there), sorted(set(map(str, model.hf_device_map.values()))))
            print(again.hf_device_map == model.hf_device_map, again.hf_device_map is not None)
            print(torch.equal(again.generate(ids, **how), here))
            """
        )
        == "True ['cpu', 'disk']\nTrue True\nTrue"
    )


def test_models_over_two_devices(notebook: Notebook, tmp_path: Path) -> None:
    """``device_map="balanced"`` in a plain cell: layers on two devices answer in a GPU cell."""
    pytest.importorskip("transformers")
    notebook.once(IMPORTS)
    notebook.once(ON_DEVICE)
    notebook.cell(
        f"""
        from accelerate import cpu_offload
        from transformers import GPT2Config, GPT2LMHeadModel
        gpt, ids = {str(tmp_path / "gpt")!r}, torch.arange(10)[None]
        config = GPT2Config(vocab_size=200, n_embd=64, n_layer=4, n_head=4, n_positions=64)
        whole = GPT2LMHeadModel(config).eval()
        whole.save_pretrained(gpt)
        how = dict(max_new_tokens=5, do_sample=False, pad_token_id=0)
        here = whole.generate(ids, **how)
        balanced = GPT2LMHeadModel.from_pretrained(gpt, device_map="balanced")
        offloaded = cpu_offload(copy.deepcopy(whole), "cuda")
        """
    )
    notebook.gpu(
        """
        there = balanced.generate(ids.to(balanced.device), **how)
        loaded = GPT2LMHeadModel.from_pretrained(gpt, device_map="auto")
        again = loaded.generate(ids.to("cuda"), **how)
        on_cpu = offloaded.generate(ids, **how)
        """
    )
    assert (
        notebook.cell(
            """
            print([torch.equal(one.cpu(), here) for one in (there, again, on_cpu)])
            print(sorted(set(balanced.hf_device_map.values())), there.device, again.device)
            print(sorted({str(p.device) for p in balanced.parameters()}))
            print(loaded.hf_device_map == balanced.hf_device_map)
            """
        )
        == "[True, True, True]\n[0, 1] cuda:0 cuda:0\n['cuda:0', 'cuda:1']\nTrue"
    )


def test_an_accelerator_on_the_device(notebook: Notebook) -> None:
    """``Accelerator()`` of a plain cell has the device, and trains there in a GPU cell."""
    notebook.once(IMPORTS)
    notebook.once(ON_DEVICE)
    notebook.cell(RESET)
    notebook.cell(
        """
        accelerator = Accelerator(mixed_precision="bf16")
        net = nn.Linear(4, 1)
        net, optimizer, loader = accelerator.prepare(
            net, torch.optim.AdamW(net.parameters(), lr=0.1), DataLoader(torch.ones(8, 4), 4)
        )
        def train():
            for x in loader:
                loss = (net(x) - 1).square().mean()
                accelerator.backward(loss)
                optimizer.step(), optimizer.zero_grad()
            return x.device, loss.item()
        before = train()
        """
    )
    notebook.gpu("after = [train() for _ in range(8)][-1]")
    assert (
        notebook.cell(
            """
            print(accelerator.device, before[0], after[0], net.weight.device, after[1] < before[1])
            """
        )
        == "cuda cuda:0 cuda:0 cuda:0 True"
    )
