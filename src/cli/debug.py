"""Commands of gdb for recordings. `dejavm debug` loads them."""

import gdb


def monitor(command):
    """What `dejavm` says to a command."""
    return gdb.execute("monitor " + command, to_string=True).strip()


def go(where):
    """Goes there as if by a step, so that gdb finds out about it as about any stop."""
    complaint = monitor("goto " + where)
    if complaint:
        raise gdb.GdbError(complaint)
    gdb.execute("stepi")


def back_to_write(expression):
    """Goes back to before the last change of an expression's memory, whatever breakpoints and signals there are."""
    others = [b for b in gdb.breakpoints() if b.enabled]
    known = [b.number for b in gdb.breakpoints()]
    gdb.execute("watch -l " + expression, to_string=True)
    own = [b for b in gdb.breakpoints() if b.number not in known]
    try:
        for breakpoint in others:
            breakpoint.enabled = False
        monitor("only-watchpoints on")
        gdb.execute("reverse-continue")
    finally:
        monitor("only-watchpoints off")
        for breakpoint in own:
            if breakpoint.is_valid():
                breakpoint.delete()
        for breakpoint in others:
            if breakpoint.is_valid():
                breakpoint.enabled = True


class When(gdb.Command):
    """Show the position in the recording: exits before it, and steps since the last of them."""

    def __init__(self):
        super().__init__("when", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        print(monitor("when"))


class Seek(gdb.Command):
    """Go to a position in the recording: seek EXIT, EXIT+STEPS, EXIT:BRANCHES+STEPS, or EXIT- for before that exit."""

    def __init__(self):
        super().__init__("seek", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("where to?")
        go(argument)


class Run(gdb.Command):
    """Start over from the recording's beginning, and continue; or go to a position: run [POSITION]."""

    def __init__(self):
        super().__init__("run", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        go(argument or "start")
        if not argument:
            gdb.execute("continue")


class Start(gdb.Command):
    """Start over from the recording's beginning, and stop in main."""

    def __init__(self):
        super().__init__("start", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        gdb.execute("tbreak main")
        gdb.execute("run")


class ReverseToWrite(gdb.Command):
    """Go back to where an expression's memory was last changed: reverse-to-write EXPRESSION."""

    def __init__(self):
        super().__init__("reverse-to-write", gdb.COMMAND_RUNNING, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        back_to_write(argument)


class LastWrite(gdb.Command):
    """Show where an expression's memory was last changed, and stay here: last-write EXPRESSION."""

    def __init__(self):
        super().__init__("last-write", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        monitor("mark")
        try:
            back_to_write(argument)
            print("at " + monitor("when"))
        finally:
            go("mark")


When()
Seek()
Run()
Start()
ReverseToWrite()
LastWrite()
