"""The options of `%%gpu`: one table for parsing, help and completion."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zerokernel.errors import BadDuration, BadOption
from zerokernel.notebook import wishes
from zerokernel.notebook.duration import ACCEPTED, is_duration, seconds


@dataclass(frozen=True)
class Option:
    """One option as help and completion show it. Without a metavar it is a switch."""

    flags: tuple[str, ...]
    metavar: str
    help: str


DURATION = Option(
    ("--duration", "-d"),
    "TIME",
    "The most that the cell may run; shorter is sooner. Seconds, a time such as 90s, 2m, 1h or "
    "1h30m, or an expression, evaluated in the notebook, that gives seconds, a timedelta, or a "
    "function of no arguments that returns one.",
)
SIZE = Option(("--size", "-s"), "NAME", "The size of the slice. `%gpu` lists the sizes there are.")
MEMORY = Option(
    ("--memory",),
    "AMOUNT",
    "The memory that the slice must have, such as 40G: the smallest that has it is taken.",
)
CAPABILITY = Option(
    ("--min-capability",),
    "NUMBER",
    "The compute capability that the device must have at least, such as 9.0.",
)
CPU = Option(("--cpu",), "", "Run the cell here, in the notebook, without a GPU.")
FIRM = Option(
    ("--firm",),
    "",
    "Stop the cell at its limit in any case. Without this it may run on while nobody waits.",
)
QUIET = Option(("--quiet", "-q"), "", "Show no status line and no receipt.")
PLAN = Option(
    ("--plan",),
    "",
    "Show what the cell would bring along, need and wait for. Nothing is run or leased.",
)
OPTIONS: tuple[Option, ...] = (DURATION, SIZE, MEMORY, CAPABILITY, FIRM, CPU, PLAN, QUIET)

_WANTED = {SIZE: ("a name", "large"), MEMORY: ("an amount", "40G"), CAPABILITY: ("a number", "9.0")}
_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}

_EXAMPLES = """\
    %%gpu
    %%gpu --duration 2m --size large
    %%gpu --memory 40G --min-capability 8.0
    %%gpu -d "30 * epochs"
    %%gpu -d estimate(batches) -q"""


@dataclass(frozen=True)
class CellOptions:
    """What the line of one `%%gpu` cell asks for. Times are in seconds, memory in bytes.

    ``background`` is no option: so long may go on what the cell leaves running.
    """

    duration: float
    size: str
    cpu: bool = False
    quiet: bool = False
    firm: bool = False
    plan: bool = False
    background: float = 0.0
    memory: int = 0
    capability: tuple[int, ...] = ()


def parse_cell_options(
    line: str, evaluate: Callable[[str], object], default_duration: float, default_size: str
) -> CellOptions:
    """Read what follows `%%gpu`.

    Args:
        line: the rest of the line, quoted as in a shell.
        evaluate: evaluates an expression in the notebook. Called once at most, and only after
            the whole line has been understood.
        default_duration: seconds, where the line has no `--duration`.
        default_size: where the line does not say what the slice must be.

    Raises:
        BadOption: something on the line is not understood.
        BadDuration: the duration is missing, fails, or is not a positive time.
    """
    given = _Reader(line).read()
    words, switches = given.words, given.switches
    wished = SIZE in words or MEMORY in words or CAPABILITY in words
    memory = wishes.memory(words[MEMORY]) if MEMORY in words else 0
    capability = wishes.capability(words[CAPABILITY]) if CAPABILITY in words else ()
    duration = default_duration
    if given.duration is not None:
        duration = seconds(given.duration, evaluate)
    return CellOptions(
        duration,
        words.get(SIZE, "" if wished else default_size),
        cpu=CPU in switches,
        quiet=QUIET in switches,
        firm=FIRM in switches,
        plan=PLAN in switches,
        memory=memory,
        capability=capability,
    )


# --- words, as a shell makes them

_WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+""", re.DOTALL)
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)|([^"'\\]+)""", re.DOTALL)
_ONE_QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'""", re.DOTALL)
_OPTION_LIKE = re.compile(r"--?[A-Za-z][\w-]*(?:=.*)?\Z", re.DOTALL)


@dataclass(frozen=True)
class _Word:
    raw: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.raw)


