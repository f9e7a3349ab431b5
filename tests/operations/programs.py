"""The second half of the table: gradients, modules, optimizers, files, `torch.cuda`."""

from __future__ import annotations

from tests.operations.operation import Operation, each

AUTOGRAD = [
    *each(
        "x.requires_grad_()\n(x * y).sum().backward()\nx.grad",
        "x.requires_grad_()\ntorch.autograd.grad((x ** 2).sum(), x)",
        "x.requires_grad_()\ng, = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)\n"
        "g.sum().backward()\nx.grad",
        "p = nn.Parameter(x.clone())\n(p @ v).sum().backward()\np.grad",
        "x.requires_grad_()\nz = x * 2\nz.retain_grad()\nz.sum().backward()\nz.grad",
        "m = net()\nF.cross_entropy(m(x), torch.tensor([0, 1, 0], device=D)).backward()\n"
        "[p.grad for p in m.parameters()]",
        "m = net()\nm(x).sum().backward()\nm.zero_grad()\nm(x).mean().backward()\nm[0].weight.grad",
        "x.requires_grad_()\nseen = []\nx.register_hook(lambda g: seen.append(g * y))\n"
        "(x * 2).sum().backward()\nseen",
        "x.requires_grad_()\nx.register_hook(lambda g: g * y)\nx.sum().backward()\nx.grad",
        "class Twice(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, t):\n        ctx.save_for_backward(t)\n        return t * 2\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n        t, = ctx.saved_tensors\n        return g * 2 + t * 0\n"
        "x.requires_grad_()\nTwice.apply(x).sum().backward()\nx.grad",
        "class Seen(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, t):\n        return t * 2\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n        seen.append(g)\n        return g * 2\n"
        "seen = []\nx.requires_grad_()\nSeen.apply(x * 1).sum().backward()\nseen",
        "from torch.utils.checkpoint import checkpoint\nx.requires_grad_()\n"
        "checkpoint(torch.sin, x, use_reentrant=False).sum().backward()\nx.grad",
        "torch.autograd.functional.jacobian(lambda t: t ** 2, v)",
        "torch.autograd.functional.hessian(lambda t: (t ** 3).sum(), v)",
        "torch.func.grad(lambda t: (t ** 2).sum())(x)",
        "torch.func.vmap(lambda r: r * 2)(x)",
        "torch.func.vmap(torch.dot, in_dims=(0, 0))(x, y)",
        "torch.func.jacrev(torch.sin)(v)",
        "torch.func.jacfwd(torch.sin)(v)",
        "torch.func.vjp(torch.sin, v)[1](w)",
        "torch.func.jvp(torch.sin, (v,), (w,))",
        "torch.func.vmap(torch.func.grad(lambda r: (r ** 2).sum()))(x)",
        "m = net()\ntorch.func.functional_call(m, dict(m.named_parameters()), x)",
        "with torch.no_grad():\n    z = x * 2\nz",
        "with torch.inference_mode():\n    z = x * 2\nz",
        "m = net()\nm(x).sum().backward()\ntorch.nn.utils.clip_grad_norm_(m.parameters(), 0.1)",
        "m = net()\nm(x).sum().backward()\n[p.grad.norm() for p in m.parameters()]",
    ),
    *each(
        "h = hx.clone().requires_grad_()\n(h.to(D) * y).sum().backward()\nh.grad",
        "h = hx.clone().requires_grad_()\nz = h.to(D)\nz.backward(torch.ones_like(z))\nh.grad",
        "h = hx.clone().requires_grad_()\ntorch.autograd.grad(h.to(D).sum(), h)",
        device="cpu",
    ),
    Operation("x.requires_grad_()\ng = torch.ones(3, 4)\ntorch.autograd.grad(x.cpu(), x, g)[0], g",
              (("cuda:0", "cpu"))),
    Operation("x.requires_grad_()\nx.grad = hx\nx", error=(
        "RuntimeError", "assigned grad has data located on a different device")),
    Operation("(x * 2).backward()", error=("RuntimeError", "")),
    Operation("type((x.requires_grad_() * 2).grad_fn).__name__", value="MulBackward0"),
]  # fmt: skip

