"""What can be done with standard output where it is a regular file: each call's result goes to
standard error."""

import os
import sys

calls = []


def call(name, does):
    try:
        result = does()
    except OSError as e:
        result = e.strerror
    calls.append((name, result))
    return result


def seen():
    call("stat", lambda: (os.fstat(1).st_size, oct(os.fstat(1).st_mode), os.lseek(1, 0, os.SEEK_CUR)))


def write(data, fd=1):
    call("write", lambda: os.write(fd, data))
    seen()


def seek(offset, whence):
    call("seek", lambda: os.lseek(1, offset, whence))


seen()
write(b"hello world\n")
call("pwrite", lambda: os.pwrite(1, b"J", os.fstat(1).st_size - 12))
seek(-6, os.SEEK_CUR)
write(b"W")
seek(0, os.SEEK_END)
write(b"tail\n")
call("truncate", lambda: os.ftruncate(1, os.fstat(1).st_size - 3))
write(b"behind a hole\n")
seek(0, os.SEEK_HOLE)
seek(0, os.SEEK_DATA)
seek(-1, os.SEEK_SET)
again = call("open", lambda: os.open("/dev/stdout", os.O_WRONLY | os.O_APPEND))
write(b"at the end\n", again)
seek(0, os.SEEK_END)
call("writev", lambda: os.writev(1, [b"a\n", b"b\n"]))
call("fsync", lambda: os.fsync(1))
call("fsync", lambda: os.fdatasync(again))
call("tty", lambda: os.ttyname(1))
call("allocate", lambda: os.posix_fallocate(1, 0, os.fstat(1).st_size + 100))
call("truncate", lambda: os.ftruncate(1, os.fstat(1).st_size - 100))
call("sendfile", lambda: os.sendfile(1, 0, 0, 4))
call("big", lambda: os.write(1, b"x" * (3 << 20)))
seen()
call("truncate", lambda: os.truncate("/dev/stdout", os.fstat(1).st_size - (3 << 20)))
seek(0, os.SEEK_END)
print(*calls, sep="\n", file=sys.stderr)
