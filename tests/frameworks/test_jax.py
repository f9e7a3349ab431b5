"""JAX: first imported in a `%%gpu` cell, its arrays and compiled functions used in both kinds."""

from __future__ import annotations

import pytest

from tests.frameworks.notebook import Notebook

pytest.importorskip("jax")

IMPORTS = "import os, sys\nimport numpy as np"
JAX = "import jax, jax.numpy as jnp"
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"


def test_the_device_is_set_before_the_import(notebook: Notebook) -> None:
    """In a worker JAX finds its slice, and is told not to take all of its memory.

    The notebook's own environment has nothing of this, before and afterwards.
    """
    notebook.once(IMPORTS)
    notebook.restart_worker()
    notebook.cell("values = np.arange(12.0).reshape(3, 4)")
    told = f"print(os.environ.get({PREALLOCATE!r}), os.environ['CUDA_VISIBLE_DEVICES'] == '')"
    assert notebook.gpu(f"print('jax' in sys.modules)\n{told}") == "False\nfalse True"
    notebook.gpu(
        """
        import jax, jax.numpy as jnp
        weights = jnp.asarray(values) / 10
        squares = jax.vmap(lambda row: row @ row)(weights)
        key = jax.random.key(7)
        """
    )
    assert notebook.cell(f"print({PREALLOCATE!r} in os.environ)") == "False"
    assert (
        notebook.cell(
            """
            print(isinstance(weights, jax.Array), weights.dtype, weights.shape)
            print(np.allclose(squares, (values ** 2).sum(1) / 100))
            drawn = [jax.random.normal(one, 2) for one in (key, jax.random.key(7))]
            print((drawn[0] == drawn[1]).all())
            """
        )
        == "True float32 (3, 4)\nTrue\nTrue"
    )


def test_a_training_loop_with_compiled_functions(notebook: Notebook) -> None:
    """``jit`` and ``grad`` of notebook functions, a tree of parameters, and what it learned."""
    notebook.once(IMPORTS)
    notebook.once(JAX)
    notebook.cell(
        """
        def predict(params, x):
            for layer in params[:-1]:
                x = jnp.tanh(x @ layer["w"] + layer["b"])
            return x @ params[-1]["w"] + params[-1]["b"]

        def loss(params, x, y):
            return ((predict(params, x) - y) ** 2).mean()

        @jax.jit
        def step(params, x, y):
            value, gradient = jax.value_and_grad(loss)(params, x, y)
            return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

        def start(key, sizes=(1, 16, 1)):
            keys = jax.random.split(key, len(sizes))
            return [
                {"w": jax.random.normal(k, (a, b)) / a**0.5, "b": jnp.zeros(b)}
                for k, a, b in zip(keys, sizes, sizes[1:])
            ]

        def train(params, steps):
            for _ in range(steps):
                value, params = step(params, x, y)
            return params, float(value)

        x = jnp.linspace(-2, 2, 64)[:, None]
        y = jnp.sin(2 * x)
        params = start(jax.random.key(7))
        here = train(params, 50)
        """
    )
    notebook.gpu("params, first = train(params, 20)")
    notebook.gpu("params, last = train(params, 30)\ncompiled = jax.jit(predict)")
    assert (
        notebook.cell(
            """
            same = jax.tree.map(lambda a, b: bool((a == b).all()), params, here[0])
            print(all(jax.tree.leaves(same)), last == here[1], last < first)
            print(np.allclose(compiled(params, x), predict(params, x), atol=1e-6))
            """
        )
        == "True True True\nTrue"
    )


def test_settings_cross(notebook: Notebook) -> None:
    """``jax.config.update`` in a plain cell holds in GPU cells, and the other way round."""
    notebook.once(JAX)
    notebook.cell("jax.config.update('jax_enable_x64', True)")
    assert notebook.gpu("wide = jnp.arange(3.0)\nprint(wide.dtype)") == "float64"
    notebook.gpu("jax.config.update('jax_enable_x64', False)")
    assert notebook.cell("print(wide.dtype, jnp.arange(3.0).dtype)") == "float64 float32"


def test_the_users_choice_wins(notebook: Notebook) -> None:
    """What a plain cell sets of the memory that JAX takes is what a fresh worker has."""
    notebook.once(IMPORTS)
    notebook.cell(f"os.environ[{PREALLOCATE!r}] = 'true'")
    notebook.restart_worker()
    assert notebook.gpu(f"print(os.environ[{PREALLOCATE!r}])") == "true"
    notebook.cell(f"del os.environ[{PREALLOCATE!r}]")
    notebook.restart_worker()
    assert notebook.gpu(f"print(os.environ[{PREALLOCATE!r}])") == "false"


def test_torch_and_jax_in_one_worker(notebook: Notebook) -> None:
    """Both compute in one cell, on each other's values."""
    pytest.importorskip("torch")
    notebook.once(IMPORTS)
    notebook.once(JAX)
    notebook.cell("import torch\nlayer = torch.nn.Linear(4, 2)\nweights = jnp.ones((3, 4))")
    notebook.gpu(
        """
        with torch.no_grad():
            out = layer(torch.from_numpy(np.array(weights)))
        both = jnp.asarray(out.numpy()) @ jnp.ones((2, 1))
        """
    )
    assert notebook.cell("print(np.allclose(out.sum(1, keepdim=True), both))") == "True"