MODULES = [
    *each(
        "net()(x)", "list(net().parameters())", "net().state_dict()",
        "m = net()\nm.to('cpu').to(D)(x)", "copy.deepcopy(net())(x)", "net().double()(x.double())",
        "nn.Conv2d(3, 2, 3).to(D).requires_grad_(False).weight * 0",
        "torch.manual_seed(0)\nnn.Conv2d(3, 2, 3).to(D)(img)",
        "torch.manual_seed(0)\nnn.ConvTranspose2d(3, 2, 3).to(D)(img)",
        "nn.BatchNorm2d(3).to(D)(img)", "nn.GroupNorm(3, 3).to(D)(img)", "nn.LayerNorm(4).to(D)(x)",
        "m = nn.BatchNorm2d(3).to(D)\nm(img)\nm.running_mean, m.num_batches_tracked",
        "nn.MaxPool2d(2)(img)", "nn.AdaptiveAvgPool2d(1)(img)", "F.interpolate(img, scale_factor=2)",
        "F.avg_pool2d(img, 2)", "F.unfold(img, 2)", "F.normalize(x)", "F.cosine_similarity(x, y)",
        "torch.manual_seed(0)\nnn.LSTM(4, 3).to(D)(x)",
        "torch.manual_seed(0)\nnn.LSTM(4, 3).to(D)(nn.utils.rnn.pack_sequence([x, y[:2]]))[0].data", "torch.manual_seed(0)\nnn.GRU(4, 3).to(D)(x)[0]",
        "torch.manual_seed(0)\nnn.RNN(4, 3).to(D)(x)[1]", "torch.manual_seed(0)\nnn.LSTMCell(4, 3).to(D)(x)",
        "torch.manual_seed(0)\nnn.MultiheadAttention(4, 2).to(D)(x, x, x)",
        "torch.manual_seed(0)\nnn.TransformerEncoderLayer(4, 2, 8, dropout=0.0).to(D)(x)",
        "torch.manual_seed(0)\nnn.TransformerEncoderLayer(4, 2, 8).to(D).eval()(x)",
        "F.scaled_dot_product_attention(img, img, img)",
        "F.scaled_dot_product_attention(img, img, img, is_causal=True)",
        "torch.manual_seed(0)\nnn.Embedding(5, 3).to(D)(i)", "F.embedding_bag(i.unsqueeze(0), x)",
        "F.softmax(x, dim=1)", "F.gelu(x)", "F.silu(x)", "F.leaky_relu(x)", "F.log_softmax(x, 1)",
        "F.mse_loss(x, y)", "F.l1_loss(x, y)", "F.binary_cross_entropy_with_logits(x, (y > 0).float())",
        "F.nll_loss(F.log_softmax(x, 1), i)", "F.kl_div(x, F.softmax(y, 1), reduction='batchmean')",
        "F.grid_sample(img, torch.zeros(2, 3, 3, 2, device=D), align_corners=False)",
        "F.dropout(x, 0.5, training=False)", "nn.Dropout(0.5).eval()(x)", "F.bilinear(x, y, torch.ones(2, 4, 4, device=D))",
        "m = nn.Linear(4, 4).to(D)\nm.weight = nn.Parameter(sq)\nm.weight",
        "m = net()\nm.register_buffer('n', torch.ones(2, device=D))\nm.n",
        "m = net()\nm.load_state_dict(net().cpu().state_dict())\nm[0].weight",
        "m = net()\nm[2].weight = nn.Parameter(m[0].weight.detach()[:2])\n[p for p in m.to('cpu').to(D).parameters()]",
        "nn.init.ones_(torch.empty(2, device=D))", "torch.nn.utils.parameters_to_vector(net().parameters())",
        "nn.utils.rnn.pack_padded_sequence(x.unsqueeze(0), torch.tensor([2]), batch_first=True).data",
        "nn.utils.rnn.pad_packed_sequence(nn.utils.rnn.pack_sequence([x, y[:2]]))[0]",
        "torch.manual_seed(0)\nnn.Transformer(4, 2, 1, 1, 8, dropout=0.0).to(D)(x, y)",
        "nn.utils.parametrizations.weight_norm(nn.Linear(4, 2).to(D)).weight * 0",
        "torch.ao.nn.quantized.functional if False else x", "nn.Flatten()(img)", "nn.PixelShuffle(1)(img)",
        "m = net()\nm.register_forward_hook(lambda s, a, r: r * 0)\nm(x)",
        "nn.utils.skip_init(nn.Linear, 2, 2, device=D).weight * 0",
        "with torch.device('meta'):\n    m = nn.Linear(2, 2)\nm.to_empty(device=D).weight * 0",
    ),
    Operation("m = net()\nbefore = id(m[0].weight)\nid(m.to('cpu').to(D)[0].weight) == before", value=True),
    Operation("m = nn.Linear(4, 4)\nn = nn.Linear(4, 4)\nn.weight = m.weight\nboth = nn.ModuleList([m, n]).to(D)\n"
              "both[0].weight is both[1].weight and both[0].weight.is_cuda == (D != 'cpu')", value=True),
    Operation("nn.utils.rnn.pack_padded_sequence(x.unsqueeze(0), torch.tensor([2]), batch_first=True).batch_sizes", "cpu"),
    Operation("m = net()\nm.cuda() is m if D != 'cpu' else True", value=True),
    Operation("net().cpu()[0].weight", "cpu"),
    Operation("net().to(0)[0].weight if D != 'cpu' else net()[0].weight"),
    Operation("net().to(device=0)[0].weight if D != 'cpu' else net()[0].weight"),
    Operation("net().cpu().to(D, torch.float64, True)[0].weight"),
    Operation("net().to(1)[0].weight if D != 'cpu' else net()[0].weight", "cuda:1", least=2),
    Operation("net().type(torch.float64)[0].weight"),
]  # fmt: skip

