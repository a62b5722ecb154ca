"""All checks, by topic. Each yields evidence of faults, from what is, not from what is configured.

Numbers of CIS are those of the CIS Debian Linux 12 Benchmark 1.1.0, numbers of BSI those of the IT-Grundschutz module
SYS.1.3 (edition 2022). A check without a number is in neither, or its number could not be confirmed.
"""

from hv.security.audit import accounts, files, kernel, phase, ports, services, sshd
from hv.security.audit.check import Check

CHECKS: tuple[Check, ...] = (
    *phase.CHECKS,
    *kernel.CHECKS,
    *files.CHECKS,
    *sshd.CHECKS,
    *accounts.CHECKS,
    *ports.CHECKS,
    *services.CHECKS,
)