def _words(line: str) -> list[_Word]:
    words: list[_Word] = []
    at = 0
    while at < len(line) and line[at] != "#":
        if line[at].isspace():
            at += 1
            continue
        match = _WORD.match(line, at)
        if match is None or line[match.end() : match.end() + 1].strip():
            raise BadOption(f"A quote or backslash has no end in `{line[at:].strip()}`.")
        words.append(_Word(match.group(), at))
        at = match.end()
    return words


def _unquoted(raw: str) -> str:
    return "".join(_piece(*match.groups()) for match in _PIECE.finditer(raw))


def _piece(double: str | None, single: str | None, escaped: str | None, plain: str | None) -> str:
    if double is not None:
        return re.sub(r'\\(["\\$`])', r"\1", double)
    return next(text for text in (single, escaped, plain) if text is not None)


# --- reading


@dataclass
class _Reader:
    """Reads the words of a line from left to right."""

    line: str
    duration: str | None = None
    words: dict[Option, str] = field(default_factory=dict)
    switches: set[Option] = field(default_factory=set)
    _waiting: list[_Word] = field(default_factory=list)

    def read(self) -> _Reader:
        self._waiting = _words(self.line)
        while self._waiting:
            word = self._waiting.pop(0)
            flag, value = _split(word)
            option = _BY_FLAG.get(flag)
            if option is None:
                raise BadOption(self._not_understood(word.raw, flag))
            if option is DURATION:
                self.duration = self._duration(flag, value)
            elif option.metavar:
                self.words[option] = self._one_word(flag, value, option)
            elif value is not None:
                raise BadOption(f"`{flag}` takes no value, but was given `{value.raw}`.")
            else:
                self.switches.add(option)
        return self

    def _next_is_value(self) -> bool:
        return bool(self._waiting) and not _OPTION_LIKE.match(self._waiting[0].raw)

    def _one_word(self, flag: str, value: _Word | None, option: Option) -> str:
        if value is None and self._next_is_value():
            value = self._waiting.pop(0)
        word = _unquoted(value.raw) if value is not None else ""
        if not word:
            what, example = _WANTED[option]
            raise BadOption(f"`{flag}` wants {what}, such as `{flag} {example}`.")
        return word

    def _duration(self, flag: str, value: _Word | None) -> str:
        words = [value] if value is not None else []
        while self._next_is_value():
            words.append(self._waiting.pop(0))
        if not words or not _unquoted(words[0].raw).strip():
            raise BadDuration(f"`{flag}` wants a value. {ACCEPTED}")
        return _expression(self.line, words)

    def _not_understood(self, raw: str, flag: str) -> str:
        """What to say of a word that is no option, with the likeliest thing that was meant."""
        told = f"`{raw}` is not an option of %%gpu"
        close = _closest(flag)
        if close:
            return f"{told}. Did you mean `{close}`?"
        if self.duration is not None and raw.startswith("-"):
            return f"{told}. If it belongs to the duration, put the expression in quotes."
        return f"{told}. {_what_a_word_may_mean(raw)}"


def _split(word: _Word) -> tuple[str, _Word | None]:
    """`--size=large` and `-d90` carry their value with them."""
    flag, equals, _ = word.raw.partition("=")
    if not equals and re.match(r"-d[\d.]", word.raw):
        flag = "-d"
    elif not equals:
        return _unquoted(word.raw), None
    skipped = len(flag) + len(equals)
    return flag, _Word(word.raw[skipped:], word.start + skipped)


