"""transformers: models made from a config, a tokenizer made on the spot, folders saved here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.notebook import ON_DEVICE, Notebook

pytest.importorskip("torch")
pytest.importorskip("transformers")

ENCODER = """
import copy
import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers import get_linear_schedule_with_warmup

torch.manual_seed(0)
config = BertConfig(
    vocab_size=500, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=96, max_position_embeddings=64, num_labels=3,
)
encoder = BertForSequenceClassification(config).eval()
ids, labels = torch.randint(0, 500, (12, 16)), torch.randint(0, 3, (12,))
"""

DECODER = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(2)
decoder = LlamaForCausalLM(LlamaConfig(
    vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=128, max_position_embeddings=128,
    tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)).eval()
prompt = torch.tensor([[1, 17, 42, 99]])
"""

TOKENIZER = """
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

sentences = ["the cat sat on the mat", "a dog ran over the hill", "the hill is green"] * 4
raw = Tokenizer(models.BPE(unk_token="<unk>"))
raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
special = ["<pad>", "<s>", "</s>", "<unk>"]
trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special)
raw.train_from_iterator(sentences, trainer)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
    unk_token="<unk>", model_max_length=64,
)
"""


def test_an_encoder_is_trained_in_a_gpu_cell(notebook: Notebook) -> None:
    """Weights, optimizer and schedule are those of a plain training afterwards, bit for bit."""
    notebook.once(ENCODER)
    notebook.cell(
        """
        pupil = copy.deepcopy(encoder)

        def training(model):
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            return model, optimizer, get_linear_schedule_with_warmup(optimizer, 2, 10)

        def train(model, optimizer, schedule, steps=3):
            model.train()
            for step in range(steps):
                out = model(input_ids=ids, labels=labels)
                out.loss.backward()
                optimizer.step(), schedule.step(), optimizer.zero_grad()
            model.eval()
            return out.loss.item()

        state = training(pupil)
        twin = training(copy.deepcopy(encoder))
        before = [id(p) for p in pupil.parameters()]
        torch.manual_seed(1)
        losses = [train(*twin), train(*twin)]
        torch.manual_seed(1)
        """
    )
    notebook.gpu("there = [train(*state)]")
    notebook.gpu("there.append(train(*state))")
    assert notebook.receipt["sent_bytes"] < 100_000
    assert (
        notebook.cell(
            """
            print(there == losses, [id(p) for p in pupil.parameters()] == before)
            pairs = zip(pupil.parameters(), twin[0].parameters(), strict=True)
            print(all(torch.equal(a, b) for a, b in pairs), state[2].get_last_lr())
            print(state[2].get_last_lr() == twin[2].get_last_lr())
            """
        ).splitlines()[-1]
        == "True"
    )
    assert notebook.cell("print(there == losses)") == "True"


def test_outputs_come_home_as_what_they_are(notebook: Notebook) -> None:
    """A model's output keeps its class, its fields and the sharing between them."""
    notebook.once(ENCODER)
    notebook.gpu(
        """
        with torch.no_grad():
            out = encoder(input_ids=ids, labels=labels, output_hidden_states=True)
        """
    )
    assert (
        notebook.cell(
            """
            with torch.no_grad():
                here = encoder(input_ids=ids, labels=labels, output_hidden_states=True)
            print(type(out) is type(here), list(out) == list(here), len(out.hidden_states))
            print(torch.equal(out.logits, here.logits), out[0] is out.loss)
            """
        )
        == "True True 3\nTrue True"
    )


def test_a_decoder_generates(notebook: Notebook) -> None:
    """``generate`` gives the tokens of a plain cell: greedy, sampled with a seed, and beams.

    Embedding and output layer stay one parameter, and a cache from one cell serves the next.
    """
    notebook.once(DECODER)
    notebook.cell(
        """
        settings = [
            dict(do_sample=False),
            dict(do_sample=True, top_p=0.9),
            dict(num_beams=3, do_sample=False),
        ]

        def write():
            torch.manual_seed(3)
            return [decoder.generate(prompt, max_new_tokens=12, **how) for how in settings]

        here = write()
        """
    )
    notebook.gpu(
        """
        there = write()
        with torch.no_grad():
            first = decoder(prompt, use_cache=True)
        """
    )
    notebook.gpu(
        """
        with torch.no_grad():
            second = decoder(first.logits[:, -1:].argmax(-1), past_key_values=first.past_key_values)
        """
    )
    assert (
        notebook.cell(
            """
            print(all(map(torch.equal, here, there)), [one.shape[1] for one in there][0] > 4)
            whole = torch.cat([prompt, first.logits[:, -1:].argmax(-1)], 1)
            print(torch.allclose(decoder(whole).logits[:, -1:], second.logits, atol=1e-5))
            cache = second.past_key_values
            print(cache.get_seq_length(), cache is first.past_key_values)
            print(decoder.lm_head.weight is decoder.model.embed_tokens.weight)
            """
        )
        == "True True\nTrue\n5 True\nTrue"
    )


