//! Sockets of the UNIX domain, as Linux has them: what Linux has is found out by running the same program
//! natively.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::parts::{self, Part, sandboxed};
use common::{Input, finish};

fn build(dir: &Path) -> PathBuf {
    common::guest(dir, "sockets.c", &["-pthread"])
}

/// Natively and in the sandbox the same; then recorded and replayed, and behind snapshots in the middle.
fn same(part: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    // Natively it is to leave no files behind.
    let part = Part::new(&program, part, b"", &["clean"]);
    part.is_the_same();
    part.goes_on(&["exit:50", "exit:90", "exit:140"]);
}

#[test]
fn a_server_answers_its_clients() {
    same("echo");
}

#[test]
fn names_of_files_and_others() {
    same("names");
}

#[test]
fn what_is_refused() {
    same("errors");
}

#[test]
fn options_and_buffers() {
    same("options");
}

#[test]
fn datagrams_and_their_senders() {
    same("datagrams");
}

#[test]
fn descriptors_are_passed() {
    same("passing");
}

#[test]
fn credentials_are_told() {
    same("credentials");
}

#[test]
fn threads_wait_for_each_other() {
    same("waiting");
}

#[test]
fn an_end_goes_away() {
    same("closing");
}

#[test]
fn what_is_ready() {
    same("polling");
}

/// Servers, clients and pools of processes of Python's library, which pass descriptors to each other.
const PYTHON: [&str; 4] = [
    "
import socket, socketserver, threading
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(line.upper())
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True
server = Server('server', Handler)
thread = threading.Thread(target=server.serve_forever)
thread.start()
answers = [[] for _ in range(6)]
def client(n):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect('server')
        file = s.makefile('rw')
        for i in range(5):
            print('client', n, 'line', i, file=file, flush=True)
            answers[n].append(file.readline())
        file.close()
clients = [threading.Thread(target=client, args=[n]) for n in range(6)]
for one in clients: one.start()
for one in clients: one.join()
server.shutdown()
server.server_close()
thread.join()
print(answers)
",
    "
import asyncio
async def handle(reader, writer):
    while line := await reader.readline():
        writer.write(line[::-1].strip() + b'.')
        await writer.drain()
    writer.close()
async def client(n):
    reader, writer = await asyncio.open_unix_connection('server')
    got = []
    for i in range(5):
        writer.write(b'%d-%d abc' % (n, i) + bytes(1000 * i) + bytes([10]))
        got.append(len(await reader.readuntil(b'.')))
    writer.close()
    await writer.wait_closed()
    return got
async def main():
    server = await asyncio.start_unix_server(handle, 'server')
    print(await asyncio.gather(*(client(n) for n in range(4))))
    server.close()
    await server.wait_closed()
asyncio.run(main())
",
    "
import multiprocessing, os
from multiprocessing.connection import Client, Listener
def put(found, order, n):
    found[n] = n * n
    order.append(n)
if __name__ == '__main__':
    multiprocessing.set_start_method('forkserver')
    with multiprocessing.Pool(2) as pool: print(pool.map(abs, range(-5, 5)))
    with multiprocessing.Manager() as manager:
        found, order = manager.dict(), manager.list()
        put(found, order, 3)
        print(found, list(order))
    with Listener('listener', 'AF_UNIX', authkey=b'key') as listener:
        if not os.fork():
            with Client('listener', authkey=b'key') as client: client.send({'one': 1})
            os._exit(0)
        with listener.accept() as connection: print(connection.recv())
        os.wait()
",
    "
import os, socket
one, other = socket.socketpair()
ends = os.pipe()
if not os.fork():
    message, fds, flags, address = socket.recv_fds(other, 100, 5)
    os.write(fds[1], message + b' through the pipe')
    os._exit(len(fds))
socket.send_fds(one, [b'sent'], list(ends))
print(os.waitstatus_to_exitcode(os.wait()[1]), os.read(ends[0], 100))
",
];

#[test]
fn python_s_library() {
    let python = common::native("/usr/bin/python3");
    for script in PYTHON {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(&python);
        command.args(["-c", script]).current_dir(dir.path()).env_clear().envs(common::ENVIRONMENT);
        let native = finish(&mut command, Input::Pipe(b""));
        assert!(native.stdout.len() > 10, "{native:?}");
        let mut command = common::dejavm(["run", "-q", "--deadline", "600s", "--memory", "2G"]);
        command.arg("--").arg(&python).args(["-c", script]).current_dir(dir.path());
        std::fs::remove_file(dir.path().join("server")).ok();
        assert_eq!(finish(&mut command, Input::Pipe(b"")), native, "{script}");
    }
}

/// What a program makes grow is bounded, and nothing that it leaves behind stays.
#[test]
fn hostile_programs_meet_their_limits() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    let few = ["run", "-q", "--deadline", "600s", "--disk", "64M"];
    let seen = sandboxed(&program, &few, &["hostile"]);
    let expected = "cycles\nchain\n4001 connections, EAGAIN\nfull: bounded\npassed: bounded\nto the end\n";
    assert_eq!(seen.text(), expected, "{seen:?}");
}

/// A program that can never go on ends, and says what it waits for.
#[test]
fn a_deadlock_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = build(dir.path());
    parts::is_stuck(&program, "deadlock", &["to accept a connection on descriptor"]);
}
