"""Process trees that can be frozen and killed whole, whatever runs in them."""

from zerokernel.containment.allowance import (
    Allowance,
    limit,
    possible,
    remove_stray_allowances,
)
from zerokernel.containment.control_group import (
    ControlGroup,
    clear_groups,
    group_prefix,
    remove_strays,
)
from zerokernel.containment.inside import process_outside, wait_until_contained
from zerokernel.containment.pid_namespace import PidNamespace
from zerokernel.containment.port import Containment, Tree
from zerokernel.containment.probing import NAMES, Finding, choose, probe, settle
from zerokernel.containment.process_walk import ProcessWalk
from zerokernel.containment.processes import adopt_orphans
from zerokernel.containment.remains import end_remains, end_supervisor

__all__ = [
    "NAMES",
    "Allowance",
    "Containment",
    "ControlGroup",
    "Finding",
    "PidNamespace",
    "ProcessWalk",
    "Tree",
    "adopt_orphans",
    "choose",
    "clear_groups",
    "end_remains",
    "end_supervisor",
    "group_prefix",
    "limit",
    "possible",
    "probe",
    "process_outside",
    "remove_stray_allowances",
    "remove_strays",
    "settle",
    "wait_until_contained",
]
