"""diffusers: a whole text-to-image pipeline of small parts, made from configs, and its training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.notebook import ON_DEVICE, Notebook

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

PARTS = """
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

logging.disable_progress_bar()
torch.manual_seed(0)
letters = "abcdefghijklmnopqrstuvwxyz"
ends = [f"{letter}</w>" for letter in letters]
vocabulary = [*letters, *ends, "<|startoftext|>", "<|endoftext|>"]
tokenizer = CLIPTokenizer(
    vocab={word: n for n, word in enumerate(vocabulary)}, merges=[], model_max_length=32
)
text_encoder = CLIPTextModel(CLIPTextConfig(
    vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, max_position_embeddings=32, bos_token_id=52, eos_token_id=53,
    pad_token_id=53,
))
unet = UNet2DConditionModel(
    sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32,
    attention_head_dim=8,
)
vae = AutoencoderKL(
    block_out_channels=(16, 32), norm_num_groups=8, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
)
"""
PIPELINE = """
pipe = StableDiffusionPipeline(
    vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet,
    scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
    requires_safety_checker=False,
)
pipe.set_progress_bar_config(disable=True)
steps = []

def seen(pipe, step, timestep, tensors):
    steps.append((step, int(timestep)))
    return tensors

def draw(generator, count=1):
    return pipe(
        "a red cat", num_inference_steps=3, generator=generator, num_images_per_prompt=count,
        callback_on_step_end=seen,
    ).images
