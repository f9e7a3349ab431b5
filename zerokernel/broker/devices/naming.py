"""Slices of the parts of GPUs: what people call them, and which size they are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from zerokernel.broker.devices.found import WHOLE, Part, in_words, is_share
from zerokernel.broker.devices.sizes import Size
from zerokernel.broker.scheduling import Slice

_PARTS = {1.0: "full", 1 / 2: "half", 1 / 4: "quarter", 1 / 8: "eighth"}
_SIZES = {"full": "xlarge", "half": "large", "quarter": "medium", "eighth": "small"}


def name_slices(parts: Sequence[Part], sizes: Iterable[Size] = ()) -> list[Slice]:
    """Gives a slice for each part; names are unique, and a size is the same wherever it is.

    Args:
        parts: What may be leased, in the order in which it is to be shown.
        sizes: What an administrator calls some of it, and what that carries.
    """
    defined = tuple(sizes)
    by_form = {one.form: one for one in defined if one.form}
    by_name = {one.name: one for one in defined}
    slices = []
    for part, name in zip(parts, _size_names(parts), strict=True):
        size = by_form.get(part.form) or by_name.get(name) or Size(name)
        slices.append(_slice(part, size))
    return _numbered(slices)


def _size_names(parts: Sequence[Part]) -> list[str]:
    """Gives each part's size: "large" and the like, and what tells unlike ones apart."""
    products, forms = defaultdict(set), defaultdict(set)
    for part in parts:
        products[_plain_size(part)].add(_short(part.gpu.product))
        forms[_plain_size(part)].add(part.form)
    names = []
    for part in parts:
        name = _plain_size(part)
        more = [part.form] if len(forms[name]) > 1 else []
        if len(products[name]) > 1:
            more.append(_short(part.gpu.product).lower().replace(" ", "-"))
        names.append("-".join((name, *more)).replace("/", "-"))
    return names


def _plain_size(part: Part) -> str:
    return _SIZES.get(_word(part), part.form)


def _word(part: Part) -> str:
    """Gives a word for the part of the GPU's memory, or the form where none fits."""
    if part.form == WHOLE:
        return "full"
    fraction = part.fraction
    nearest = min(_PARTS, key=lambda known: abs(known - fraction))
    # Instances lose a little of their part to the driver.
    return _PARTS[nearest] if abs(nearest - fraction) < 0.12 * nearest else part.form


def _slice(part: Part, size: Size) -> Slice:
    short = _short(part.gpu.product)
    kind = in_words(part.form)
    told = "share" if is_share(part.form) else kind
    name = f"{_word(part)} {short}" + ("" if part.form == WHOLE else f" ({told})")
    return Slice(
        id=part.id,
        name=name,
        size=size.name,
        memory=part.memory,
        simulated=False,
        environment=_environment(part),
        device=part.gpu.uuid,
        kind=kind,
        capability=part.gpu.capability,
        is_cleaned=True,
        limits=dict(size.limits),
    )


def _environment(part: Part) -> dict[str, str]:
    shown = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": part.uuid,
        "ZEROKERNEL_SLICE_MEMORY": str(part.memory),
    }
    if is_share(part.form):
        shown["ZEROKERNEL_SLICE_FRACTION"] = f"{part.memory / part.gpu.memory:.4f}"
    return shown


def _numbered(slices: list[Slice]) -> list[Slice]:
    count = Counter(one.name for one in slices)
    numbers: Counter[str] = Counter()
    named = []
    for one in slices:
        numbers[one.name] += 1
        number = f" #{numbers[one.name]}" if count[one.name] > 1 else ""
        named.append(replace(one, name=one.name + number))
    return named


def _short(product: str) -> str:
    """Gives "H200" for "NVIDIA H200", "A100" for "NVIDIA A100-SXM4-80GB"."""
    name = re.sub(r"^(NVIDIA|Tesla)\s+|\s*\(.*\)$", "", product)
    name = re.sub(r"^(Tesla|GeForce|Quadro)\s+", "", name)
    return re.sub(r"[- ](SXM|PCI|HBM|\d+GB|NVL).*$", "", name, flags=re.IGNORECASE)
