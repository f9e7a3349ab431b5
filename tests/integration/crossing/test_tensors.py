import gc

import pytest

torch = pytest.importorskip("torch")


def test_tied_model_and_optimizer_train_across_cells(pair):
    """Parameters, ties and the optimizer's state are the same objects before and after."""
    pair.plain(
        "import torch\ntorch.manual_seed(0)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))\n"
        "model[1].weight = model[0].weight\n"
        "opt = torch.optim.AdamW(model.parameters(), lr=0.1)\n"
        "sched = torch.optim.lr_scheduler.StepLR(opt, 1, 0.5)\n"
        "x = torch.randn(8, 64)"
    )
    model, weight = pair.namespace["model"], pair.namespace["model"][0].weight
    before = weight.detach().clone()
    step = (
        "opt.zero_grad(); loss = model(x).pow(2).mean(); loss.backward(); opt.step(); sched.step()"
    )
    pair.cell(step)
    pair.cell(step)
    assert pair.namespace["model"] is model
    assert model[1].weight is weight is model[0].weight
    assert pair.namespace["opt"].param_groups[0]["params"][0] is weight
    assert not torch.equal(weight, before)
    assert weight.grad is not None
    assert pair.namespace["opt"].state[weight]["step"] == 2
    assert pair.namespace["opt"].param_groups[0]["lr"] == pytest.approx(0.025)
    assert pair.namespace["sched"].last_epoch == 2


def test_training_agrees_with_local_training(pair):
    """Weights after three GPU cells equal those after three plain ones, bit by bit."""
    make = (
        "import torch\ntorch.manual_seed(0)\ntorch.set_num_threads(1)\n"
        "model = torch.nn.Linear(8, 8)\nopt = torch.optim.AdamW(model.parameters(), lr=0.1)\n"
        "x = torch.randn(4, 8)"
    )
    step = "opt.zero_grad(); loss = model(x).pow(2).mean(); loss.backward(); opt.step()"
    pair.plain(make)
    local = {}
    exec(make, local)
    for _ in range(3):
        exec(step, local)
        pair.cell(step)
    assert torch.equal(pair.namespace["model"].weight, local["model"].weight)
    assert torch.equal(pair.namespace["loss"], local["loss"])


def test_views_and_storage_stay_shared(pair):
    """A view of a tensor is a view afterwards, and large storages travel once."""
    x = torch.zeros(100_000)
    pair.namespace.update(x=x, v=x[10:20])
    pair.cell("v += 1; w = x[:5]; w[0] = 9")
    assert x[10:20].sum() == 10
    assert x[0] == 9
    assert pair.namespace["w"].untyped_storage() is x.untyped_storage()
    assert pair.shipment.byte_count < 410_000
    pair.cell("s = x.sum()")
    assert pair.shipment.byte_count < 2_000


def test_result_with_a_graph_has_value_and_leads_to_the_original(pair):
    """backward() says in the notebook where the graph is, and works in the next cell."""
    pair.plain("import torch\nw = torch.ones(3, requires_grad=True)")
    pair.cell("loss = (w * 2).sum()")
    loss = pair.namespace["loss"]
    assert (loss.item(), loss.requires_grad) == (6.0, True)
    with pytest.raises(RuntimeError, match="stayed in the worker"):
        loss.backward()
    pair.cell("loss.backward()")
    assert pair.namespace["w"].grad.tolist() == [2.0, 2.0, 2.0]
    assert pair.namespace["loss"] is loss


def test_live_graph_of_the_notebook_is_absent(pair):
    """A tensor computed in the notebook from parameters is absent, and the message says why."""
    pair.plain("import torch\nw = torch.ones(3, requires_grad=True)\ny = {'a': [w * 2]}")
    pair.cell("z = w.sum().item()")
    assert "y['a'][0]" in pair.shipment.absent["y"]
    assert "detach" in pair.shipment.absent["y"]
    assert pair.namespace["z"] == 3.0


def test_a_graph_made_in_place_keeps_a_known_tensor_from_travelling(pair):
    """The worker's copy is not made a leaf in silence; detached, the tensor travels again."""
    pair.plain("import torch\nw = torch.ones(3, requires_grad=True)\ny = torch.zeros(3)")
    pair.cell("n = y.sum().item()")
    pair.plain("y += w")
    pair.cell("n = w.sum().item()")
    assert "detach" in pair.shipment.absent["y"]
    pair.plain("y.detach_()")
    pair.cell("n = y.sum().item()")
    assert (pair.namespace["n"], pair.shipment.absent) == (3.0, {})


def test_freed_tensor_is_not_kept_alive(pair):
    """After the plain cell that drops it, nothing of ours holds a tensor's memory."""
    import weakref

    pair.namespace["d"] = {"x": [torch.zeros(100_000)]}
    pair.cell("n = len(d)")
    alive = weakref.ref(pair.namespace["d"]["x"][0].untyped_storage())
    pair.shipment = None  # its views keep the owners alive
    pair.plain("del d")
    gc.collect()
    assert alive() is None