_TRAIN = (
    "m = net()\no = torch.optim.{0}\nfor _ in range(3):\n    o.zero_grad()\n"
    "    m(x).square().mean().backward()\n    o.step()\n[p.detach() for p in m.parameters()]"
)
OPTIMIZERS = [
    *each(
        *(
            _TRAIN.format(kind)
            for kind in (
                "SGD(m.parameters(), 0.1)",
                "SGD(m.parameters(), 0.1, momentum=0.9, foreach=True)",
                "Adam(m.parameters())",
                "Adam(m.parameters(), foreach=True)",
                "AdamW(m.parameters(), weight_decay=0.1, foreach=False)",
                "AdamW(m.parameters(), fused=True)",
                "RMSprop(m.parameters())",
                "Adagrad(m.parameters())",
                "Adamax(m.parameters())",
                "NAdam(m.parameters())",
                "RAdam(m.parameters())",
                "Adadelta(m.parameters())",
            )
        ),
        "m = net()\no = torch.optim.Adam(m.parameters())\nm(x).sum().backward()\no.step()\n"
        "[s['exp_avg'] for s in o.state.values()]",
        "m = net()\no = torch.optim.Adam(m.parameters())\nm(x).sum().backward()\no.step()\n"
        "n = torch.optim.Adam(m.parameters())\nn.load_state_dict(torch.load(saved(o.state_dict()), 'cpu'))\n"
        "[s['exp_avg'] for s in n.state.values()]",
        "m = net()\no = torch.optim.LBFGS(m.parameters(), max_iter=2)\n"
        "def again():\n    o.zero_grad()\n    loss = m(x).square().mean()\n    loss.backward()\n    return loss\n"
        "o.step(again)",
        "m = net()\no = torch.optim.SGD(m.parameters(), 0.1)\ns = torch.amp.GradScaler(D)\n"
        "s.scale(m(x).square().mean()).backward()\ns.step(o)\ns.update()\n[p.detach() for p in m.parameters()]",
        "m = net()\ne = torch.optim.swa_utils.AveragedModel(m)\ne.update_parameters(m)\nlist(e.parameters())",
        tolerance=1e-5,
    ),
    Operation("m = net()\no = torch.optim.Adam(m.parameters())\nm(x).sum().backward()\no.step()\n"
              "next(iter(o.state.values()))['step']", "cpu"),
    Operation("o = torch.optim.SGD([x.requires_grad_()], 1.0)\nlr = torch.optim.lr_scheduler.StepLR(o, 1)\n"
              "x.sum().backward()\no.step()\nlr.step()\nround(o.param_groups[0]['lr'], 6)", value=0.1),
]  # fmt: skip

