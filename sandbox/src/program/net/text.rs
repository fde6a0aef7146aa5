//! `/proc/net/unix`.

use super::Sockets;
use super::socket::State;

impl Sockets {
    /// The sockets that there are, a line each. The kernel's addresses are not told, as to those who are not
    /// privileged.
    pub fn text(&self) -> Vec<u8> {
        /// `__SO_ACCEPTCON`.
        const ACCEPTS: u32 = 1 << 16;
        let mut text = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
        for (id, socket) in &self.map {
            let flags = if socket.state == State::Listening { ACCEPTS } else { 0 };
            // `SS_UNCONNECTED` and what follows it: a connection that is yet to be accepted has an own state.
            let (state, inode) = match (socket.state == State::Connected, socket.listener) {
                (_, Some(_)) => (2, 0),
                (true, None) => (3, id.number()),
                (false, None) => (1, id.number()),
            };
            let references = 2 + u32::from(socket.peer.is_some());
            let line = format!(
                "{:016x}: {references:08X} {:08X} {flags:08X} {:04X} {state:02X} {inode:5}",
                0,
                0,
                socket.kind.number()
            );
            text.extend_from_slice(line.as_bytes());
            if let Some(name) = &socket.name {
                text.push(b' ');
                text.extend_from_slice(&name.text());
            }
            text.push(b'\n');
        }
        text
    }
}