def _expression(line: str, words: list[_Word]) -> str:
    """The text of a duration from its words, quoted or not: `2 * n`, `"2 * n"`, `f("x", 1)`.

    Raises:
        BadOption: the words are not one expression.
    """
    first, last = words[0], words[-1]
    raw = line[first.start : last.end]
    quoted = len(words) == 1 and _ONE_QUOTED.fullmatch(raw)
    as_shell = " ".join(_unquoted(word.raw) for word in words)
    for text in [as_shell] if quoted else [raw, as_shell]:
        if is_duration(text):
            return text
    if len(words) > 1 and is_duration(_unquoted(first.raw)):
        raise BadOption(
            f"`{line[words[1].start : last.end]}` after `--duration {first.raw}` is not an option. "
            "An expression with blanks is put in quotes; a size is given with --size."
        )
    return as_shell  # not a duration, which is told where it is used


def _closest(flag: str) -> str:
    stripped = flag.lstrip("-").lower()
    begins = [known for known in _BY_FLAG if known.lstrip("-").startswith(stripped)]
    close = difflib.get_close_matches(f"--{stripped}", _BY_FLAG, n=1, cutoff=0.7)
    if not flag.startswith("-"):
        close = []  # a word, most likely a value
    return next(iter([*begins[: bool(stripped)], *close]), "")


def _what_a_word_may_mean(raw: str) -> str:
    if raw[:1].isdigit() and is_duration(raw):
        return f"Did you mean `--duration {raw}`?"
    if raw.isidentifier():
        return f"A size is given as `--size {raw}`; the options are {_all_flags()}."
    return f"The options are {_all_flags()}."


def _all_flags() -> str:
    *most, last = (option.flags[0] for option in OPTIONS)
    return f"{', '.join(most)} and {last}"


# --- help and completion


def help_text() -> str:
    """What `%%gpu?` shows."""
    usage = textwrap.fill(
        " ".join(f"[{_usage(option)}]".replace(" ", "\0") for option in OPTIONS),
        90,
        subsequent_indent=" " * 10,
        break_on_hyphens=False,
    ).replace("\0", " ")
    rows = "\n".join(_help_row(option) for option in OPTIONS)
    return (
        "Run the cell on a leased GPU slice.\n\n"
        f"    %%gpu {usage}\n\n"
        "The objects that the cell uses travel to a worker on the slice; what it makes or changes "
        "is\nback in the notebook afterwards, in the very same objects.\n\n"
        f"Options:\n{rows}\n\nExamples:\n{_EXAMPLES}\n"
    )


def _usage(option: Option) -> str:
    return f"{'|'.join(option.flags)} {option.metavar}".strip()


def _help_row(option: Option) -> str:
    head = f"  {', '.join(option.flags)} {option.metavar}".rstrip()
    lines = textwrap.wrap(option.help, 66)
    first, *rest = lines
    return "\n".join([f"{head:<28}{first}", *(" " * 28 + line for line in rest)])


@dataclass(frozen=True)
class Completion:
    """What may replace ``line[start:end]``, which is ``fragment``."""

    start: int
    end: int
    fragment: str
    matches: tuple[str, ...]


def complete(line: str, cursor: int, sizes: Sequence[str]) -> Completion:
    """What Tab offers in the line after `%%gpu`.

    Args:
        line: what follows `%%gpu`.
        cursor: where in ``line`` the cursor is.
        sizes: the names that `--size` may have.
    """
    before = line[:cursor]
    *previous, word = re.split(r"\s+", before)
    flag, equals, value = word.partition("=")
    fragment = value if equals else word
    option = _BY_FLAG.get(flag if equals else " ".join(previous[-1:]))
    if option is not None and option.metavar:
        offered = list(sizes) if option is SIZE else []
    else:
        offered = _unused_flags(previous + line[cursor:].split(), word)
    matches = tuple(name for name in offered if name.startswith(fragment))
    return Completion(cursor - len(fragment), cursor, fragment, matches)


def _unused_flags(words: list[str], word: str) -> list[str]:
    used = {_BY_FLAG.get(other.partition("=")[0]) for other in words}
    unused = [option for option in OPTIONS if option not in used]
    flags = [option.flags[0] for option in unused]
    if word.startswith("-") and not word.startswith("--"):
        flags += [short for option in unused for short in option.flags[1:]]
    return flags
