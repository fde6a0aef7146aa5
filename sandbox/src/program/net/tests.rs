use super::*;
use crate::program::fs::testing::{Bench, errno};
use crate::program::fs::{Env, Fs};

const WHO: Ucred = Ucred { pid: 2, uid: 0, gid: 0 };

fn extras() -> Extras {
    Extras { sender: WHO, creds: None, passed: Vec::new(), limit: 1024 }
}

fn name(text: &str) -> Name {
    Name::of_address(&[&[1, 0], text.as_bytes()].concat()).unwrap()
}

/// Sockets in a file system of their own, which is sound whatever is done.
struct Net(Bench);

impl Net {
    fn new() -> Net {
        Net(Bench::empty())
    }

    fn run<T>(&mut self, act: impl FnOnce(&mut Fs, &mut Env<'_>) -> FsResult<T>) -> Result<T, Errno> {
        let done = errno(self.0.run(|fs, env, _| act(fs, env)));
        assert_eq!(self.0.fs.check(), Ok(()));
        done
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Sockets) -> FsResult<T>) -> Result<T, Errno> {
        self.run(|fs, _| fs.with_sockets(act))
    }

    fn socket(&mut self, kind: Kind) -> InodeId {
        self.run(|fs, env| fs.make_socket(env, kind)).unwrap()
    }

    fn pair(&mut self, kind: Kind) -> [InodeId; 2] {
        let ends = [self.socket(kind), self.socket(kind)];
        self.with(|sockets| sockets.pair(ends, WHO)).unwrap();
        ends
    }

    fn close(&mut self, id: InodeId) {
        self.run(|fs, env| fs.release(env, id)).unwrap();
    }

    fn send(&mut self, id: InodeId, data: &[u8]) -> Result<usize, Errno> {
        self.with(|sockets| {
            if sockets.kind(id)? == Kind::Stream {
                return Ok(sockets.send_bytes(id, data, &extras(), true, true, false)?.bytes);
            }
            sockets.start_packet(id, data.len(), true)?;
            Ok(sockets.send_packet(id, None, data, &extras(), true)?.bytes)
        })
    }

    fn receive(&mut self, id: InodeId, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buf = vec![0; len];
        let take = Take { nonblock: true, ..Take::default() };
        let received = self.with(|sockets| sockets.receive(id, &mut buf, take))?;
        buf.truncate(received.bytes);
        Ok(buf)
    }

    fn listener(&mut self, kind: Kind, backlog: u32) -> InodeId {
        let id = self.socket(kind);
        self.with(|sockets| sockets.bind_abstract(id, name("\0server"))).unwrap();
        self.with(|sockets| sockets.listen(id, backlog, WHO)).unwrap();
        id
    }

    fn connect(&mut self, id: InodeId, listener: InodeId) -> Result<(), Errno> {
        self.run(|fs, env| fs.connect_socket(env, id, listener, WHO, true))
    }
}

#[test]
fn what_is_sent_is_received_and_costs_nothing_after_that() {
    for kind in [Kind::Stream, Kind::Datagram, Kind::Packets] {
        let mut net = Net::new();
        let before = net.0.fs.overlay_bytes();
        let [one, other] = net.pair(kind);
        let empty = net.0.fs.overlay_bytes();
        assert_eq!(net.receive(other, 9), Err(Errno::EAGAIN));
        net.send(one, b"first").unwrap();
        net.send(one, b"second").unwrap();
        assert_eq!(net.0.fs.overlay_bytes(), empty + 2 * 768);
        let glued = kind == Kind::Stream;
        assert_eq!(net.receive(other, 3).unwrap(), b"fir");
        assert_eq!(net.receive(other, 9).unwrap(), if glued { &b"stsecond"[..] } else { b"second" });
        assert_eq!(net.0.fs.overlay_bytes(), empty);
        net.send(one, b"lost").unwrap();
        net.close(other);
        net.close(one);
        assert_eq!(net.0.fs.overlay_bytes(), before);
    }
}

#[test]
fn a_full_buffer_takes_nothing_and_is_writable_when_a_quarter_is_taken() {
    let mut net = Net::new();
    let [one, other] = net.pair(Kind::Packets);
    let mut count = 0;
    while net.send(one, b"x") == Ok(1) {
        count += 1;
    }
    // More than a receiver of datagrams has: the sender's buffer counts.
    assert_eq!(count, 278);
    let writable = |net: &Net| net.0.fs.sockets().ready(one).unwrap() & 4 != 0;
    while !writable(&net) {
        assert_eq!(net.receive(other, 1).unwrap(), b"x");
        count -= 1;
    }
    assert_eq!(count, 69);
}

#[test]
fn the_quota_is_a_limit() {
    let mut net = Net(Bench::with_quota(20_000));
    let [one, other] = net.pair(Kind::Stream);
    let mut sent = 0;
    let refused = loop {
        match net.send(one, &[7; 100]) {
            Ok(n) => sent += n,
            Err(e) => break e,
        }
    };
    assert_eq!(refused, Errno::ENOBUFS);
    assert_eq!(net.receive(other, 100_000).unwrap().len(), sent);
}

