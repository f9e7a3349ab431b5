"""`zerokernel doctor`: what this machine allows, what that means, and how to mend it.

Each check is a module with ``look``, which asks the system, and ``judge``, which decides.
"""

from zerokernel.doctor.examination import examine
from zerokernel.doctor.finding import Finding
from zerokernel.doctor.report import as_json, as_lines, worst

__all__ = ["Finding", "as_json", "as_lines", "examine", "worst"]
