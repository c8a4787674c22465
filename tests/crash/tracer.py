#!/usr/bin/env python3
"""Runs a command and strikes one of its system calls: a SIGKILL before it is made, or an error in its place.

    tracer.py --log FILE [--calls write,fsync] [--thread writer] [--nth 3] [--strike kill|ENOSPC|EIO|...|nfs|smb] [--on] COMMAND...

What strace's `inject` does, but calls are counted for the thread of this name (strace counts each thread for itself and
strikes whoever is first), and what a runtime writes to wake itself up is neither disk nor net and does not count.
`--on`: that call and all after it, of any thread. The log has a line for each call: thread, call, file, and "struck".
`--record FILE`: what was written, synced, renamed and removed, with its bytes (see power.py).

Linux on x86-64, Python 3.9 or newer, standard library only. A seccomp filter stops the command at these calls alone, so that
it runs at nearly its own pace; it ends with this script. Ends as the command ends.
"""

import argparse
import ctypes
import errno
import os
import pickle
import platform
import signal
import struct
import sys
from pathlib import Path

CALLS = {
    "write": 1, "pwrite64": 18, "writev": 20, "sendto": 44, "sendmsg": 46, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
    "rename": 82, "mkdir": 83, "unlink": 87, "statfs": 137, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "renameat2": 316,
}
# Of databases alone, and not stopped at unless asked for: there are many.
READS = {"pread64": 17}
NAMES = {number: name for name, number in (CALLS | READS).items()}
# Which argument is a path, if the first one is no descriptor.
PATHS = {"rename": (0, 1), "mkdir": (0,), "unlink": (0,), "statfs": (0,), "mkdirat": (1,), "unlinkat": (1,), "renameat": (1, 3),
         "renameat2": (1, 3)}
FAR = {"nfs": 0x6969, "smb": 0x517B}
TRACEME, CONT, GETREGS, SETREGS, SETOPTIONS = 0, 7, 12, 13, 0x4200
OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # forks, clones, exec, seccomp; ends with us
SECCOMP = 7
WALL = 0x40000000
ORDER = ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip"]
AT = {name: i for i, name in enumerate(ORDER)}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def usable():
    """Why not, if it cannot be used here."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "not Linux on x86-64"
    # Whether a process may trace its child is decided by trying.
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.ptrace(TRACEME, 0, None, None) == 0 else 1)
    return None if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else "tracing is not allowed here"


def ptrace(request, tid, address=0, data=0):
    if libc.ptrace(request, tid, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def child(command, calls):
    """Lets itself be traced at these calls, and becomes the command."""
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    # Load the call's number; one of ours goes to the tracer, everything else on.
    ours = sorted(calls)
    steps = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    steps += [struct.pack("HBBI", 0x15, len(ours) - i, 0, number) for i, number in enumerate(ours)]
    steps += [struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000), struct.pack("HBBI", 0x06, 0, 0, 0x7FF00000)]
    code = ctypes.create_string_buffer(b"".join(steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        os._exit(126)
    os.execvp(command[0], command)


class Tracer:
    def __init__(self, args):
        self.args, self.count, self.struck = args, 0, False
        self.calls = set(args.calls.split(","))
        self.log = open(args.log, "w", buffering=1)
        self.record = open(args.record, "wb") if args.record else None
        self.new = set()

    def path(self, tid, at):
        with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
            memory.seek(at)
            return memory.read(4096).split(b"\0")[0].decode(errors="replace")

    def target(self, tid, name, args):
        """The file that a call is about."""
        if name in PATHS:
            here = os.readlink(f"/proc/{tid}/cwd")
            return " ".join(os.path.normpath(os.path.join(here, self.path(tid, args[i]))) for i in PATHS[name])
        try:
            return os.readlink(f"/proc/{tid}/fd/{args[0]}")
        except OSError:
            return "?"

    def call(self, tid):
        regs = (ctypes.c_ulonglong * 27)()
        ptrace(GETREGS, tid, 0, ctypes.addressof(regs))
        name = NAMES[regs[AT["orig_rax"]]]
        args = [regs[AT[r]] for r in ("rdi", "rsi", "rdx", "r10")]
        target = self.target(tid, name, args)
        if name in READS and ".db" not in target:
            return
        wakes = name == "write" and target.startswith(("anon_inode:", "socket:", "pipe:"))
        comm = Path(f"/proc/{tid}/comm").read_text().strip()
        thread = "main" if tid == self.pid else "unnamed" if comm == self.comm else comm
        strike = False
        if name in self.calls and not wakes:
            if self.struck:
                strike = self.args.on
            elif not self.args.thread or self.args.thread == thread:
                self.count += 1
                strike = self.struck = self.count == self.args.nth
        if not wakes:
            self.log.write(f"{thread} {name} {target}{' struck' if strike else ''}\n")
        if strike:
            if self.args.strike == "kill":
                os.kill(self.pid, signal.SIGKILL)
                return
            result = -getattr(errno, self.args.strike, 0)
            if self.args.strike in FAR:
                with open(f"/proc/{tid}/mem", "wb", buffering=0) as memory:
                    memory.seek(args[1])
                    memory.write(struct.pack("15Q", FAR[self.args.strike], *[4096] * 14))
            # No call at all, and this as its result.
            regs[AT["orig_rax"]], regs[AT["rax"]] = 2**64 - 1, result % 2**64
            ptrace(SETREGS, tid, 0, ctypes.addressof(regs))
        elif self.record:
            self.keep(tid, name, args, target)

    def keep(self, tid, name, args, target):
        data = b""
        if name in ("write", "pwrite64"):
            with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
                memory.seek(args[1])
                data = memory.read(args[2])
        pickle.dump((name, target, args, data), self.record)

    def go(self, command):
        # A thread without a name has that of its process, which the kernel cuts off.
        self.comm = os.path.basename(command[0])[:15]
        self.pid = os.fork()
        if self.pid == 0:
            child(command, {*CALLS.values(), *(READS[name] for name in self.calls & READS.keys())})
        os.waitpid(self.pid, 0)
        ptrace(SETOPTIONS, self.pid, 0, OPTIONS)
        ptrace(CONT, self.pid)
        known = {self.pid}
        while True:
            tid, status = os.waitpid(-1, WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                if tid == self.pid:
                    self.log.close()
                    return status
                continue
            pass_on, why = 0, os.WSTOPSIG(status)
            try:
                if status >> 8 == signal.SIGTRAP | SECCOMP << 8:
                    self.call(tid)
                elif why == signal.SIGSTOP and tid not in known:
                    # A thread's first breath.
                    known.add(tid)
                elif why != signal.SIGTRAP:
                    pass_on = why
                ptrace(CONT, tid, 0, pass_on)
            except (ProcessLookupError, FileNotFoundError):
                # Killed meanwhile.
                continue


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--thread")
    parser.add_argument("--nth", type=int)
    parser.add_argument("--strike", default="kill")
    parser.add_argument("--on", action="store_true")
    parser.add_argument("--record")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    status = Tracer(args).go(args.command)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