#[test]
fn names_are_had_once() {
    let mut net = Net::new();
    let [one, other, datagrams] = [Kind::Stream, Kind::Stream, Kind::Datagram].map(|kind| net.socket(kind));
    net.with(|sockets| sockets.bind_abstract(one, name("\0a"))).unwrap();
    assert_eq!(net.with(|sockets| sockets.bind_abstract(one, name("\0b"))), Err(Errno::EINVAL));
    assert_eq!(net.with(|sockets| sockets.bind_abstract(other, name("\0a"))), Err(Errno::EADDRINUSE));
    net.with(|sockets| sockets.bind_abstract(datagrams, name("\0a"))).unwrap();
    assert_eq!(net.with(|sockets| sockets.find_abstract(other, &name("\0a"))), Ok(one));
    net.close(one);
    assert_eq!(net.with(|sockets| sockets.find_abstract(other, &name("\0a"))), Err(Errno::ECONNREFUSED));
    net.with(|sockets| sockets.bind_abstract(other, name("\0a"))).unwrap();
    let third = net.socket(Kind::Stream);
    net.with(|sockets| sockets.bind_any(third, 0xf_ffff)).unwrap();
    assert_eq!(net.0.fs.sockets().name(third).unwrap(), Some(&Name::automatic(0)));
    let fourth = net.socket(Kind::Stream);
    net.with(|sockets| sockets.bind_any(fourth, 0xf_ffff)).unwrap();
    assert_eq!(net.0.fs.sockets().name(fourth).unwrap(), Some(&Name::automatic(1)));
}

#[test]
fn connections_wait_to_be_accepted() {
    let mut net = Net::new();
    let listener = net.listener(Kind::Stream, 1);
    let clients: [InodeId; 3] = std::array::from_fn(|_| net.socket(Kind::Stream));
    net.connect(clients[0], listener).unwrap();
    net.connect(clients[1], listener).unwrap();
    assert_eq!(net.connect(clients[2], listener), Err(Errno::EAGAIN));
    assert_eq!(
        net.connect(clients[0], listener),
        Err(Errno::EAGAIN),
        "as Linux, before it looks at the client"
    );
    net.send(clients[0], b"early").unwrap();
    let accepted = net.with(|sockets| sockets.accept(listener, true)).unwrap();
    assert_eq!(net.connect(clients[0], listener), Err(Errno::EISCONN));
    assert_eq!(net.receive(accepted, 9).unwrap(), b"early");
    net.close(listener);
    // The one that was accepted goes on; the other one is reset.
    net.send(accepted, b"on").unwrap();
    assert_eq!(net.receive(clients[0], 9).unwrap(), b"on");
    assert_eq!(net.receive(clients[1], 9), Err(Errno::ECONNRESET));
    assert_eq!(net.receive(clients[1], 9).unwrap(), b"");
    for id in clients.into_iter().chain([accepted]) {
        net.close(id);
    }
    assert!(net.0.fs.sockets().map.is_empty() && net.0.fs.sockets().bound.is_empty());
}

/// A state out of a file is refused where it says what cannot be.
#[test]
fn what_cannot_be_is_refused() {
    let mut net = Net::new();
    let [one, other] = net.pair(Kind::Stream);
    let listener = net.listener(Kind::Stream, 1);
    let client = net.socket(Kind::Stream);
    net.connect(client, listener).unwrap();
    net.send(one, b"text").unwrap();
    let sound = net.0.fs.sockets().clone();
    let is_sound = |sockets: &Sockets| sockets.is_sound(sound.map.len(), |_| true, |_| true);
    assert!(is_sound(&sound));
    let waiting = sound.map[&listener].pending[0];
    let forge = |change: &dyn Fn(&mut Sockets)| {
        let mut forged = sound.clone();
        change(&mut forged);
        assert!(!is_sound(&forged));
    };
    forge(&|s| s.used += 1);
    forge(&|s| s.passed += 1);
    forge(&|s| s.bound.clear());
    forge(&|s| drop(s.map.remove(&client)));
    forge(&|s| s.map.get_mut(&one).unwrap().sent = 0);
    forge(&|s| s.map.get_mut(&one).unwrap().peer = None);
    forge(&|s| s.map.get_mut(&one).unwrap().peer.as_mut().unwrap().id = client);
    forge(&|s| s.map.get_mut(&one).unwrap().kind = Kind::Packets);
    forge(&|s| s.map.get_mut(&one).unwrap().listener = Some(listener));
    forge(&|s| s.map.get_mut(&one).unwrap().options.send_buffer = 1);
    forge(&|s| s.map.get_mut(&waiting).unwrap().listener = None);
    forge(&|s| s.map.get_mut(&listener).unwrap().pending.push_back(waiting));
    forge(&|s| s.map.get_mut(&listener).unwrap().pending.push_back(other));
    forge(&|s| s.map.get_mut(&listener).unwrap().state = State::Closed);
    forge(&|s| s.map.get_mut(&listener).unwrap().name = None);
    forge(&|s| s.map.get_mut(&other).unwrap().queue[0].read = 4);
    forge(&|s| s.map.get_mut(&other).unwrap().queue[0].paged = 5);
    forge(&|s| s.map.get_mut(&other).unwrap().queue[0].from = client);
    assert!(!sound.is_sound(sound.map.len() + 1, |_| true, |_| true));
    assert!(!sound.is_sound(sound.map.len(), |id| id != one, |_| true));
    assert!(!sound.is_sound(sound.map.len(), |_| true, |id| id != other));
}
