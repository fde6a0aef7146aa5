"""What the scripts share that run a suite of tests natively and in the sandbox, and compare them test by test."""

import argparse
import os
import subprocess

# What programs have in the sandbox, too.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def arguments(time, whose):
    """Options that all of them have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dejavm", default="target/release/dejavm")
    parser.add_argument("--time", type=int, default=time, help=f"seconds for a {whose}")
    parser.add_argument("--keep", help="directory to keep the output in")
    return parser


def run(command, where, time, environment=None):
    """What a command writes, and how it ends."""
    try:
        done = subprocess.run(command, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=time, env=environment)
        return done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as end:
        return (end.stdout or b"").decode(errors="replace"), "timeout"


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
