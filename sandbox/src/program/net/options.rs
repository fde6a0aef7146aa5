//! What a program can set of a socket (`net/core/sock.c`).

use serde::{Deserialize, Serialize};

use super::Sockets;
use crate::program::fs::{FsResult, InodeId};

/// Connections that a listener may have waiting (`net.core.somaxconn`).
pub(crate) const SOMAXCONN: u32 = 4096;
/// Bytes of a new socket's buffers, and the most that a program may ask for (`net.core.wmem_default` and
/// the like).
const BUFFER: u32 = 212_992;
/// Bytes of the smallest buffers.
const SEND_MIN: u32 = 4608;
const RECEIVE_MIN: u32 = 2304;

/// An option that is on or off: its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `SO_REUSEADDR`: kept.
    ReuseAddress = 1,
    /// `SO_BROADCAST`: kept.
    Broadcast = 2,
    /// `SO_KEEPALIVE`: kept.
    KeepAlive = 4,
    /// `SO_DONTROUTE`: kept.
    DontRoute = 8,
    /// `SO_PASSCRED`: messages tell who sent them.
    PassCredentials = 16,
}

/// What was set of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Options {
    /// Bytes of messages that it may have sent, and nobody received.
    pub send_buffer: u32,
    /// Kept: what is sent to it counts with the sender.
    pub receive_buffer: u32,
    /// Nanoseconds that a call waits to send; `None` for ever.
    pub send_timeout: Option<u64>,
    /// The same to receive, or to accept a connection.
    pub receive_timeout: Option<u64>,
    /// [`Flag`]s.
    pub flags: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            send_buffer: BUFFER,
            receive_buffer: BUFFER,
            send_timeout: None,
            receive_timeout: None,
            flags: 0,
        }
    }
}

impl Options {
    pub fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u32 != 0
    }

    /// Whether they can be: for a state out of a file.
    pub fn is_sound(&self) -> bool {
        (SEND_MIN..=2 * BUFFER).contains(&self.send_buffer)
            && (RECEIVE_MIN..=2 * BUFFER).contains(&self.receive_buffer)
    }
}

impl Sockets {
    /// The bytes of its buffers: to send, and to receive.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn buffers(&self, id: InodeId) -> FsResult<(u32, u32)> {
        let options = &self.get(id)?.options;
        Ok((options.send_buffer, options.receive_buffer))
    }

    /// Sets the bytes of its buffer to send: twice what is asked for, since messages take more than what is
    /// in them.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn set_send_buffer(&mut self, id: InodeId, bytes: u32) -> FsResult<()> {
        self.get_mut(id)?.options.send_buffer = (bytes.min(BUFFER) * 2).max(SEND_MIN);
        // There may be room now.
        self.wake(id);
        Ok(())
    }

    /// The same to receive.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn set_receive_buffer(&mut self, id: InodeId, bytes: u32) -> FsResult<()> {
        self.get_mut(id)?.options.receive_buffer = (bytes.min(BUFFER) * 2).max(RECEIVE_MIN);
        Ok(())
    }

    /// How long calls wait: to send, and to receive.
    pub fn timeouts(&self, id: InodeId) -> (Option<u64>, Option<u64>) {
        self.get(id)
            .map_or((None, None), |socket| (socket.options.send_timeout, socket.options.receive_timeout))
    }

    /// Sets how long calls wait to send, or to receive.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn set_timeout(&mut self, id: InodeId, sends: bool, timeout: Option<u64>) -> FsResult<()> {
        let options = &mut self.get_mut(id)?.options;
        *(if sends { &mut options.send_timeout } else { &mut options.receive_timeout }) = timeout;
        Ok(())
    }

    /// Whether an option is on.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn flag(&self, id: InodeId, flag: Flag) -> FsResult<bool> {
        Ok(self.get(id)?.options.has(flag))
    }

    /// Turns an option on or off.
    ///
    /// # Errors
    /// `ENOTSOCK`.
    pub fn set_flag(&mut self, id: InodeId, flag: Flag, on: bool) -> FsResult<()> {
        let flags = &mut self.get_mut(id)?.options.flags;
        *flags = if on { *flags | flag as u32 } else { *flags & !(flag as u32) };
        Ok(())
    }
}
