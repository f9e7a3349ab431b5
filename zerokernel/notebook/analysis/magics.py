"""What is known of IPython's magics: which run code, which name variables, which do neither."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

# They run Python of their own line or body in the notebook's namespace.
_CODE = frozenset(
    {"time", "timeit", "prun", "memit", "mprun", "lprun", "snakeviz", "pyinstrument", "debug"}
)

# They do not look at the notebook's names; `$name` and `{name}` are filled in before they run.
_PLAIN = frozenset(
    """
    alias alias_magic autoawait autocall automagic autoreload aimport autosave bookmark cat cd
    clear colors conda config connect_info cp debug_mode dhist dirs doctest_mode env gui hist
    history killbgscripts ldir less lf lk ll load_ext logoff logon logstart logstate logstop ls
    lsmagic lx magic mamba man matplotlib micromamba mkdir more mv notebook page pdb pip popd
    pprint precision pushd pwd pycat qtconsole quickref rehashx reload_ext rep rm rmdir set_env
    subshell sx system tb unalias uv unload_ext xmode bash cmd html javascript js latex markdown
    perl python python2 python3 pypy ruby script sh svg writefile file SVG HTML zerokernel
    """.split()  # noqa: SIM905 - a hundred words, one a line, would hide the rest
)
# Their arguments are names of variables.
_NAMES = frozenset(
    {"pinfo", "pinfo2", "pdef", "pdoc", "pfile", "psource", "store", "edit", "macro", "save"}
)
# They look at all names.
_WHOLE = frozenset({"who", "whos", "who_ls", "psearch", "reset", "reset_selective"})

_OUTPUT_OPTIONS = ("--out", "--err", "--proc")  # of %%bash and %%script
_NAME = re.compile(r"[^\W\d]\w*\Z")


@dataclass(frozen=True)
class MagicEffects:
    """What a magic does with the notebook's names."""

    line_code: str = ""  # options, then Python
    body_code: str = ""  # Python
    binds: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    reads: str = ""  # text whose identifiers are variables
    mentions: str = ""  # text whose identifiers may be
    opens: bool = False  # reaches names that the text does not show
    whole: bool = False  # wants all of them


def magic_effects(name: str, line: str, body: str = "") -> MagicEffects:
    """What ``%name line`` or, with a body, ``%%name line`` does."""
    if name == "capture":
        return MagicEffects(body_code=body, binds=_plain_words(line))
    if name == "gpu":
        return MagicEffects(body_code=body)
    if name in _CODE:
        return MagicEffects(line_code=line, body_code=body)
    if name == "xdel":
        return MagicEffects(deletes=_plain_words(line))
    if name == "run":
        return MagicEffects(opens=True, whole=_has_flag(line, "i"), mentions=line)
    if name in _WHOLE:
        return MagicEffects(opens=True, whole=True)
    if name in _NAMES:
        # `%store -r`, `%edit` and `%macro` bring names that only they know.
        arguments = " ".join(word for word in line.split() if not word.startswith("-"))
        return MagicEffects(reads=arguments, opens=name in {"store", "edit", "macro"})
    if name in _PLAIN:
        return MagicEffects(binds=_output_names(line))
    return MagicEffects(opens=True, mentions=f"{line}\n{body}")


def _plain_words(line: str) -> tuple[str, ...]:
    return tuple(word for word in line.split() if _NAME.match(word))


def _has_flag(line: str, letter: str) -> bool:
    words = line.split()
    return any(re.match(rf"-[a-zA-Z]*{letter}", word) for word in words)


def _output_names(line: str) -> tuple[str, ...]:
    words = line.replace("=", " ").split()
    pairs = pairwise(words)
    return tuple(name for flag, name in pairs if flag in _OUTPUT_OPTIONS and _NAME.match(name))