SERIALIZATION = [
    *each(
        "torch.load(saved(x))", "torch.load(saved(x), map_location=D)",
        "torch.load(saved(hx), map_location=D)", "torch.load(saved({'a': x, 'b': [y]}))",
        "torch.load(saved(x), map_location=lambda storage, location: storage.cuda() if D != 'cpu' else storage)",
        "torch.load(saved(hx), map_location={'cpu': D})", "torch.load(saved(nn.Parameter(x)))",
        "torch.load(saved(net()), weights_only=False)(x)", "torch.load(saved(net().state_dict()))",
        "pickle.loads(pickle.dumps(x))", "pickle.loads(pickle.dumps(net()))(x)",
        "pickle.loads(pickle.dumps(nn.Parameter(x)))", "copy.deepcopy(x)", "copy.copy(x)",
        "copy.deepcopy([x, x[0]])", "copy.deepcopy(nn.Parameter(x))",
        "torch.load(saved(x.to_sparse()))",
        "f = io.BytesIO()\ntorch.save(x, f, _use_new_zipfile_serialization=False)\nf.seek(0)\ntorch.load(f)",
    ),
    *each(
        "torch.load(saved(x), map_location='cpu')", "torch.load(saved(x), map_location=torch.device('cpu'))",
        "torch.load(saved(hx))", "torch.load(saved(net().state_dict()), map_location='cpu')",
        "pickle.loads(pickle.dumps(hx))",
        device="cpu",
    ),
    Operation("a, b = torch.load(saved([x, x[0]]))\na[0, 0] = 9\nb"),
    Operation("a, b = copy.deepcopy([x, x[0]])\na[0, 0] = 9\nb"),
]  # fmt: skip

