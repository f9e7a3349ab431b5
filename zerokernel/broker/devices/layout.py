"""The layout of devices: what is declared, and whether what is found is that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zerokernel.broker.devices.found import WHOLE, Gpu, Part, in_words, is_profile, is_share
from zerokernel.broker.devices.tables import read_table
from zerokernel.settings import BadSetting

CONTEXT_BYTES = 640 << 20
"""What a process has on a device beside what it allocates; each share leaves room for it."""

_ALL = "*"


@dataclass(frozen=True)
class Layout:
    """What each device shall be divided into.

    Attributes:
        forms: By a device's UUID or index, "*" for each that is not named: WHOLE, MIG
            profiles, or shares of the GPU. Empty where nothing is declared.
    """

    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, gpu: Gpu) -> tuple[str, ...] | None:
        """Gives what a GPU shall be divided into, None where that is not declared."""
        for name in (gpu.uuid, str(gpu.index), _ALL):
            if name in self.forms:
                return self.forms[name]
        return None


def read_layout(text: str) -> Layout:
    """Reads the setting ``layout``: a JSON object, device → list of forms.

    Raises:
        BadSetting: It is not that, or a form is unknown or does not go with its neighbours.
    """
    declared = read_table("layout", text, "devices", "device = [forms]")
    return Layout({name: _forms(name, forms) for name, forms in declared.items()})


def _forms(device: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise BadSetting(f"The layout of {device!r} is no list of forms, such as [{WHOLE!r}].")
    forms = tuple(str(one) for one in given)
    for form in forms:
        if not (form == WHOLE or is_profile(form) or is_share(form)):
            raise BadSetting(
                f"The layout of {device!r} names {form!r}; a form is {WHOLE!r}, a MIG profile "
                'such as "3g.71gb", or a share such as "1/2".'
            )
    shares = [form for form in forms if is_share(form)]
    if shares and len(shares) < len(forms):
        raise BadSetting(f"The layout of {device!r} mixes shares with other forms.")
    if sum(1 / int(form[2:]) for form in shares) > 1 + 1e-9:
        raise BadSetting(f"The shares of {device!r} are more than a whole GPU together.")
    if WHOLE in forms and len(forms) > 1:
        raise BadSetting(f"The layout of {device!r} has {WHOLE!r} and something beside it.")
    return forms


def difference(wanted: Iterable[str], parts: Iterable[Part]) -> str:
    """Says how the parts that were found differ from what is wanted; "" where they do not."""
    hardware = Counter(WHOLE if is_share(form) else form for form in wanted)
    if WHOLE in hardware:
        hardware[WHOLE] = 1
    found = Counter(part.form for part in parts)
    if hardware == found:
        return ""
    return f"it should be {_counted(hardware)}, and is {_counted(found)}"


def _counted(forms: Counter[str]) -> str:
    named = [f"{number} x {in_words(form)}" for form, number in sorted(forms.items())]
    return " + ".join(named) or "without any instance"


def shares(wanted: Iterable[str], whole: Part) -> list[Part]:
    """Gives the shares that a whole GPU is divided into, where it is."""
    gpu = whole.gpu
    return [
        Part(gpu, form, gpu.uuid, int(gpu.memory / int(form[2:])) - CONTEXT_BYTES, number)
        for number, form in enumerate(wanted, 1)
    ]
