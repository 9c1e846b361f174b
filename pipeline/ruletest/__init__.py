"""Rule tests in promtool's format, run by the product's own detector.

Owns: reading test files, running them on a clock of their own, and saying what differed. Pure: texts and rule books in, reports out.
"""

from pipeline.ruletest.read import read_suite
from pipeline.ruletest.report import CaseReport, Failure, FileReport
from pipeline.ruletest.run import Runner
from pipeline.ruletest.suite import Case, Suite

__all__ = ["Case", "CaseReport", "Failure", "FileReport", "Runner", "Suite", "read_suite"]
