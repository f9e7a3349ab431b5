"""Tables: what may stand on the line of `%%gpu`, what it means, and what is said otherwise."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from zerokernel.errors import BadDuration, BadOption
from zerokernel.notebook.options import (
    OPTIONS,
    CellOptions,
    Completion,
    complete,
    help_text,
    parse_cell_options,
)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def fails(error: Exception) -> Any:
    raise error


NOTEBOOK: dict[str, Any] = {
    "n": 3,
    "base": 20.5,
    "half": Fraction(1, 2),
    "counts": np.array([4, 5]),
    "rates": {"small one": 7},
    "timedelta": timedelta,
    "estimate": lambda *a: 10 * (len(a) + 1),
    "span": lambda: timedelta(minutes=3),
    "twice": lambda: lambda: 1,
    "length": len,
    "broken": lambda: fails(KeyError("batch")),
    "mute": lambda: fails(Mute()),
    "refuses": lambda: fails(BadDuration("as the notebook has it")),
    "nothing": None,
    "yes": True,
    "inf": math.inf,
}


def evaluate(expression: str) -> object:
    return eval(expression, dict(NOTEBOOK))


def parse(line: str) -> CellOptions:
    return parse_cell_options(line, evaluate, default_duration=60.0, default_size="large")


DURATIONS = [
    ("-d 90", 90),
    ("-d 90s", 90),
    ("-d 1.5", 1.5),
    ("-d 1e2", 100),
    ("-d .5", 0.5),
    ("-d 2m", 120),
    ("-d 2M", 120),
    ("-d 1.5m", 90),
    ("-d 1h", 3600),
    ("-d 1h30m", 5400),
    ("-d 1h30m10s", 5410),
    ("-d 1h 30m", 5400),
    ("-d '1h 30m'", 5400),
    ("-d 1h10s", 3610),
    ("-d90", 90),
    ("-d2m", 120),
    ("-d=90", 90),
    ("--duration 90", 90),
    ("--duration=90", 90),
    ("--duration=2m --quiet", 120),
    ("--duration '90'", 90),
    ("   -d    90   ", 90),
    ("-d 5 -d 10", 10),
    ("-d 90 # seconds", 90),
    # expressions
    ("-d n", 3),
    ("-d n*10", 30),
    ('-d "30 * n"', 90),
    ("-d '30 * n'", 90),
    ('--duration="30 * n"', 90),
    ("-d 30 * n", 90),
    ("-d 30 * n -q", 90),
    ("--duration=30 * n", 90),
    ("-q -d 30 * n -s large", 90),
    ("-d base+10", 30.5),
    ("-d base + 10", 30.5),
    ("-d half", 0.5),
    ("-d counts.sum()", 9),
    ("-d counts[0]", 4),
    ("-d np_free if nothing else n", 3),
    ("-d estimate(n)", 20),
    ("-d estimate(n, 2)", 30),
    ("-d estimate(n, -n)", 30),
    ('-d estimate("a b")', 20),
    ("-d estimate('x', \"y\")", 30),
    ("-d 'estimate(\"x\")'", 20),
    ('-d "estimate(\\"x\\")"', 20),
    ('-d rates["small one"]', 7),
    ("-d estimate\\(n\\)", 20),
    ("-d estimate", 10),
    ("-d span", 180),
    ("-d span()", 180),
    ("-d timedelta(minutes=2)", 120),
    ("-d lambda: n", 3),
    ("-d 10 - 5", 5),
    ("-d 10 -5", 5),
    ("-d=n", 3),
]


@pytest.mark.parametrize(("line", "seconds"), DURATIONS)
def test_durations(line: str, seconds: float) -> None:
    """A duration is a time or an expression, quoted or not, and becomes seconds."""
    duration = parse(line).duration
    assert duration == pytest.approx(seconds)
    assert type(duration) is float


OTHERS = [
    ("", CellOptions(60.0, "large")),
    ("   ", CellOptions(60.0, "large")),
    ("# nothing", CellOptions(60.0, "large")),
    ("--cpu", CellOptions(60.0, "large", cpu=True)),
    ("--quiet", CellOptions(60.0, "large", quiet=True)),
    ("-q", CellOptions(60.0, "large", quiet=True)),
    ("-q --cpu -q", CellOptions(60.0, "large", cpu=True, quiet=True)),
    ("-s xlarge", CellOptions(60.0, "xlarge")),
    ("--size xlarge", CellOptions(60.0, "xlarge")),
    ("--size=xlarge", CellOptions(60.0, "xlarge")),
    ("-s=xlarge", CellOptions(60.0, "xlarge")),
    ("-s 3g.71gb", CellOptions(60.0, "3g.71gb")),
    ("-s 'my size'", CellOptions(60.0, "my size")),
    ('-s "my size" -q', CellOptions(60.0, "my size", quiet=True)),
    ("-s my\\ size", CellOptions(60.0, "my size")),
    ("-s small -s xlarge", CellOptions(60.0, "xlarge")),
    ("-d 90 -s xlarge --cpu -q", CellOptions(90.0, "xlarge", cpu=True, quiet=True)),
    ("-s xlarge -d 30 * n", CellOptions(90.0, "xlarge")),
    ("\t-s\txlarge\t", CellOptions(60.0, "xlarge")),
    ("--memory 40G", CellOptions(60.0, "", memory=40 * 10**9)),
    ("--memory=1.5TB", CellOptions(60.0, "", memory=15 * 10**11)),
    ("--memory 500mib -s small", CellOptions(60.0, "small", memory=500 << 20)),
    ("--min-capability 9.0", CellOptions(60.0, "", capability=(9, 0))),
    ("--min-capability 8 --memory 2G", CellOptions(60.0, "", memory=2 * 10**9, capability=(8, 0))),
]


@pytest.mark.parametrize(("line", "options"), OTHERS)
def test_other_options(line: str, options: CellOptions) -> None:
    """Options stand in any order; what is not given is the default."""
    assert parse(line) == options


BAD_DURATIONS = [
    ("-d 0", "`--duration 0` is 0 seconds; it must be more than 0"),
    ("-d 0s", "must be more than 0"),
    ("-d -5", "`--duration -5` is -5 seconds"),
    ("-d n-10", "`--duration n-10` is -7 seconds"),
    ("-d nan", "`--duration nan` is nan, not a finite time"),
    ("-d inf", "not a finite time"),
    ("-d inf*1", "not a finite time"),
    ("-d 10**400", "not a finite time"),
    ("-d 1e999", "not a finite time"),
    ("-d nowhere", "raised NameError: name 'nowhere' is not defined"),
    ("-d '30 * epocs'", "`--duration 30 * epocs` raised NameError: name 'epocs'"),
    ("-d n/0", "raised ZeroDivisionError: division by zero"),
    ("-d broken", "raised KeyError: 'batch'"),
    ("-d broken()", "raised KeyError: 'batch'"),
    ("-d mute()", "raised Mute. "),
    ("-d length", "raised TypeError: "),
    ("-d nothing", "gives an object of type NoneType"),
    ("-d yes", "gives an object of type bool"),
    ("-d True", "gives an object of type bool"),
    ("-d n==3", "gives an object of type bool"),
    ("-d '\"90s\"'", "gives an object of type str"),
    ("-d counts", "gives an object of type ndarray"),
    ("-d counts[0]>1", "gives an object of type"),
    ("-d twice", "gives an object of type function"),
    ("-d 90x", "`--duration 90x` is neither a time nor an expression"),
    ("-d 1h30", "is neither a time nor an expression"),
    ("-d (n", "is neither a time nor an expression"),
    ("-d 'n = 3'", "is neither a time nor an expression"),
    ("-d '30 *'", "is neither a time nor an expression"),
    ("-d", "`-d` wants a value"),
    ("--duration", "`--duration` wants a value"),
    ("--duration=", "`--duration` wants a value"),
    ("-d ''", "`-d` wants a value"),
    ("-d ' '", "`-d` wants a value"),
    ("-d -q", "`-d` wants a value"),
    ("-d --size large", "`-d` wants a value"),
    ("-d # 90", "`-d` wants a value"),
]


@pytest.mark.parametrize(("line", "message"), BAD_DURATIONS)
def test_bad_durations(line: str, message: str) -> None:
    """What is not a positive time is told with what was given and what is accepted."""
    with pytest.raises(BadDuration) as caught:
        parse(line)
    assert message in str(caught.value)
    assert "Accepted: a time such as 90, 90s, 2m" in str(caught.value)


def test_an_error_of_our_own_kind_from_the_notebook_is_passed_on() -> None:
    """An estimate may refuse by itself; its message is the user's own."""
    with pytest.raises(BadDuration, match="as the notebook has it"):
        parse("-d refuses()")