"""


def make(notebook: Notebook) -> None:
    """Makes the pipeline once; the device first, which diffusers looks for when imported."""
    for needed in (ON_DEVICE, PARTS, PIPELINE):
        notebook.once(needed)


def test_a_pipeline_draws(notebook: Notebook) -> None:
    """Prompt in, picture out: the same picture from a GPU cell and from a plain one.

    The generator goes on where the other kind of cell has left it, and a callback of the
    notebook has seen each step.
    """
    make(notebook)
    notebook.cell(
        """
        steps.clear()
        generator, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
        here = draw(other) + draw(other, 2)
        plain_steps, steps[:] = list(steps), []
        parts = [id(part) for part in pipe.components.values()]
        """
    )
    notebook.gpu("there = draw(generator)\nthere[0]")
    notebook.gpu("there += draw(generator, 2)")
    assert notebook.receipt["sent_bytes"] < 200_000
    assert (
        notebook.cell(
            """
            print([(np.asarray(a) == np.asarray(b)).all().item() for a, b in zip(here, there)])
            print(steps == plain_steps, len(there), there[0].size, type(there[0]).__name__)
            print([id(part) for part in pipe.components.values()] == parts, pipe.unet is unet)
            """
        )
        == "[True, True, True]\nTrue 3 (16, 16) Image\nTrue True"
    )


def test_parts_are_exchanged(notebook: Notebook) -> None:
    """Another scheduler, half precision of one part, slices: set in one cell, used in the other."""
    make(notebook)
    notebook.gpu(
        """
        from diffusers import EulerDiscreteScheduler

        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        pipe.vae.enable_slicing()
        sliced = draw(torch.Generator().manual_seed(2), 2)
        """
    )
    assert (
        notebook.cell(
            """
            again = draw(torch.Generator().manual_seed(2), 2)
            print([(np.asarray(a) == np.asarray(b)).all().item() for a, b in zip(again, sliced)])
            scheduler = pipe.scheduler
            print(type(scheduler).__name__, vae.use_slicing, type(scheduler.config).__name__)
            print(len(scheduler.timesteps), pipe.config["scheduler"][1])
            """
        )
        == "[True, True]\nEulerDiscreteScheduler True FrozenDict\n3 EulerDiscreteScheduler"
    )


def test_a_pipeline_placed_in_a_plain_cell(notebook: Notebook) -> None:
    """``pipe.to("cuda")`` and offloading by model: the pictures are those of the CPU."""
    make(notebook)
    notebook.cell(
        """
        import copy
        here = draw(torch.Generator().manual_seed(5))[0]
        before = [id(part) for part in pipe.components.values()]
        pipe.to("cuda")
        placed = {str(part.device) for part in (pipe.unet, pipe.vae, pipe.text_encoder)}
        """
    )
    notebook.gpu("there = draw(torch.Generator().manual_seed(5))[0]")
    notebook.gpu("drawn = draw(torch.Generator('cuda').manual_seed(5))[0]")
    assert (
        notebook.cell(
            """
            print(placed, pipe.device, (np.asarray(here) == np.asarray(there)).all())
            own = draw(torch.Generator("cuda").manual_seed(5))[0]
            print((np.asarray(own) == np.asarray(drawn)).all(), drawn.size)
            print([id(part) for part in pipe.components.values()] == before)
            pipe.enable_model_cpu_offload()
            """
        )
        == "{'cuda:0'} cuda:0 True\nTrue (16, 16)\nTrue"
    )
    notebook.gpu("offloaded = draw(torch.Generator().manual_seed(5))[0]")
    assert (
        notebook.cell(
            """
            print((np.asarray(here) == np.asarray(offloaded)).all(), pipe.unet.device)
            pipe.remove_all_hooks(); pipe.to("cpu")
            """
        )
        == "True cpu"
    )


@pytest.mark.slow
def test_a_saved_pipeline_is_loaded(notebook: Notebook, tmp_path: Path) -> None:
    """``save_pretrained`` in a GPU cell, ``from_pretrained`` in a plain one, drawn in a GPU cell.

    The weights travel as the names of their files.
    """
    make(notebook)
    notebook.cell("again = draw(torch.Generator().manual_seed(2), 2)")
    folder = str(tmp_path / "pipeline")
    notebook.gpu(f"pipe.save_pretrained({folder!r})")
    notebook.cell(
        f"""
        own = pipe
        pipe = StableDiffusionPipeline.from_pretrained({folder!r}, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        """
    )
    notebook.gpu("loaded = draw(torch.Generator().manual_seed(2), 2)")
    assert (
        notebook.cell(
            """
            print([(np.asarray(a) == np.asarray(b)).all().item() for a, b in zip(again, loaded)])
            pipe, saved = own, pipe
            print(pipe is not saved, torch.equal(saved.unet.conv_in.weight, unet.conv_in.weight))
            """
        )
        == "[True, True]\nTrue True"
    )


@pytest.mark.slow
def test_a_network_is_trained(notebook: Notebook) -> None:
    """Noise prediction with ``EMAModel``: weights and averages are those of a plain training."""
    make(notebook)
    notebook.cell(
        """
        import copy
        from diffusers.training_utils import EMAModel

        noise_scheduler = DDIMScheduler(num_train_timesteps=100)
        images, text = torch.rand(4, 4, 8, 8), torch.rand(4, 5, 32)

        def training(model):
            model.train()
            ema = EMAModel(model.parameters(), decay=0.9)
            return model, torch.optim.AdamW(model.parameters(), lr=1e-3), ema

        def train(model, optimizer, ema, steps):
            for _ in range(steps):
                noise = torch.randn_like(images)
                times = torch.randint(0, 100, (len(images),))
                noisy = noise_scheduler.add_noise(images, noise, times)
                loss = torch.nn.functional.mse_loss(model(noisy, times, text).sample, noise)
                loss.backward()
                optimizer.step(), optimizer.zero_grad()
                ema.step(model.parameters())
            return loss.item()

        pupil = copy.deepcopy(unet)
        state, twin = training(pupil), training(copy.deepcopy(unet))
        torch.manual_seed(4); here = train(*twin, steps=3); torch.manual_seed(4)
        """
    )
    notebook.gpu("train(*state, steps=1)")
    notebook.gpu("there = train(*state, steps=2)")
    assert (
        notebook.cell(
            """
            pairs = list(zip(pupil.parameters(), twin[0].parameters(), strict=True))
            pairs += zip(state[2].shadow_params, twin[2].shadow_params, strict=True)
            print(here == there, all(torch.equal(a, b) for a, b in pairs))
            print(state[2].optimization_step)
            """
        )
        == "True True\n3"
    )