CUDA = [
    Operation("torch.cuda.is_available(), torch.cuda.is_initialized()", value=(True, True)),
    Operation("torch.cuda.device_count() >= 1", value=True),
    Operation("torch.cuda.current_device()", value=0),
    Operation("torch.cuda.set_device(0)\ntorch.cuda.current_device()", value=0),
    Operation("with torch.cuda.device(0):\n    t = torch.ones(1, device='cuda')\nt.get_device()", value=0),
    Operation("with torch.cuda.device(1):\n    t = torch.ones(1, device='cuda')\nt", "cuda:1", None, least=2),
    Operation("torch.cuda.set_device(1)\nt = torch.ones(1).cuda()\ntorch.cuda.set_device(0)\nt", "cuda:1", None, least=2),
    Operation("torch.cuda.set_device(99)", error=("RuntimeError", "invalid device ordinal")),
    Operation("isinstance(torch.cuda.get_device_name(), str)", value=True),
    Operation("torch.cuda.get_device_properties(0).total_memory > 1 << 30", value=True),
    Operation("torch.cuda.get_device_properties('cuda').name == torch.cuda.get_device_name(0)", value=True),
    Operation("torch.cuda.get_device_capability() >= (7, 0)", value=True),
    Operation("free, total = torch.cuda.mem_get_info()\n0 < free <= total", value=True),
    Operation("gc.collect()\na = torch.cuda.memory_allocated()\nt = torch.empty(1 << 20, device='cuda')\nused = torch.cuda.memory_allocated()\ndel t\n"
              "used - a, torch.cuda.memory_allocated() - a", value=(4 << 20, 0)),
    Operation("gc.collect()\ntorch.cuda.reset_peak_memory_stats()\na = torch.cuda.memory_allocated()\ntorch.empty(1 << 20, device='cuda')\n"
              "torch.cuda.max_memory_allocated() - a", value=4 << 20),
    Operation("gc.collect()\na = torch.cuda.memory_allocated()\nt = torch.empty(1 << 20, device='cuda')\nviews = t[1:], t.view(2, -1)\n"
              "torch.cuda.memory_allocated() - a", value=4 << 20),
    Operation("gc.collect()\nt = torch.empty(10, device='cuda')\na = torch.cuda.memory_allocated()\nt.resize_(1 << 20)\n"
              "torch.cuda.memory_allocated() - a", value=(4 << 20) - 40),
    Operation("torch.cuda.memory_reserved() >= torch.cuda.memory_allocated()", value=True),
    Operation("torch.cuda.memory_stats()['allocated_bytes.all.current'] == torch.cuda.memory_allocated()", value=True),
    Operation("torch.cuda.synchronize()\ntorch.cuda.empty_cache()\ntorch.cuda.ipc_collect()", value=None),
    Operation("s = torch.cuda.Stream()\nwith torch.cuda.stream(s):\n    t = x * 2\ns.synchronize()\nt.tolist() == (hx * 2).tolist()", value=True),
    Operation("torch.cuda.current_stream() == torch.cuda.default_stream()", value=True),
    Operation("s = torch.cuda.Stream()\nwith torch.cuda.stream(s):\n    r = torch.cuda.current_stream() == s\nr", value=True),
    Operation("torch.cuda.current_stream().wait_stream(torch.cuda.Stream())\ntorch.cuda.current_stream().query() or True", value=True),
    Operation("a, b = (torch.cuda.Event(enable_timing=True) for _ in 'ab')\na.record()\nx @ x.t()\nb.record()\nb.synchronize()\n"
              "a.elapsed_time(b) >= 0, a.query()", value=(True, True)),
    Operation("torch.cuda.Event().elapsed_time(torch.cuda.Event())", error=("ValueError", "enable_timing=True")),
    Operation("x.record_stream(torch.cuda.current_stream())", value=None),
    Operation("torch.cuda.is_bf16_supported()", value=True),
    Operation("torch.cuda.manual_seed(3)\na = torch.randn(3, device='cuda')\ntorch.cuda.manual_seed_all(3)\n"
              "torch.equal(a, torch.randn(3, device='cuda'))", value=True),
    Operation("torch.manual_seed(3)\na = torch.randn(3, device='cuda')\ntorch.manual_seed(3)\n"
              "torch.equal(a, torch.randn(3, device='cuda'))", value=True),
    Operation("torch.manual_seed(3)\na = torch.randn(3)\ntorch.manual_seed(3)\ntorch.randn(3, device='cuda')\n"
              "F.dropout(x)\ntorch.rand_like(x)\nx.normal_()\ntorch.equal(a, torch.randn(3))", value=True),
    Operation("s = torch.cuda.get_rng_state()\na = torch.rand(2, device='cuda')\ntorch.cuda.set_rng_state(s)\n"
              "torch.equal(a, torch.rand(2, device='cuda'))", value=True),
    Operation("s = torch.cuda.get_rng_state()\na = F.dropout(x)\ntorch.cuda.set_rng_state(s)\n"
              "torch.equal(a, F.dropout(x))", value=True),
    Operation("torch.cuda.get_rng_state()", "cpu", value=None),
    Operation("torch.cuda.initial_seed() == (torch.cuda.manual_seed(9), 9)[1] or torch.cuda.initial_seed()", value=9),
    Operation("with torch.random.fork_rng():\n    torch.rand(1, device='cuda')\nx", value=None),
    Operation("g = torch.Generator(device='cuda')\nstr(g.device), isinstance(g, torch.Generator)", value=("cuda:0", True)),
    Operation("isinstance(torch.Generator(), torch.Generator), str(torch.Generator().device)", value=(True, "cpu")),
    Operation("g = torch.Generator(D).manual_seed(1)\na = torch.rand(2, device=D, generator=g)\n"
              "torch.equal(a, torch.rand(2, device=D, generator=torch.Generator(D).manual_seed(1)))", value=True),
    Operation("torch.randn(2, device='cuda', generator=torch.Generator())",
              error=("RuntimeError", "Expected a 'cuda' device type for generator but found 'cpu'")),
    Operation("torch.randn(2, generator=torch.Generator('cuda'))",
              error=("RuntimeError", "Expected a 'cpu' device type for generator but found 'cuda'")),
    Operation("torch.cuda.FloatTensor(2).zero_()", value=("float32", (2,), [0.0, 0.0])),
    Operation("torch.cuda.LongTensor([1, 2])", value=("int64", (2,), [1, 2])),
    Operation("torch.backends.cuda.is_built()", value=True),
    Operation("isinstance(torch.version.cuda, str)", value=True),
    Operation("torch.accelerator.is_available(), torch.accelerator.current_accelerator().type", value=(True, "cuda")),
    Operation("torch.cuda.nvtx.range_push('a')\ntorch.cuda.nvtx.range_pop()\nwith torch.cuda.nvtx.range('b'):\n    z = x * 2\nz", value=None),
    Operation("from torch.utils.data import DataLoader, TensorDataset\n"
              "[t.to(D) for t, in DataLoader(TensorDataset(hx), batch_size=2, pin_memory=D != 'cpu')]"),
    Operation("from torch.utils.data import DataLoader, TensorDataset\n"
              "all(t.is_pinned() for t, in DataLoader(TensorDataset(hx), pin_memory=True))", value=True),
    Operation("def work():\n    out.append(torch.ones(2, device=D) + v[:2])\nout = []\nt = threading.Thread(target=work)\nt.start()\n"
              "t.join()\nout"),
    Operation("from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool:\n"
              "    made = list(pool.map(lambda k: v.cpu().to(D) * k, range(3)))\nmade"),
    Operation("torch.get_autocast_gpu_dtype()", value=None),
]  # fmt: skip

