"""What the scripts share that run a suite of tests natively and in the sandbox, and compare them test by test."""

import argparse
import os
import select
import subprocess
from time import monotonic

# Tests that are run at once behind one that did not end.
CHUNK = 40
UNENDED = "did not end"
# What programs have in the sandbox, too.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def arguments(time, whose):
    """Options that all of them have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dejavm", default="target/release/dejavm")
    parser.add_argument("--time", type=int, default=time, help=f"seconds for a {whose}")
    parser.add_argument("--keep", help="directory to keep the output in")
    return parser


def run(command, where, time, environment=None, quiet=None):
    """What a command writes, and how it ends. It is ended after `time` seconds, and after `quiet` seconds in
    which it writes nothing."""
    written, end = [], monotonic() + time
    with subprocess.Popen(command, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment) as child:
        while True:
            left = end - monotonic()
            readable = select.select([child.stdout], [], [], max(0, min(left, quiet or left)))[0]
            part = os.read(child.stdout.fileno(), 1 << 16) if readable else b""
            written.append(part)
            if not part:
                break
        if not readable:
            child.kill()
        status = child.wait() if readable else "timeout"
    return b"".join(written).decode(errors="replace"), status


def sandboxed(box, results, wanted):
    """Outcomes, output and status in the sandbox of what passes natively. What stands behind a test that does
    not end is run without it; of several that did not end at once, each is run by itself. `box` runs some
    tests, or all, and gives what is written and how it ends."""
    all_text, status = box([])
    seen = results(all_text)
    left = [[name] for name in unended(seen)]
    behind = [name for name in wanted if name not in seen]
    while behind or left:
        chunk = left.pop() if left else behind[:CHUNK]
        text, _ = box(chunk)
        all_text += text
        more = results(text)
        if len(chunk) > 1:
            left += [[name] for name in unended(more)]
        # The first of a chunk is off the list each time.
        seen.update({chunk[0]: "not run"} | more)
        behind = [name for name in behind if name not in seen]
    return seen, all_text, status


def unended(outcomes):
    """Tests that may not have ended because of another one."""
    names = [name for name, outcome in outcomes.items() if outcome == UNENDED]
    return names if len(names) > 1 else []


class Comparison:
    """How many tests pass natively, and how many of those in the sandbox."""

    def __init__(self, keep):
        self.keep, self.passing, self.same = keep, 0, 0
        if keep:
            os.makedirs(keep, exist_ok=True)

    def kept(self, name, native, boxed):
        """Keeps the output of both, if that is wanted."""
        if self.keep:
            for kind, text in (("native", native), ("sandbox", boxed)):
                with open(os.path.join(self.keep, f"{name.replace('/', '-')}.{kind}"), "w") as file:
                    file.write(text)

    def count(self, ok, seen, good="ok"):
        """Counts what passes natively, by its outcomes in the sandbox. Returns the outcomes that differ."""
        differ = {name: seen.get(name, "not run") for name in ok if seen.get(name) != good}
        self.passing += len(ok)
        self.same += len(ok) - len(differ)
        return differ

    def report(self):
        """Prints the sum."""
        print(f"{self.same} of {self.passing} pass: {100 * self.same / max(self.passing, 1):.1f} %")
