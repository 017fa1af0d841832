#!/usr/bin/env python3
"""Runs a transcript: prose with commands in it and what they are expected to print.

    run.py CONCLAVE FILE.txt

A transcript reads like a session in a terminal. Lines by how they begin:

    # text          for the reader
    needs a cluster starts `conclave dev` on free ports of loopback and sets CONCLAVE_ENDPOINTS
    needs a terminal  starts a shell with job control in a terminal that echoes nothing
    > text          typed into that terminal, ^C and ^Z as such; goes on once the expected output has come
    $ command       run by sh in an empty directory; `conclave` is the program under test
    [exit N]        after the output: the exit status expected, where it is not 0
    ? a > b         compares two numbers or words: > >= < <= == != and, for text, contains
    anything else   output expected from the command above, stdout and stderr together; blank lines
                    before the next command do not count

In expected output a line `...` stands for any lines, and placeholders for what varies:

    <name:N>  a number       <name:T>  a duration, 12.3s     <name:H>  a hash, 0x9f...
    <name:W>  one word       <name:S>  spaces, or none       <name:*>  anything in the line

The same name must stand for the same text ever after, `<name>` alone repeats it, and <:N> has no
name. In commands and comparisons <name> is replaced by what it stood for. Known from the start:
<node1> <node2> ... the nodes' addresses; after each command <took>, its milliseconds.

Background. `$ command & name` starts it and goes on once the expected output has come. Then

    $ signal SIGNAL name    sends it one; `cluster` is the cluster
    $ wait for name         until it has ended; further output and exit status are expected here
"""
import fcntl
import operator
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time

KINDS = {
    "N": r"[0-9]+",
    "T": r"[0-9]+(?:\.[0-9])?(?:ms|s|m[0-9]{2}s|h[0-9]{2}m|d[0-9]{2}h)",
    "H": r"0x[0-9a-f]+",
    "W": r"\S+",
    "S": r" *",
    "*": r".*",
}
PLACEHOLDER = re.compile(r"<(\w*)(?::([A-Z*]))?>")
PATIENCE_S = 15.0 * float(os.environ.get("TRANSCRIPT_PATIENCE", "1"))


class Mismatch(Exception):
    pass


class Process:
    """A command whose output is collected as it comes."""

    def __init__(self, command, shell_dir, env):
        self.begin(subprocess.Popen(["sh", "-c", command], cwd=shell_dir, env=env,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT))
        self.collect(self.process.stdout.fileno())

    def begin(self, process):
        self.started = time.monotonic()
        self.process = process
        self.unread = b""
        self.changed = threading.Condition()
        self.closed = False

    def collect(self, fd):
        threading.Thread(target=self._collect, args=[fd], daemon=True).start()

    def _collect(self, fd):
        while True:
            try:
                some = os.read(fd, 65536)
            except OSError:  # a terminal without a process
                some = b""
            with self.changed:
                self.unread += some
                self.closed = not some
                self.changed.notify_all()
            if not some:
                return

    def text(self):
        return self.unread.decode("utf-8", "replace")

    def until(self, satisfied):
        """Waits until satisfied(text) or the output has ended; False: neither in time."""
        end = time.monotonic() + PATIENCE_S
        with self.changed:
            while not satisfied(self.text()):
                if self.closed or time.monotonic() > end:
                    return self.closed
                self.changed.wait(0.1)
            return True

    def take(self):
        with self.changed:
            text, self.unread = self.text(), b""
            return text

    def end(self):
        if not self.until(lambda text: self.closed):
            raise Mismatch("it does not end; so far it printed\n" + indent(self.text()))
        return self.process.wait()

    def stop(self):
        for name in (signal.SIGCONT, signal.SIGTERM):
            if self.process.poll() is None:
                self.process.send_signal(name)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Terminal(Process):
    """A shell with job control in a terminal of its own."""

    def __init__(self, shell_dir, env):
        self.master, slave = os.openpty()
        modes = termios.tcgetattr(slave)
        modes[1] &= ~termios.ONLCR
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        env = dict(env, PS1="", PS2="", TERM="dumb")
        self.begin(subprocess.Popen(
            ["bash", "--norc", "--noediting", "-i"], cwd=shell_dir, env=env, stdin=slave,
            stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)))
        os.close(slave)
        self.collect(self.master)

    def type(self, text):
        control = re.fullmatch(r"\^([A-Z])", text)
        text = chr(ord(control[1]) - 64) if control else text + "\n"
        os.write(self.master, text.encode())
        if control:
            time.sleep(0.3)  # what is typed while the foreground changes may be thrown away

    def stop(self):
        os.close(self.master)  # hangs up: SIGHUP to all in it
        self.process.kill()
        self.process.wait()


