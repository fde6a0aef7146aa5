//! An HTTP service that runs each request's Python code in a sandbox of its own, restored from one warmed
//! snapshot, with limits for each request. Ten hostile requests go to it while others are answered, and
//! the latencies are printed.
//!
//! `cargo run --release --example service`; with `-- serve`, it listens on 127.0.0.1:8080 until it is
//! stopped: `curl -d 'print(6 * 7)' -H 'x-deadline-ms: 500' 127.0.0.1:8080`.
//!
//! A sandbox runs on the thread that calls `run`, so it goes where tokio keeps blocking work, with as many
//! at once as there are CPUs; see `docs/async.md`.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dejavm::{Host, Image, Outcome, PauseAt, Program, StopHandle, WriteOptions};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

type Failure = Box<dyn Error + Send + Sync>;

/// What every request's sandbox has done before its snapshot was taken.
const WORKER: &str = "\
import json, re, decimal, hashlib, sys
code = sys.stdin.read()
exec(compile(code, 'request', 'exec'), {'json': json, 're': re, 'decimal': decimal, 'hashlib': hashlib})";
/// Bytes of memory, and of files, of one sandbox.
const MEMORY: u64 = 128 << 20;
const DISK: u64 = 16 << 20;
/// Bytes of code, and of output, of one request.
const CODE_LIMIT: usize = 64 << 10;
const OUTPUT_LIMIT: usize = 64 << 10;
/// How long a request may take, unless it asks for less.
const DEADLINE: Duration = Duration::from_millis(1000);

/// What all requests share.
struct Service {
    host: Host,
    image: Image,
    /// One permit a CPU: more sandboxes at once would only wait for each other.
    slots: Semaphore,
}

/// Stops a sandbox whose client went away.
struct StopOnDrop(Option<StopHandle>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.stop();
        }
    }
}

impl Service {
    /// Makes the snapshot that every request starts from, and warms it with a typical one.
    fn new(snapshot: &Path) -> Result<Service, dejavm::Error> {
        let host = Host::probe()?;
        let mut worker =
            Program::new("/usr/bin/python3").args(["-c", WORKER]).memory(MEMORY).disk(DISK).start(&host)?;
        let outcome = worker.run_until(PauseAt::FirstRead)?;
        assert_eq!(outcome, Outcome::Paused, "the worker reads its code");
        worker.snapshot(snapshot, &WriteOptions::default())?;
        Image::open(snapshot)?.restore().stdin("print(json.dumps({'seventh': 1 / 7}))").warm(&host)?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Service { host, image: Image::open(snapshot)?, slots: Semaphore::new(cpus) })
    }

    /// Runs code in a sandbox of its own.
    async fn run(self: Arc<Self>, code: Vec<u8>, deadline: Duration) -> Result<dejavm::Report, Failure> {
        let _slot = self.slots.acquire().await?;
        let (tell, told) = tokio::sync::oneshot::channel();
        let service = self.clone();
        let run = tokio::task::spawn_blocking(move || {
            let restore = service.image.restore().stdin(code).capture_output();
            let restore = restore.capture_limit(OUTPUT_LIMIT).deadline(deadline);
            let mut sandbox = restore.start(&service.host)?;
            let _ = tell.send(sandbox.stop_handle());
            sandbox.run()
        });
        // When the client goes away this future is dropped, and the guard with it.
        let mut guard = StopOnDrop(told.await.ok());
        let report = run.await?;
        guard.0 = None;
        Ok(report?)
    }

    /// Answers one request.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let wanted = request.headers().get("x-deadline-ms").and_then(|v| v.to_str().ok()?.parse().ok());
        let deadline = wanted.map_or(DEADLINE, |ms| DEADLINE.min(Duration::from_millis(ms)));
        let reply = |status: StatusCode, text: Vec<u8>| {
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = status;
            response
        };
        let Ok(code) = Limited::new(request.into_body(), CODE_LIMIT).collect().await else {
            return Ok(reply(StatusCode::PAYLOAD_TOO_LARGE, b"too much code\n".to_vec()));
        };
        Ok(match self.run(code.to_bytes().to_vec(), deadline).await {
            Ok(report) => match report.outcome {
                Outcome::Exited(0) => reply(StatusCode::OK, report.stdout),
                Outcome::Deadline => reply(StatusCode::REQUEST_TIMEOUT, b"out of time\n".to_vec()),
                outcome => {
                    let text = String::from_utf8_lossy(&report.stderr);
                    let text = format!("{outcome:?}: {}\n", text.lines().last().unwrap_or_default());
                    reply(StatusCode::UNPROCESSABLE_ENTITY, text.into_bytes())
                }
            },
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n").into_bytes()),
        })
    }

    /// Serves connections for ever.
    async fn serve(self: Arc<Self>, listener: TcpListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let service = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| service.clone().answer(request));
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that breaks off is its own loss.
                let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }
}

