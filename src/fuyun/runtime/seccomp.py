"""The system calls an instance may make, as a seccomp filter; everything else answers EPERM, newer calls ENOSYS.

Left out on purpose: mounts and namespaces, ptrace and reading other processes, modules, kexec, keyrings, bpf, perf,
userfaultfd, io_uring, clocks, swap, quotas, handles, fanotify, device nodes, the host's name; and what is counted for
all instances or the whole host together (docs/decisions/0019): inotify, asynchronous I/O contexts, POSIX message
queues, the writing back of whole file systems. Calls whose arguments decide: `clone` (no namespace flags), `socket`
(Unix, IPv4 and IPv6 only), `ioctl` (no terminal injection), `fcntl` (no leases, no watching of folders), `personality`
(read or default only). `clone3` answers ENOSYS, so that libc falls back to `clone`, whose flags a filter can see.
Numbers: Linux `asm/unistd_64.h` and `asm-generic/unistd.h`; instruction encoding: Linux `filter.h`, `seccomp.h`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from fuyun.runtime import syscalls

#: name:x86_64/aarch64
ALLOWED = """
accept:43/202 accept4:288/242 access:21/- alarm:37/- arch_prctl:158/- bind:49/200 brk:12/214 capget:125/90 capset:126/91
chdir:80/49 chmod:90/- chown:92/- clock_getres:229/114 clock_gettime:228/113 clock_nanosleep:230/115 close:3/57
close_range:436/436 connect:42/203 copy_file_range:326/285 creat:85/- dup:32/23 dup2:33/- dup3:292/24 epoll_create:213/-
epoll_create1:291/20 epoll_ctl:233/21 epoll_pwait:281/22 epoll_pwait2:441/441 epoll_wait:232/- eventfd:284/-
eventfd2:290/19 execve:59/221 execveat:322/281 exit:60/93 exit_group:231/94 faccessat:269/48 faccessat2:439/439
fadvise64:221/223 fallocate:285/47 fchdir:81/50 fchmod:91/52 fchmodat:268/53 fchown:93/55 fchownat:260/54
fdatasync:75/83 fgetxattr:193/10 flistxattr:196/13 flock:73/32 fork:57/- fremovexattr:199/16 fsetxattr:190/7 fstat:5/80
fstatfs:138/44 fsync:74/82 ftruncate:77/46 futex:202/98 futex_waitv:449/449 futimesat:261/- get_mempolicy:239/236
get_robust_list:274/100 get_thread_area:211/- getcpu:309/168 getcwd:79/17 getdents:78/- getdents64:217/61
getegid:108/177 geteuid:107/175 getgid:104/176 getgroups:115/158 getitimer:36/102 getpeername:52/205 getpgid:121/155
getpgrp:111/- getpid:39/172 getppid:110/173 getpriority:140/141 getrandom:318/278 getresgid:120/150 getresuid:118/148
getrlimit:97/163 getrusage:98/165 getsid:124/156 getsockname:51/204 getsockopt:55/209 gettid:186/178 gettimeofday:96/169
getuid:102/174 getxattr:191/8 ioprio_get:252/31 ioprio_set:251/30 kill:62/129 landlock_add_rule:445/445
landlock_create_ruleset:444/444 landlock_restrict_self:446/446 lchown:94/- lgetxattr:192/9 link:86/- linkat:265/37
listen:50/201 listxattr:194/11 llistxattr:195/12 lremovexattr:198/15 lseek:8/62 lsetxattr:189/6 lstat:6/- madvise:28/233
mbind:237/235 membarrier:324/283 memfd_create:319/279 mincore:27/232 mkdir:83/- mkdirat:258/34 mlock:149/228
mlock2:325/284 mlockall:151/230 mmap:9/222 mprotect:10/226 mremap:25/216 msgctl:71/187 msgget:68/186 msgrcv:70/188
msgsnd:69/189 msync:26/227 munlock:150/229 munlockall:152/231 munmap:11/215 nanosleep:35/101 newfstatat:262/79 open:2/-
openat:257/56 openat2:437/437 pause:34/- pidfd_open:434/434 pidfd_send_signal:424/424 pipe:22/- pipe2:293/59
pkey_alloc:330/289 pkey_free:331/290 pkey_mprotect:329/288 poll:7/- ppoll:271/73 prctl:157/167 pread64:17/67
preadv:295/69 preadv2:327/286 prlimit64:302/261 pselect6:270/72 pwrite64:18/68 pwritev:296/70 pwritev2:328/287 read:0/63
readahead:187/213 readlink:89/- readlinkat:267/78 readv:19/65 recvfrom:45/207 recvmmsg:299/243 recvmsg:47/212
removexattr:197/14 rename:82/- renameat:264/38 renameat2:316/276 restart_syscall:219/128 rmdir:84/- rseq:334/293
rt_sigaction:13/134 rt_sigpending:127/136 rt_sigprocmask:14/135 rt_sigqueueinfo:129/138 rt_sigreturn:15/139
rt_sigsuspend:130/133 rt_sigtimedwait:128/137 rt_tgsigqueueinfo:297/240 sched_get_priority_max:146/125
sched_get_priority_min:147/126 sched_getaffinity:204/123 sched_getattr:315/275 sched_getparam:143/121
sched_getscheduler:145/120 sched_rr_get_interval:148/127 sched_setaffinity:203/122 sched_setattr:314/274
sched_setparam:142/118 sched_setscheduler:144/119 sched_yield:24/124 seccomp:317/277 select:23/- semctl:66/191
semget:64/190 semop:65/193 semtimedop:220/192 sendfile:40/71 sendmmsg:307/269 sendmsg:46/211 sendto:44/206
set_mempolicy:238/237 set_robust_list:273/99 set_thread_area:205/- set_tid_address:218/96 setfsgid:123/152
setfsuid:122/151 setgid:106/144 setgroups:116/159 setitimer:38/103 setpgid:109/154 setpriority:141/140 setregid:114/143
setresgid:119/149 setresuid:117/147 setreuid:113/145 setrlimit:160/164 setsid:112/157 setsockopt:54/208 setuid:105/146
setxattr:188/5 shmat:30/196 shmctl:31/195 shmdt:67/197 shmget:29/194 shutdown:48/210 sigaltstack:131/132 signalfd:282/-
signalfd4:289/74 socketpair:53/199 splice:275/76 stat:4/- statfs:137/43 statx:332/291 symlink:88/- symlinkat:266/36
sync_file_range:277/84 sysinfo:99/179 tee:276/77 tgkill:234/131 time:201/- timer_create:222/107 timer_delete:226/111
timer_getoverrun:225/109 timer_gettime:224/108 timer_settime:223/110 timerfd_create:283/85 timerfd_gettime:287/87
timerfd_settime:286/86 times:100/153 tkill:200/130 truncate:76/45 umask:95/166 uname:63/160 unlink:87/- unlinkat:263/35
utime:132/- utimensat:280/88 utimes:235/- vfork:58/- wait4:61/260 waitid:247/95 write:1/64 writev:20/66
"""

_ARM = platform.machine() == "aarch64"
_AUDIT_ARCH = 0xC00000B7 if _ARM else 0xC000003E
_LAST_KNOWN = 450
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_AFNOSUPPORT = 0x00050000 | errno.EAFNOSUPPORT
#: Of fcntl(2): both reach others through files that are shared with them, by blocking and by watching.
_F_SETLEASE, _F_NOTIFY = 1024, 1026
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # struct seccomp_data, low words


def _numbers() -> dict[str, int]:
    found = {}
    for item in ALLOWED.split():
        name, _, pair = item.rpartition(":")
        number = pair.split("/")[1 if _ARM else 0]
        if number != "-":
            found[name] = int(number)
    return found


def names() -> list[str]:
    """The calls that are allowed whatever their arguments, by name."""
    return [item.partition(":")[0] for item in ALLOWED.split()]


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def _only(argument: int, checks: list[bytes], otherwise: int) -> list[bytes]:
    """Load an argument, run `checks` (each jumps to the next-but-one instruction when it decides to allow)."""
    return [_op(_LOAD, argument), *checks, _op(_RETURN, otherwise), _op(_RETURN, _ALLOW)]


def _equal_any(argument: int, values: list[int], otherwise: int) -> list[bytes]:
    count = len(values)
    return _only(argument, [_op(_JEQ, value, count - index) for index, value in enumerate(values)], otherwise)


def _special(template: bool) -> list[tuple[int, list[bytes]]]:
    """Blocks for the calls whose arguments decide, as (number, instructions that always return)."""
    x86 = not _ARM
    namespaces = syscalls.ALL_NAMESPACES | 0x80  # and CLONE_NEWTIME
    clone = [_op(_LOAD, _ARG0)]
    if template:  # the one combination a template forks its instances with; the low byte is the exit signal
        exact = syscalls.INSTANCE_NAMESPACES | 0x01200000 | 17
        clone += [_op(_JEQ, exact, 2)]
    clone += [_op(_JSET, namespaces & ~0x80, 0, 1), _op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]
    if template:
        clone[1] = _op(_JEQ, exact, 2, 0)
    blocks = [
        (syscalls.NUMBERS["clone"], clone),
        (435, [_op(_RETURN, _ENOSYS)]),
        (41 if x86 else 198, _equal_any(_ARG0, [1, 2, 10], _AFNOSUPPORT)),
        (135 if x86 else 92, _equal_any(_ARG0, [0, 0xFFFFFFFF], _EPERM)),
        (16 if x86 else 29, [_op(_LOAD, _ARG1), _op(_JEQ, 0x5412, 1), _op(_JEQ, 0x541C, 0, 1),
                             _op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]),
        (72 if x86 else 25, [_op(_LOAD, _ARG1), _op(_JEQ, _F_SETLEASE, 1), _op(_JEQ, _F_NOTIFY, 0, 1),
                             _op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]),
    ]  # fmt: skip
    if template:
        blocks.append((429, [_op(_RETURN, _ALLOW)]))
        blocks.append((syscalls.NUMBERS["unshare"], _equal_any(_ARG0, [syscalls.NEWCGROUP], _EPERM)))
    return blocks


def program(template: bool = False) -> bytes:
    """The filter as an array of `struct sock_filter`. `template` adds what a template needs to fork its instances:
    one exact `clone`, `move_mount`, `unshare` of the cgroup namespace; its instances stack the strict filter on top."""
    code = [_op(_LOAD, _ARCH), _op(_JEQ, _AUDIT_ARCH, 1), _op(_RETURN, _KILL), _op(_LOAD, _NR)]
    for number, block in _special(template):
        code += [_op(_JEQ, number, 0, len(block)), *block]
    ranges: list[list[int]] = []
    for number in sorted(set(_numbers().values())):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    code += _search(ranges)
    return b"".join(code)


def _search(ranges: list[list[int]]) -> list[bytes]:
    """Binary search: six comparisons where a list of calls would take hundreds."""
    if len(ranges) == 1:
        low, high = ranges[0]
        verdict = _ENOSYS if high >= _LAST_KNOWN - 1 else _EPERM
        return [
            _op(_JGE, low, 1),
            _op(_RETURN, _EPERM),
            _op(_JGE, high + 1, 0, 1),
            _op(_RETURN, verdict),
            _op(_RETURN, _ALLOW),
        ]
    middle = len(ranges) // 2
    left, right = _search(ranges[:middle]), _search(ranges[middle:])
    if len(left) > 250:
        raise AssertionError("seccomp jump too long")
    return [_op(_JGE, ranges[middle][0], len(left)), *left, *right]


def uncounted() -> bytes:
    """A filter for where no control group counts memory: refuses what is memory of no process (files without a name,
    System V segments) and allows everything else; `program` goes on top."""
    names = ("memfd_create", "shmget")
    blocks = [_op(_JEQ, syscalls.NUMBERS[name], 0, 1) + _op(_RETURN, _EPERM) for name in names]
    return b"".join([_op(_LOAD, _ARCH), _op(_JEQ, _AUDIT_ARCH, 1), _op(_RETURN, _KILL), _op(_LOAD, _NR), *blocks,
                     _op(_RETURN, _ALLOW)])  # fmt: skip


class Filter:
    """A filter in memory, made before a process that installs it is forked. `code` as `program` gives it."""

    def __init__(self, code: bytes) -> None:
        self._held = ctypes.create_string_buffer(code, len(code))
        self._header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(self._held))

    def install(self) -> None:
        """Load it into this process for good; needs no_new_privs."""
        syscalls.call("seccomp", 1, 0, self._header)