def indent(text):
    return "".join("    | %s\n" % line for line in text.splitlines()) or "    | (nothing)\n"


class Transcript:
    def __init__(self, conclave, path, work_dir):
        self.path, self.work_dir = path, work_dir
        self.names, self.background = {}, {}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("CONCLAVE_")}
        ours = [os.path.dirname(os.path.abspath(path)) for path in (conclave, __file__)]
        self.env["PATH"] = ":".join(ours + [self.env["PATH"]])
        self.env["NO_COLOR"] = ""
        self.commands = 0

    # ---- reading

    def steps(self):
        """(line number, kind, text, expected lines)"""
        steps = []
        with open(self.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n")
                if line.startswith("# ") or line == "#":
                    steps.append((number, "prose", line, []))
                elif line[:2] in ("$ ", "? ", "> "):
                    steps.append((number, line[0], line[2:], []))
                elif line in ("needs a cluster", "needs a terminal"):
                    steps.append((number, "needs", line, []))
                elif steps and steps[-1][1] in "$>":
                    steps[-1][3].append(line)
                elif line:
                    raise Mismatch("line %d: output without a command: %s" % (number, line))
        return steps

    # ---- matching

    def replaced(self, text):
        return PLACEHOLDER.sub(lambda m: self.names.get(m[1], m[0]) if not m[2] else m[0], text)

    def pattern(self, lines):
        seen = set()

        def one(match):
            name, kind = match[1], match[2]
            if name and name in self.names:
                return re.escape(self.names[name])
            if name in seen:
                return "(?P=%s)" % name
            if kind not in KINDS:
                raise Mismatch("<%s> stands for nothing yet" % name)
            if not name:
                return KINDS[kind]
            seen.add(name)
            return "(?P<%s>%s)" % (name, KINDS[kind])

        regex = ""
        for line in lines:
            if line.strip() == "...":
                regex += r"(?:.*\n)*?"
                continue
            at = 0
            for match in PLACEHOLDER.finditer(line):
                if match[2] or match[1] in self.names or match[1] in seen:
                    regex += re.escape(line[at:match.start()]) + one(match)
                    at = match.end()
            regex += re.escape(line[at:]) + r"\n"
        return re.compile(regex + r"\n*\Z")

    def expect(self, pattern, lines, got):
        match = pattern.match(got if got.endswith("\n") or not got else got + "\n")
        if not match:
            raise Mismatch("expected\n" + indent("\n".join(lines)) + "  got\n" + indent(got))
        self.names.update(match.groupdict())

    def expect_soon(self, process, lines):
        lines, _ = self.split_exit(lines)
        pattern = self.pattern(lines)
        process.until(lambda got: pattern.match(got))
        self.expect(pattern, lines, process.take())

    @staticmethod
    def split_exit(lines):
        while lines and not lines[-1]:
            lines = lines[:-1]
        match = re.fullmatch(r"\[exit (\d+)\]", lines[-1]) if lines else None
        return (lines[:-1], int(match[1])) if match else (lines, 0)

    # ---- steps

    def finish(self, process, lines):
        lines, status = self.split_exit(lines)
        returned = process.end()
        self.names["took"] = str(int((time.monotonic() - process.started) * 1000))
        if returned < 0:
            returned = 128 - returned
        got = process.take()
        self.expect(self.pattern(lines), lines, got)
        if returned != status:
            raise Mismatch("expected exit %d, got %d, with\n%s" % (status, returned, indent(got)))

    def command(self, text, lines):
        self.commands += 1
        words = self.replaced(text)
        if re.match(r"signal \w+ \w+$", words):
            _, name, target = words.split()
            self.background[target].process.send_signal(getattr(signal, "SIG" + name))
        elif re.match(r"wait for \w+$", words):
            self.finish(self.background.pop(words.split()[2]), lines)
        elif re.search(r"\s& \w+$", words):
            command, name = words.rsplit("&", 1)
            process = Process("exec " + command, self.work_dir, self.env)
            self.background[name.strip()] = process
            self.expect_soon(process, lines)
        else:
            self.finish(Process(words, self.work_dir, self.env), lines)

    def compare(self, text):
        left, name, right = shlex.split(self.replaced(text))
        compare = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
                   "==": operator.eq, "!=": operator.ne, "contains": operator.contains}[name]
        if re.fullmatch(r"\d+", left) and re.fullmatch(r"\d+", right) and name != "contains":
            left, right = int(left), int(right)
        if not compare(left, right):
            raise Mismatch("%s does not hold: %s %s %s" % (text, left, name, right))

    def cluster(self):
        for _ in range(20):  # another may take a port between the look and the start
            base = free_ports()
            process = Process("exec conclave dev --durability memory --base-port %d" % base,
                              self.work_dir, self.env)
            process.until(lambda text: re.search("^ready", text, re.M))
            if re.search("^ready", process.text(), re.M):
                break
            process.stop()
            if "cannot bind" not in process.text():
                raise Mismatch("the cluster did not start:\n" + indent(process.text()))
        nodes = ["127.0.0.1:%d" % (base + i) for i in range(3)]
        self.env["CONCLAVE_ENDPOINTS"] = self.names["endpoints"] = ",".join(nodes)
        for number, node in enumerate(nodes, 1):
            self.names["node%d" % number] = node
        self.background["cluster"] = process

    def run(self):
        for number, kind, text, lines in self.steps():
            try:
                if kind == "needs" and text == "needs a cluster":
                    self.cluster()
                elif kind == "needs":
                    self.background["terminal"] = Terminal(self.work_dir, self.env)
                elif kind == ">":
                    self.commands += 1
                    self.background["terminal"].type(self.replaced(text))
                    self.expect_soon(self.background["terminal"], lines)
                elif kind == "$":
                    self.command(text, lines)
                elif kind == "?":
                    self.compare(text)
            except Mismatch as mismatch:
                said = indent(self.background["cluster"].text()) if "cluster" in self.background else ""
                raise Mismatch("%s:%d: %s\n  %s%s" % (self.path, number, text, mismatch,
                               "\n  the cluster said\n" + said if said else "")) from None

    def stop(self):
        for name in sorted(self.background, key=lambda name: name == "cluster"):
            self.background[name].stop()


def free_ports():
    while True:
        base = random.randrange(20000, 32000)  # below those that the system hands out
        sockets = []
        try:
            for i in range(3):
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].bind(("127.0.0.1", base + i))
            return base
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="transcript.") as work_dir:
        transcript = Transcript(sys.argv[1], sys.argv[2], work_dir)
        try:
            transcript.run()
        except Mismatch as mismatch:
            sys.exit(str(mismatch))
        finally:
            transcript.stop()
    if transcript.commands == 0:
        sys.exit("%s has no commands: nothing was tested" % sys.argv[2])
    print("%d commands as expected" % transcript.commands)


main()