_CAST = "with torch.autocast('cuda'{0}):\n    z = {1}\nstr(z.dtype)[6:]"
AUTOCAST = [
    *(
        Operation(_CAST.format(options, code), value=value)
        for options, code, value in (
            ("", "x @ y.t()", "float16"),
            ("", "F.linear(x, y)", "float16"),
            ("", "net()(x)", "float16"),
            ("", "F.conv2d(img, img)", "float16"),
            ("", "F.softmax(x.half(), 1)", "float32"),
            ("", "x.half().sum()", "float32"),
            ("", "x.half().exp()", "float32"),
            ("", "F.layer_norm(x.half(), (4,))", "float32"),
            ("", "F.cross_entropy(x.half(), i)", "float32"),
            ("", "x + y", "float32"),
            ("", "x.half() + 1", "float16"),
            ("", "torch.cat([x, y.half()])", "float32"),
            ("", "x.double() @ y.double().t()", "float64"),
            ("", "F.scaled_dot_product_attention(img, img, img)", "float16"),
            (", dtype=torch.bfloat16", "x @ y.t()", "bfloat16"),
            (", enabled=False", "x @ y.t()", "float32"),
        )
    ),
    Operation("with torch.autocast('cuda'):\n    z = hx @ hx.t()\nstr(z.dtype)", value="torch.float32"),
    Operation("with torch.autocast('cuda'):\n    on = torch.is_autocast_enabled('cuda')\non, torch.is_autocast_enabled('cuda')",
              value=(True, False)),
    Operation("with torch.cuda.amp.autocast() if False else torch.amp.autocast('cuda'):\n    z = F.binary_cross_entropy(x.sigmoid(), x.sigmoid())\nz",
              error=("RuntimeError", "unsafe to autocast")),
    Operation("m = net()\nwith torch.autocast('cuda'):\n    loss = m(x).square().mean()\nloss.backward()\n"
              "str(m[0].weight.grad.dtype)[6:], str(m[0].weight.grad.device)", value=("float32", "cuda:0")),
]  # fmt: skip