def test_an_interrupt_of_the_expression_passes() -> None:
    """Only errors become messages; an interrupt stays what it is."""

    def interrupted(expression: str) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parse_cell_options("-d f()", interrupted, 60.0, "")


def test_the_error_of_an_expression_is_the_cause() -> None:
    """The notebook's own exception is kept for whoever asks."""
    with pytest.raises(BadDuration) as caught:
        parse("-d n/0")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


BAD_OPTIONS = [
    ("--durration 60", "`--durration` is not an option of %%gpu. Did you mean `--duration`?"),
    ("--dur 60", "Did you mean `--duration`?"),
    ("-duration 60", "Did you mean `--duration`?"),
    ("--sise large", "Did you mean `--size`?"),
    ("--gpu", "Did you mean `--cpu`?"),
    ("--CPU", "Did you mean `--cpu`?"),
    ("-Q", "Did you mean `--quiet`?"),
    ("--time=60", "`--time=60` is not an option of %%gpu. The options are --duration, --size"),
    ("--memory", "`--memory` wants an amount, such as `--memory 40G`"),
    ("--memory 40", "wants an amount such as 40G"),
    ("--memory lots", "wants an amount such as 40G"),
    ("--memory 0G", "wants an amount such as 40G"),
    ("--min-capability", "`--min-capability` wants a number, such as"),
    ("--min-capability hopper", "wants a number such as 9.0"),
    ("--min-capability 9.0.1", "wants a number such as 9.0"),
    ("-x", "The options are --duration, --size, --memory, --min-capability, --firm, --cpu,"),
    ("--", "`--` is not an option"),
    ("-", "`-` is not an option"),
    ("cpu", "Did you mean `--cpu`?"),
    ("xlarge", "A size is given as `--size xlarge`"),
    ("large -d 60", "A size is given as `--size large`"),
    ("120", "Did you mean `--duration 120`?"),
    ("2m", "Did you mean `--duration 2m`?"),
    ("model.train()", "`model.train()` is not an option"),
    ("-d 60 large", "`large` after `--duration 60` is not an option"),
    ("-d 60 90", "`90` after `--duration 60` is not an option"),
    ("-d n large -q", "`large` after `--duration n` is not an option"),
    ("-d 2 * -n", "put in quotes"),
    ("-d 30 -n", "`-n` is not an option of %%gpu. If it belongs to the duration, put"),
    ("-s", "`-s` wants a name, such as `-s large`"),
    ("--size --cpu", "`--size` wants a name"),
    ("--size=", "`--size` wants a name"),
    ("-s ''", "`-s` wants a name"),
    ("-s large small", "`small` is not an option"),
    ("--cpu=1", "`--cpu` takes no value, but was given `1`"),
    ("-q=yes", "`-q` takes no value"),
    ("-d 'n", "has no end in `'n`"),
    ('-s "large', 'has no end in `"large`'),
    ("-s large\\", "has no end"),
    ("it's", "has no end in `it's`"),
]


