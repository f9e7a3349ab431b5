"""Pictures by PIL, without torchvision: what notebooks do with images around a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.notebook import Notebook

pytest.importorskip("torch")
pytest.importorskip("PIL")

IMPORTS = """
from pathlib import Path
import numpy as np, torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat
from torch import nn
"""


def test_pictures_go_through_a_model(notebook: Notebook, tmp_path: Path) -> None:
    """Files opened in a plain cell are filtered by a network in a GPU cell, and used in both."""
    notebook.once(IMPORTS)
    notebook.cell(
        f"""
        folder = Path({str(tmp_path)!r})
        for n, colour in enumerate(["red", "seagreen", "#4060ff"]):
            image = Image.new("RGB", (96, 64), "white")
            ImageDraw.Draw(image).ellipse((8 + 10 * n, 8, 60, 56), fill=colour)
            image.save(folder / f"{{n}}.png", dpi=(72, 72))
        files = [Image.open(path) for path in sorted(folder.glob("*.png"))]  # not loaded yet

        def to_tensor(image):
            return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255

        def to_image(tensor):
            values = (tensor.clamp(0, 1) * 255).round().byte()
            return Image.fromarray(values.permute(1, 2, 0).numpy())

        class Blur(nn.Module):
            def __init__(self):
                super().__init__()
                self.convolution = nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False)
                nn.init.constant_(self.convolution.weight, 1 / 25)

            def forward(self, x):
                return self.convolution(x)

        blur = Blur().requires_grad_(False)

        def work():
            batch = torch.stack([to_tensor(ImageOps.fit(image, (48, 48))) for image in files])
            return [to_image(picture) for picture in blur(batch)]
        """
    )
    notebook.gpu("blurred = work()\nedges = blurred[0].filter(ImageFilter.FIND_EDGES)\nblurred[0]")
    assert (
        notebook.cell(
            """
            print([image.size for image in blurred], type(blurred[0]).__name__)
            print([ImageChops.difference(a, b).getbbox() for a, b in zip(blurred, work())])
            print(ImageStat.Stat(edges).mean[0] > 0, files[0].format, files[0].info["dpi"][0] > 71)
            """
        )
        == "[(48, 48), (48, 48), (48, 48)] Image\n[None, None, None]\nTrue PNG True"
    )


def test_a_picture_is_drawn_on_in_place(notebook: Notebook) -> None:
    """``paste`` and ``ImageDraw`` in a GPU cell draw on the notebook's own picture."""
    notebook.once(IMPORTS)
    notebook.cell(
        """
        stamps = [Image.linear_gradient("L").resize((48, 48)) for _ in range(3)]
        canvas = Image.new("RGBA", (200, 80))
        shelf, alias = {"canvas": canvas, "pen": ImageDraw.Draw(canvas)}, canvas
        palette = Image.new("P", (4, 4)); palette.putpalette([255, 0, 0] * 256)
        """
    )
    notebook.gpu(
        """
        for n, image in enumerate(stamps):
            canvas.paste(image, (10 + 60 * n, 16))
        shelf["pen"].text((4, 2), "stamps", fill="black")
        shown = np.asarray(canvas)
        colour = palette.convert("RGB").getpixel((0, 0))
        """
    )
    assert (
        notebook.cell(
            """
            print((np.asarray(alias) == shown).all(), alias.getpixel((34, 40))[3], colour)
            print(shelf["canvas"] is canvas is alias, shelf["pen"]._image is canvas)
            """
        )
        == "True 255 (255, 0, 0)\nTrue True"
    )
