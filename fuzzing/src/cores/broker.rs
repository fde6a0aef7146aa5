//! Whoever passes on what cores share: LibAFL's broker, which other brokers connect to.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use libafl_bolts::llmp::{Listener, LlmpBroker};
use libafl_bolts::shmem::{ShMemProvider, StdShMem, StdShMemProvider};

use super::Error;

/// How long another broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A broker. It listens on the loopback interface, and is driven by [`Broker::pass_on`].
pub struct Broker {
    broker: LlmpBroker<(), StdShMem, StdShMemProvider>,
    port: u16,
}

impl Broker {
    /// One at this port, or at any if it is zero, which is connected to these others.
    pub fn open(port: u16, peers: &[String]) -> Result<Broker, Error> {
        let mut broker = LlmpBroker::new(StdShMemProvider::new()?, ())?;
        // First: the listener numbers those who connect from what there is on.
        for peer in peers {
            let connected = answers(peer).map_err(libafl::Error::from);
            let connected = connected.and_then(|()| broker.inner_mut().connect_b2b(peer.as_str()));
            connected.map_err(|source| Error::Peer { peer: peer.clone(), source })?;
        }
        let listen = |source| Error::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        broker.inner_mut().launch_listener(Listener::Tcp(listener))?;
        Ok(Broker { broker, port })
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes on what was shared since the last time.
    pub fn pass_on(&mut self) -> Result<(), Error> {
        self.broker.broker_once()?;
        Ok(())
    }
}

/// Whether there is somebody who says something to whom connects, as a broker does: LibAFL waits for ever.
fn answers(peer: &str) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in peer.to_socket_addrs()? {
        let answer = TcpStream::connect_timeout(&address, ANSWER).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER))?;
            stream.peek(&mut [0])
        });
        match answer {
            Ok(1..) => return Ok(()),
            Ok(0) => last = io::ErrorKind::UnexpectedEof.into(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => last = io::ErrorKind::TimedOut.into(),
            Err(e) => last = e,
        }
    }
    Err(last)
}
