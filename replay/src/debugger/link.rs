//! The connection to a debugger, as gdbstub sees it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gdbstub::common::Signal;
use gdbstub::conn::{Connection, ConnectionExt};

use super::interrupt::Inbox;
use super::packets::{Asked, Conditions, Incoming, packet_of};

/// How often a debugger is told that its command is still being carried out. gdb waits two seconds.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// Where the debugger is.
#[derive(Debug)]
pub enum DebugConnection {
    /// At the other end of a socket of this machine.
    Unix(UnixStream),
    /// At the other end of a network connection.
    Tcp(TcpStream),
}

impl DebugConnection {
    fn try_clone(&self) -> io::Result<DebugConnection> {
        Ok(match self {
            DebugConnection::Unix(stream) => DebugConnection::Unix(stream.try_clone()?),
            DebugConnection::Tcp(stream) => DebugConnection::Tcp(stream.try_clone()?),
        })
    }

    fn shut_down(&self) -> io::Result<()> {
        match self {
            DebugConnection::Unix(stream) => stream.shutdown(Shutdown::Both),
            DebugConnection::Tcp(stream) => stream.shutdown(Shutdown::Both),
        }
    }

    fn reader(&mut self) -> &mut dyn Read {
        match self {
            DebugConnection::Unix(stream) => stream,
            DebugConnection::Tcp(stream) => stream,
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            DebugConnection::Unix(stream) => stream,
            DebugConnection::Tcp(stream) => stream,
        }
    }
}

/// A connection, read ahead.
#[derive(Debug)]
pub(super) struct Link {
    connection: DebugConnection,
    inbox: Inbox,
    reader: Option<JoinHandle<()>>,
    incoming: Incoming,
    /// What gdbstub has not taken yet.
    ready: VecDeque<u8>,
    /// A packet of gdbstub's of which more is to come.
    answer: Vec<u8>,
    /// The program was started for its debugger.
    started: bool,
}

impl Link {
    /// Begins to read. The program was `started` for the debugger, or not.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn new(connection: DebugConnection, inbox: Inbox, started: bool) -> io::Result<Link> {
        if let DebugConnection::Tcp(stream) = &connection {
            stream.set_nodelay(true)?;
        }
        let (mut twin, filled) = (connection.try_clone()?, inbox.clone());
        let reader = std::thread::Builder::new()
            .name("dejavm-debug".into())
            .spawn(move || filled.fill(twin.reader()))?;
        Ok(Link {
            connection,
            inbox,
            reader: Some(reader),
            incoming: Incoming::default(),
            ready: VecDeque::new(),
            answer: Vec::new(),
            started,
        })
    }

    /// Conditions of the breakpoints that are set.
    pub fn conditions(&self) -> &Conditions {
        &self.incoming.conditions
    }

    /// Signals that the debugger is not to be told of.
    pub fn passed(&self) -> impl Iterator<Item = Signal> {
        self.incoming.passed.iter().map(|number| Signal(*number))
    }

    /// Says something on the debugger's console, while it waits for a stop.
    ///
    /// # Errors
    /// When the debugger is gone.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.connection.writer().write_all(&packet_of(format!("O{digits}").as_bytes()))
    }

    /// What tells the debugger now and then that its command is being carried out.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn alive(&self) -> io::Result<Alive> {
        Ok(Alive(self.connection.try_clone()?))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.incoming.asked == Some(Asked::Death) {
            // Whoever does not wait for it is no worse off.
            let _ = self.connection.writer().write_all(&Asked::Death.answer(Vec::new(), self.started));
        }
        self.inbox.close();
        // The debugger may have done so itself. The reader ends by it, and does nothing that could fail.
        let _ = self.connection.shut_down();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Connection for Link {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        if self.answer.is_empty() && byte != b'$' {
            return self.connection.writer().write_all(&[byte]);
        }
        self.answer.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let answer = std::mem::take(&mut self.answer);
        if self.inbox.is_unheard() {
            return Ok(());
        }
        let answer = match self.incoming.asked.take() {
            Some(asked) => asked.answer(answer, self.started),
            None => answer,
        };
        let writer = self.connection.writer();
        writer.write_all(&answer)?;
        writer.flush()
    }
}

impl ConnectionExt for Link {
    fn read(&mut self) -> io::Result<u8> {
        loop {
            if let Some(byte) = self.ready.pop_front() {
                return Ok(byte);
            }
            let byte = self.inbox.take().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ready.extend(self.incoming.push(byte));
            if self.ready.len() > 1 {
                self.inbox.next_packet();
            }
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.ready.front().copied().or_else(|| self.inbox.peek()))
    }
}

/// Tells a debugger that its command is being carried out.
#[derive(Debug)]
pub(super) struct Alive(DebugConnection);

impl Alive {
    /// Begins to do so, until what is returned is dropped.
    ///
    /// # Errors
    /// When the process has no descriptors or threads left.
    pub fn show(&self) -> io::Result<Signs> {
        let (done, over) = channel::<()>();
        let mut connection = self.0.try_clone()?;
        let shower = std::thread::Builder::new().name("dejavm-alive".into()).spawn(move || {
            // Console output that says nothing.
            let sign = packet_of(b"O");
            while over.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                // The reader finds out about a debugger that has gone.
                let _ = connection.writer().write_all(&sign);
            }
        })?;
        Ok(Signs { done: Some(done), shower: Some(shower) })
    }
}

/// Signs of life, until it is dropped: behind that, none is sent any more.
pub(super) struct Signs {
    done: Option<Sender<()>>,
    shower: Option<JoinHandle<()>>,
}

impl Drop for Signs {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(shower) = self.shower.take() {
            let _ = shower.join();
        }
    }
}