WRAPPED = """
class Wrapped(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)
    def __init__(self, inner):
        self.inner = inner
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        own = lambda t: t.inner if isinstance(t, Wrapped) else t
        out = func(*map(own, args), **(kwargs or {}))
        made.append(torch.ones(1, device=out.device))
        return Wrapped(out)
made = []
"""
SUBCLASSES = [
    Operation(WRAPPED + "z = Wrapped(x) + 1\nstr(z.device), z.inner, made[0]", value=None),
    Operation(WRAPPED + "(Wrapped(x) @ Wrapped(sq)).inner"),
    *each(
        "class Own(torch.Tensor): pass\nF.relu(x.as_subclass(Own)) + 1",
        "class Own(torch.Tensor): pass\nF.dropout(x.as_subclass(Own), training=False)",
        "torch.manual_seed(0)\nm = nn.Linear(4, 2)\n(nn.DataParallel(m) if D != 'cpu' else m).to(D)(x)",
        "torch.manual_seed(0)\nm = nn.Linear(4, 2)\n(nn.DataParallel(m).cuda() if D != 'cpu' else m)(hx)",
        "torch.manual_seed(0)\ntorch.jit.script(nn.Linear(4, 2)).to(D)(x)",
        "torch.manual_seed(0)\ntorch.jit.trace(nn.Linear(4, 2).to(D), x)(x)",
        "torch.manual_seed(0)\ntorch.fx.symbolic_trace(nn.Linear(4, 2).to(D))(x)",
        "torch.manual_seed(0)\nm = nn.LazyLinear(3).to(D)\nm(x)\nm.weight * 0",
        "n = torch.nested.nested_tensor([x[:2], x], layout=torch.jagged)\n(n * 2).values()",
        "with torch.autograd.graph.save_on_cpu(pin_memory=D != 'cpu'):\n    z = (x.requires_grad_() ** 2).sum()\nz.backward()\nx.grad",
        "m = nn.Linear(4, 2).to(D)\nseen = []\nm.register_full_backward_hook(lambda m, i, o: seen.append(o[0]))\n"
        "m(x.requires_grad_()).sum().backward()\nseen",
    ),
    Operation("torch.set_default_tensor_type(torch.cuda.FloatTensor)\nmade = torch.zeros(2)\n"
              "torch.set_default_tensor_type(torch.FloatTensor)\nmade, torch.zeros(2)", ("cuda:0", "cpu"), None),
    Operation("m = nn.DataParallel(nn.Linear(4, 2)).cuda()\nz = m(x.repeat(2, 1))\nz.sum().backward()\nz, m.module.weight.grad",
              value=None, least=2),
    Operation("a, b = nn.Linear(4, 4).to(D), nn.Linear(4, 2).to(D1)\nb(a(x).to(D1)).sum().backward()\n"
              "o = torch.optim.AdamW([*a.parameters(), *b.parameters()])\no.step()\n"
              "a.weight.grad, b.weight.grad, o.state[b.weight]['exp_avg']",
              ("cuda:0", "cuda:1", "cuda:1"), None, least=2),
    Operation("str(torch.device(0))", value="cuda:0"),
    Operation("from torch.profiler import profile\nwith profile():\n    z = x + 1\nz", value=None),
    Operation("e = torch.Event(device='cuda', enable_timing=True)\ne.record()\ne.query()", value=True),
]  # fmt: skip

SPARSE_AND_OTHERS = [
    *each(
        "x.to_sparse()", "x.to_sparse().to_dense()", "x.to_sparse_csr()", "x.to_sparse() * 2",
        "torch.sparse.mm(x.to_sparse(), y.t())", "x.to_sparse() @ v", "x.to_sparse().coalesce().values()",
        "x.to_sparse().coalesce().indices()",
        "torch.sparse_coo_tensor(torch.tensor([[0, 1]]), torch.tensor([1.0, 2.0]), (3,), device=D)",
        "torch.sparse_coo_tensor(i[None], v[:3], (3,))", "torch.sparse.sum(x.to_sparse())",
        "torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)",
        "torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize()",
        "c.conj().resolve_conj()", "c @ c.t()", "torch.angle(c)",
        "x.to(torch.float8_e4m3fn).to(torch.float32)", "x.bfloat16().float()",
        "torch.nested.nested_tensor([x, y]).to(D).to_padded_tensor(0.0)",
        "x.view(torch.int32)", "x.untyped_storage() and torch.tensor([], device=D).set_(x.untyped_storage())",
        "x.resize_(2, 2)", "x.new_empty(0).set_(x)", "x.storage().tolist() and x",
        "torch.utils._pytree.tree_map(lambda t: t * 2, {'a': x, 'b': (y,)})",
    ),
    Operation("x.to_sparse().device.type, x.to_sparse().is_cuda", value=("cuda", True)),
    Operation("x.to_sparse() + hx.to_sparse()", error=("RuntimeError", "")),
]  # fmt: skip

PROGRAMS = [
    *AUTOGRAD, *MODULES, *OPTIMIZERS, *SERIALIZATION, *CUDA, *AUTOCAST, *SUBCLASSES, *SPARSE_AND_OTHERS,
]  # fmt: skip
