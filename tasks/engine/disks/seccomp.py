"""The system call filter of the cage, as the bytes that bubblewrap loads: what QEMU's block layer never needs is denied.

It is a second wall behind the namespaces of `cage`, and the only one against AF_VSOCK sockets, which no network namespace
holds, and against new processes: threads are bounded by the address space, processes would not be.
"""

from __future__ import annotations

import errno
import platform

from tasks.engine.disks import c_seccomp as c


def filter_program() -> bytes | None:
    """The filter for this machine; None where we have none, which leaves the namespaces alone to hold."""
    if platform.machine() != "x86_64":
        return None
    denied = c.RET_ERRNO | errno.EPERM
    program = [
        (c.BPF_LD_W_ABS, 0, 0, c.DATA_ARCH),
        (c.BPF_JMP_JEQ_K, 1, 0, c.AUDIT_ARCH_X86_64),
        (c.BPF_RET_K, 0, 0, c.RET_KILL_PROCESS),
        (c.BPF_LD_W_ABS, 0, 0, c.DATA_NR),
        *_when((c.BPF_JMP_JGE_K, c.X32_BIT), c.RET_KILL_PROCESS),
        # clone3 hides its flags behind a pointer; without it the C library uses clone, whose flags are seen below.
        *_when((c.BPF_JMP_JEQ_K, c.CLONE3), c.RET_ERRNO | errno.ENOSYS),
        *(step for number in c.DENIED.values() for step in _when((c.BPF_JMP_JEQ_K, number), denied)),
        (c.BPF_JMP_JEQ_K, 0, 3, c.CLONE),
        (c.BPF_LD_W_ABS, 0, 0, c.DATA_ARG0_LOW),
        (c.BPF_JMP_JSET_K, 1, 0, c.CLONE_THREAD),
        (c.BPF_RET_K, 0, 0, denied),
        (c.BPF_RET_K, 0, 0, c.RET_ALLOW),
    ]
    return b"".join(c.INSTRUCTION.pack(*step) for step in program)


def _when(test: tuple[int, int], answer: int) -> list[tuple[int, int, int, int]]:
    """Two instructions: where the test holds, answer; otherwise go on."""
    code, operand = test
    return [(code, 0, 1, operand), (c.BPF_RET_K, 0, 0, answer)]