@pytest.mark.parametrize(("line", "message"), BAD_OPTIONS)
def test_bad_options(line: str, message: str) -> None:
    """What is not understood is named, with the likeliest thing that was meant."""
    with pytest.raises(BadOption) as caught:
        parse(line)
    assert message in str(caught.value)
    assert not isinstance(caught.value, BadDuration)


def test_nothing_is_evaluated_on_a_line_that_is_not_understood() -> None:
    """An expression may take long or change things: the whole line is read first."""
    asked: list[str] = []
    with pytest.raises(BadOption):
        parse_cell_options("-d f() --sise x", asked.append, 60.0, "")
    with pytest.raises(BadOption):
        parse_cell_options("-d f() --memory x", asked.append, 60.0, "")
    assert asked == []


@pytest.mark.parametrize("line", ["-d 90s", "-d 90", "", "-d '1h 30m'", "-d 1e2"])
def test_a_time_is_not_evaluated(line: str) -> None:
    """What reads as a time needs no notebook."""
    parse_cell_options(line, lambda expression: fails(AssertionError(expression)), 60.0, "")


def test_help_names_every_option() -> None:
    """The help comes from the table: each flag, what it takes and what it does."""
    text = help_text()
    for option in OPTIONS:
        assert all(flag in text for flag in option.flags)
        assert option.metavar in text
        assert option.help.split(".")[0] in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_the_helps_examples_are_understood() -> None:
    """Each example of the help parses."""
    names = {"epochs": 2, "estimate": lambda batches: 5, "batches": 1}
    lines = [line for line in help_text().split("Examples:")[1].splitlines() if "%%gpu" in line]
    assert len(lines) >= 3
    for line in lines:
        rest = line.strip().removeprefix("%%gpu")
        parse_cell_options(rest, lambda text: eval(text, dict(names)), 60.0, "")


