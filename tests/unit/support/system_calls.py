"""Every class of system call that a turned process would want, to be tried from inside of a sandbox, by number.

Invariant: with these arguments no call does anything to the host even where it is allowed: what does not exist is named, or nothing asked
for. An answer of EPERM by a process of root's with all capabilities is the filter's.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import pytest

X86_64 = os.uname().machine == "x86_64"
needs_x86_64 = pytest.mark.skipif(not X86_64, reason="the numbers are those of x86_64")
X32 = 0x40000000

# name: (number on x86_64, arguments)
CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    # programs and processes
    "execve": (59, (0, 0, 0)),
    "execveat": (322, (-1, 0, 0, 0, 0)),
    "fork": (57, ()),
    "vfork": (58, ()),
    "clone": (56, (0x01200011, 0, 0, 0, 0)),
    "clone with a user namespace": (56, (0x10000011, 0, 0, 0, 0)),
    "kill everything": (62, (-1, 0)),
    "kill init": (62, (1, 0)),
    "tkill": (200, (1, 0)),
    "tgkill": (234, (1, 1, 0)),
    "rt_sigqueueinfo": (129, (1, 0, 0)),
    "rt_tgsigqueueinfo": (297, (1, 1, 0, 0)),
    "pidfd_open": (434, (1, 0)),
    "pidfd_getfd": (438, (-1, 0, 0)),
    "pidfd_send_signal": (424, (-1, 0, 0, 0)),
    "process_madvise": (440, (-1, 0, 0, 0, 0)),
    "process_mrelease": (448, (-1, 0)),
    "ptrace": (101, (16, 1, 0, 0)),
    "process_vm_readv": (310, (1, 0, 0, 0, 0, 0)),
    "process_vm_writev": (311, (1, 0, 0, 0, 0, 0)),
    "kcmp": (312, (1, 1, 0, 0, 0)),
    "prlimit64": (302, (1, 7, 0, 0)),
    "setrlimit": (160, (7, 0)),
    "setpriority": (141, (0, 1, 0)),
    "sched_setaffinity": (203, (1, 0, 0)),
    "sched_setscheduler": (144, (1, 0, 0)),
    "sched_setattr": (314, (1, 0, 0)),
    "ioprio_set": (251, (1, 1, 0)),
    "migrate_pages": (256, (1, 0, 0, 0)),
    "move_pages": (279, (1, 0, 0, 0, 0, 0)),
    "setpgid": (109, (0, 0)),
    "setsid": (112, ()),
    "waitid": (247, (0, 0, 0, 0, 0)),
    "set_tid_address": (218, (0,)),
    "set_robust_list": (273, (0, 0)),
    "get_robust_list": (274, (1, 0, 0)),
    # networks, and what talks without one
    "socket": (41, (1, 1, 0)),
    "socketpair": (53, (1, 1, 0, 0)),
    "connect": (42, (-1, 0, 0)),
    "bind": (49, (-1, 0, 0)),
    "sendto": (44, (-1, 0, 0, 0, 0, 0)),
    "sendmsg": (46, (-1, 0, 0)),
    "recvmsg": (47, (-1, 0, 0)),
    "shmget": (29, (0x5EED, 0, 0)),
    "shmat": (30, (-1, 0, 0)),
    "shmctl": (31, (-1, 0, 0)),
    "semget": (64, (0x5EED, 0, 0)),
    "semop": (65, (-1, 0, 0)),
    "semctl": (66, (-1, 0, 0)),
    "msgget": (68, (0x5EED, 0)),
    "msgsnd": (69, (-1, 0, 0, 0)),
    "mq_open": (240, (0, 0, 0, 0)),
    "mq_unlink": (241, (0,)),
    "keyctl": (250, (0, -3, 0)),
    "add_key": (248, (0, 0, 0, 0, 0)),
    "request_key": (249, (0, 0, 0, 0)),
    "pipe2": (293, (0, 0)),
    "memfd_create": (319, (0, 0)),
    "memfd_secret": (447, (0,)),
    "vmsplice": (278, (-1, 0, 0, 0)),
    "splice": (275, (-1, 0, -1, 0, 0, 0)),
    # the kernel's larger surfaces
    "io_uring_setup": (425, (0, 0)),
    "io_uring_enter": (426, (-1, 0, 0, 0, 0, 0)),
    "io_uring_register": (427, (-1, 0, 0, 0)),
    "io_setup": (206, (0, 0)),
    "bpf": (321, (-1, 0, 0)),
    "userfaultfd": (323, (0x80000000,)),
    "perf_event_open": (298, (0, 0, -1, -1, 0)),
    "seccomp": (317, (99, 0, 0)),
    "prctl": (157, (22, 0, 0, 0, 0)),
    "arch_prctl": (158, (0, 0)),
    "modify_ldt": (154, (99, 0, 0)),
    "personality": (135, (0xFFFFFFFF,)),
    "ioctl": (16, (0, 0x5401, 0)),
    "ioctl of a typist": (16, (0, 0x5412, 0)),
    "fcntl that signals": (72, (0, 8, 1)),
    "fcntl that leases": (72, (0, 1024, 0)),
    "futex that inherits priorities": (202, (0, 6, 0, 0, 0, 0)),
    "futex_waitv": (449, (0, 0, 0, 0, 0)),
    "membarrier": (324, (0, 0, 0)),
    "remap_file_pages": (216, (0, 0, 0, 0, 0)),
    "pkey_mprotect": (329, (0, 0, 4, -1)),
    "mmap of code": (9, (0, 4096, 5, 0x22, -1, 0)),
    "mmap of a file": (9, (0, 4096, 1, 2, 0, 0)),
    "mprotect to code": (10, (0, 4096, 5)),
    "landlock_create_ruleset": (444, (0, 0, 0)),
    "lookup_dcookie": (212, (0, 0, 0)),
    "rseq": (334, (0, 0, 0, 0)),
    "uselib": (134, (0,)),
    # the machine
    "mount": (165, (0, 0, 0, 0, 0)),
    "umount2": (166, (0, 0)),
    "fsopen": (430, (0, 0)),
    "fsmount": (432, (-1, 0, 0)),
    "fspick": (433, (-1, 0, 0)),
    "open_tree": (428, (-1, 0, 0)),
    "move_mount": (429, (-1, 0, -1, 0, 0)),
    "mount_setattr": (442, (-1, 0, 0, 0, 0)),
    "pivot_root": (155, (0, 0)),
    "chroot": (161, (0,)),
    "chdir": (80, (0,)),
    "fchdir": (81, (-1,)),
    "unshare": (272, (0,)),
    "unshare a user namespace": (272, (0x10000000,)),
    "setns": (308, (-1, 0)),
    "reboot": (169, (0, 0, 0, 0)),
    "kexec_load": (246, (0, 0, 0, -1)),
    "kexec_file_load": (320, (-1, -1, 0, 0, -1)),
    "init_module": (175, (0, 0, 0)),
    "finit_module": (313, (-1, 0, 0)),
    "delete_module": (176, (0, 0)),
    "quotactl": (179, (0, 0, 0, 0)),
    "quotactl_fd": (443, (-1, 0, 0, 0)),
    "swapon": (167, (0, 0)),
    "acct": (163, (-1,)),
    "syslog": (103, (99, 0, 0)),
    "sethostname": (170, (0, -1)),
    "setdomainname": (171, (0, -1)),
    "settimeofday": (164, (0, 0)),
    "adjtimex": (159, (0,)),
    "clock_settime": (227, (99, 0)),
    "clock_adjtime": (305, (99, 0)),
    "iopl": (172, (4,)),
    "ioperm": (173, (0, 0, 2)),
    "vhangup": (153, ()),
    "nfsservctl": (180, (0, 0, 0)),
    "fanotify_init": (300, (-1, 0)),
    "inotify_init1": (294, (-1,)),
    "timer_create": (222, (99, 0, 0)),
    # identities
    "setuid": (105, (0,)),
    "setgid": (106, (0,)),
    "setresuid": (117, (0, 0, 0)),
    "setgroups": (116, (0, 0)),
    "capset": (126, (0, 0)),
    "setfsuid": (122, (0,)),
    # files that it does not hold open
    "open": (2, (0, 0, 0)),
    "creat": (85, (0, 0)),
    "openat to read a file": (257, (-100, 0, os.O_RDONLY, 0)),
    "openat to read and write": (257, (-100, 0, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0)),
    "openat2": (437, (-100, 0, 0, 0)),
    "open_by_handle_at": (304, (-1, 0, 0)),
    "name_to_handle_at": (303, (-1, 0, 0, 0, 0)),
    "unlinkat": (263, (-1, 0, 0)),
    "renameat2": (316, (-1, 0, -1, 0, 0)),
    "truncate": (76, (0, 0)),
    "getdents64": (217, (-1, 0, 0)),
    "readlinkat": (267, (-1, 0, 0, 0)),
    "flock": (73, (-1, 0)),
    "getxattr": (191, (0, 0, 0, 0)),
    "fsconfig": (431, (-1, 0, 0, 0, 0)),
    "sync": (162, ()),
}

# What each list allows, or answers as an old kernel would.
NEEDED: dict[str, tuple[int, tuple[int, ...]]] = {"getpid": (39, ()), "read": (0, (-1, 0, 0)), "clone3": (435, (0, 0))}


def tried(name: str, *, x32: bool = False) -> str:
    """The name of the error that the call ends with, or ``allowed``."""
    number, arguments = {**CALLS, **NEEDED}[name]
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    words = [ctypes.c_long(one) for one in arguments]
    result = libc.syscall(ctypes.c_long(number | (X32 if x32 else 0)), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "allowed"


class OldEntry:
    """The entry of 32-bit programs, int 0x80, which any 64-bit one may take too; made before a filter forbids code to be made."""

    def __init__(self) -> None:
        # push rbx; mov eax, edi; mov ebx, esi; int 0x80; pop rbx; ret
        self._code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(b"\x53\x89\xf8\x89\xf3\xcd\x80\x5b\xc3")
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)

    def __call__(self, number: int, argument: int = 0) -> int:
        """The result, which is an error below zero."""
        return int(self._call(number, argument))