/// One request, and its answer.
async fn post(address: SocketAddr, code: &str) -> Result<(StatusCode, String), Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::post("/").header(header::HOST, "localhost").body(Full::<Bytes>::from(code.to_owned()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Requests that mean harm, each with the statuses that answer it and a word of the answer. The disk is
/// used up before the time on a fast machine only.
const HOSTILE: [(&str, &[u16], &str); 10] = [
    ("while True: pass", &[408], "time"),
    ("x = bytearray(1 << 34)", &[422], "MemoryError"),
    ("while True: print('x' * 65536)", &[422], "No space left"),
    ("f = open('/tmp/f', 'wb')\nwhile True: f.write(bytes(1 << 20))", &[422], "No space left"),
    ("import ctypes; ctypes.string_at(0)", &[422], "Signalled(11)"),
    ("print(open('/etc/shadow').read())", &[422], "Error"),
    ("import os\nfor n in range(10 ** 9): os.mkdir(f'/tmp/{n}')", &[422, 408], ""),
    ("import os; os.kill(os.getpid(), 9)", &[422], "Signalled(9)"),
    ("import signal\nsignal.setitimer(0, 1e-6, 1e-6)\nwhile True: pass", &[422], "Signalled(14)"),
    ("import mmap\na = [mmap.mmap(-1, 1 << 20) for n in range(10 ** 6)]", &[422], "Error"),
];

/// Sends `count` good requests one after the other; how long each took.
async fn good(address: SocketAddr, count: u32) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    for n in 1..=count {
        let start = Instant::now();
        let (status, text) = post(address, &format!("print(decimal.Decimal({n}) / 8)")).await?;
        took.push(start.elapsed());
        let expected = f64::from(n) / 8.0;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(text.trim().parse::<f64>()?, expected);
    }
    Ok(took)
}

fn show(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "{what}: {} requests, median {:.1} ms, 90 % {:.1}, most {:.1}",
        took.len(),
        at(50),
        at(90),
        at(100)
    );
}

/// Good requests alone, then beside hostile ones.
pub async fn demo(count: u32) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let service = Arc::new(Service::new(&dir.path().join("worker.dvm"))?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(service.serve(listener));

    show("alone", good(address, count).await?);
    let hostile = tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        for (code, status, word) in HOSTILE {
            all.spawn(async move { post(address, code).await.map(|answer| (answer, code, status, word)) });
        }
        let mut answers = Vec::new();
        while let Some(answer) = all.join_next().await {
            answers.push(answer??);
        }
        Ok::<_, Failure>(answers)
    });
    show("beside hostile ones", good(address, count).await?);
    for ((status, text), code, expected, word) in hostile.await?? {
        println!("  {:?} -> {status}, {}", code.lines().next_back().unwrap_or_default(), text.trim());
        assert!(expected.contains(&status.as_u16()), "{code}: {status}, {text}");
        assert!(text.contains(word), "{code}: {text}");
    }
    show("alone, afterwards", good(address, count).await?);
    assert!(!server.is_finished(), "the service is still there");
    println!("service: all answers were right");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        let dir = tempfile::tempdir()?;
        let service = Arc::new(Service::new(&dir.path().join("worker.dvm"))?);
        return Ok(service.serve(TcpListener::bind("127.0.0.1:8080").await?).await?);
    }
    demo(40).await
}