def test_a_streamer_prints_while_the_cell_runs(notebook: Notebook) -> None:
    """A streamer and a stopping criterion of the notebook are called in the worker."""
    notebook.once(DECODER)
    notebook.cell(
        """
        from transformers import StoppingCriteria
        from transformers.generation.streamers import BaseStreamer

        class Printer(BaseStreamer):
            def __init__(self):
                self.seen = []
            def put(self, value):
                self.seen.extend(value.flatten().tolist())
                print(len(self.seen), end=" ")
            def end(self):
                print("end")

        class AtMost(StoppingCriteria):
            def __call__(self, ids, scores, **kwargs):
                return torch.full((len(ids),), ids.shape[1] >= 8)

        printer = Printer()
        """
    )
    call = "decoder.generate(prompt, max_new_tokens=20, do_sample=False,"
    call += " streamer=printer, stopping_criteria=[AtMost()])"
    assert notebook.gpu(f"told = {call}") == "4 5 6 7 8 end"
    assert notebook.cell("print(printer.seen == told[0].tolist())") == "True"


def test_a_pipeline_with_a_tokenizer_made_on_the_spot(notebook: Notebook) -> None:
    """A pipeline classifies and writes in a GPU cell what it does in a plain one."""
    for needed in (ENCODER, DECODER, TOKENIZER):
        notebook.once(needed)
    notebook.cell(
        """
        from transformers import pipeline

        classify = pipeline("text-classification", model=encoder, tokenizer=tokenizer, device="cpu")
        continued = pipeline("text-generation", model=decoder, tokenizer=tokenizer, device="cpu")
        """
    )
    work = (
        "= (classify(sentences[:3], batch_size=2),"
        " continued('the cat', max_new_tokens=5, do_sample=False),"
        " tokenizer(sentences[:2], padding=True, return_tensors='pt'))"
    )
    notebook.gpu(f"there {work}")
    assert (
        notebook.cell(
            f"""
            here {work}
            print(here[0] == there[0], here[1] == there[1], there[0][0]["label"][:6])
            found, expected = there[2], here[2]
            print(type(found) is type(expected), torch.equal(found.input_ids, expected.input_ids))
            print(classify.model is encoder, tokenizer.decode(found.input_ids[0]))
            """
        )
        == "True True LABEL_\nTrue True\nTrue the cat sat on the mat"
    )


def test_from_pretrained_of_a_folder_saved_on_the_spot(notebook: Notebook, tmp_path: Path) -> None:
    """A model saved by a GPU cell is loaded by a plain one; its weights travel as their file."""
    notebook.once(DECODER)
    notebook.once(TOKENIZER)
    notebook.cell(
        f"""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        folder = {str(tmp_path / "model")!r}
        """
    )
    notebook.gpu("decoder.save_pretrained(folder); tokenizer.save_pretrained(folder)")
    notebook.cell(
        """
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        words = AutoTokenizer.from_pretrained(folder)
        """
    )
    notebook.gpu(
        """
        again = words.batch_decode(loaded.generate(prompt, max_new_tokens=6, do_sample=False))
        late = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        """
    )
    assert (
        notebook.cell(
            """
            plain = words.batch_decode(decoder.generate(prompt, max_new_tokens=6, do_sample=False))
            print(plain == again, late.dtype, late.config.hidden_size)
            print(torch.equal(late.lm_head.weight, decoder.lm_head.weight.bfloat16()))
            print(late.lm_head.weight is late.model.embed_tokens.weight)
            """
        )
        == "True torch.bfloat16 64\nTrue\nTrue"
    )


def test_a_model_placed_in_a_plain_cell(notebook: Notebook, tmp_path: Path) -> None:
    """``from_pretrained(device_map="cuda")`` and ``.to("cuda")``: used there, in either cell."""
    for needed in (ON_DEVICE, ENCODER, DECODER, TOKENIZER):
        notebook.once(needed)
    notebook.cell(
        f"""
        from transformers import LlamaForCausalLM, pipeline

        decoder.save_pretrained({str(tmp_path)!r})
        placed = LlamaForCausalLM.from_pretrained({str(tmp_path)!r}, device_map="cuda")
        how = dict(max_new_tokens=6, do_sample=False)
        here = placed.generate(prompt.to("cuda"), **how)
        mover = copy.deepcopy(encoder)
        optimizer = torch.optim.AdamW(mover.parameters(), lr=1e-3)
        scaler = torch.amp.GradScaler("cuda")
        mover.to("cuda")
        before = [id(p) for p in mover.parameters()], torch.cuda.memory_allocated() > 0
        on_device = pipeline("text-generation", model=placed, tokenizer=tokenizer)
        said = on_device("the cat", **how)
        """
    )
    notebook.gpu(
        """
        there = placed.generate(prompt.to(placed.device), **how)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = mover(input_ids=ids.to("cuda"), labels=labels.to("cuda"))
        scaler.scale(out.loss).backward()
        scaler.step(optimizer); scaler.update()
        again = on_device("the cat", **how)
        """
    )
    assert (
        notebook.cell(
            """
            print(there.device, torch.equal(here, there), placed.device, said == again)
            print({str(p.device) for p in mover.parameters()}, out.logits.device, out.logits.dtype)
            print([id(p) for p in mover.parameters()] == before[0], before[1])
            print({str(p.grad.device) for p in mover.parameters() if p.grad is not None})
            moments = optimizer.state[mover.classifier.weight]
            print(moments["exp_avg"].device, scaler.get_scale() > 0)
            """
        )
        == "cuda:0 True cuda:0 True\n{'cuda:0'} cuda:0 torch.bfloat16\nTrue True\n"
        "{'cuda:0'}\ncuda:0 True"
    )