REST = ("--memory", "--min-capability", "--firm", "--cpu", "--plan")
ALL = ("--duration", "--size", *REST, "--quiet")
# The cursor is at the bar.
COMPLETIONS = [
    ("|", "", ALL),
    ("-d 60 |", "", ("--size", *REST, "--quiet")),
    ("-|", "-", (*ALL, "-d", "-s", "-q")),
    ("--|", "--", ALL),
    ("--d|", "--d", ("--duration",)),
    ("--x|", "--x", ()),
    ("-q|", "-q", ("-q",)),
    ("-q -|", "-", ("--duration", "--size", *REST, "-d", "-s")),
    ("--quiet --|", "--", ("--duration", "--size", *REST)),
    ("--size=large --|", "--", ("--duration", *REST, "--quiet")),
    (
        "-| --cpu -s large",
        "-",
        ("--duration", *(one for one in REST if one != "--cpu"), "--quiet", "-d", "-q"),
    ),
    ("-s |", "", ("large", "xlarge")),
    ("-s x|", "x", ("xlarge",)),
    ("--size l|", "l", ("large",)),
    ("--size=|", "", ("large", "xlarge")),
    ("--size=x|", "x", ("xlarge",)),
    ("-d |", "", ()),
    ("-d est|", "est", ()),
    ("-d=|", "", ()),
    ("-d 60 -s |", "", ("large", "xlarge")),
    ("lar|", "lar", ()),
    ("  --c|", "--c", ("--cpu",)),
    ("--cp|u", "--cp", ("--cpu",)),
]


@pytest.mark.parametrize(("line", "fragment", "matches"), COMPLETIONS)
def test_completions(line: str, fragment: str, matches: tuple[str, ...]) -> None:
    """Tab offers the options that are not there yet, and sizes after `--size`."""
    cursor = line.index("|")
    found = complete(line.replace("|", ""), cursor, ["large", "xlarge"])
    assert found == Completion(cursor - len(fragment), cursor, fragment, matches)
