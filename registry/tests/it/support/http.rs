//! A small HTTP/1.1 server for tests: it can do what no honest server does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: HashMap<String, Vec<String>>,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    /// What came of the body.
    pub body: Vec<u8>,
    /// The body broke off, because the server wanted it to.
    pub torn: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.get(name).and_then(|values| values.first()).map(String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How the answer goes wrong.
    pub trouble: Trouble,
}

/// What can go wrong with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Trouble {
    #[default]
    None,
    /// No answer; the connection closes.
    Hangup,
    /// No answer; the connection stays.
    Silence,
    /// The connection closes after this many bytes of the body.
    CutAfter(usize),
    /// The connection goes silent after this many bytes of the body.
    StallAfter(usize),
    /// The connection is reset after this many bytes of the body.
    ResetAfter(usize),
    /// The body comes at so many bytes a second.
    Rate(usize),
    /// The body never ends.
    Endless,
    /// A byte of the body each so many milliseconds.
    Drip(u64),
    /// The answer comes after so many milliseconds.
    Late(u64),
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = trouble;
        self
    }
}

/// What a server does with requests.
pub trait Handler: Send + Sync + 'static {
    /// How much of the body to read before the connection is cut; `None` reads all.
    fn tear(&self, _head: &Request) -> Option<usize> {
        None
    }

    /// An answer before the body is read, and no reading of it.
    fn refuse(&self, _head: &Request) -> Option<Reply> {
        None
    }

    fn answer(&self, request: Request) -> Reply;
}

impl<F: Fn(Request) -> Reply + Send + Sync + 'static> Handler for F {
    fn answer(&self, request: Request) -> Reply {
        self(request)
    }
}

/// A running server, stopped with the value.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    pub async fn start(handler: Arc<impl Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let handler = handler.clone();
                tokio::spawn(async move { serve(stream, handler).await });
            }
        });
        Self { address, task, accepted }
    }

    /// By TLS. The first `deaf` connections get no answer to their hello.
    pub async fn start_tls(handler: Arc<impl Handler>, acceptor: TlsAcceptor, deaf: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                if silent.len() < deaf {
                    silent.push(stream);
                    continue;
                }
                let (handler, acceptor) = (handler.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, handler).await;
                    }
                });
            }
        });
        Self { address, task, accepted: Arc::default() }
    }

    /// Connections that were taken so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection, by TLS or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// Sees to it that the connection ends by a reset.
    fn abort(&self);
}

impl Wire for TcpStream {
    fn abort(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Wire for TlsStream<TcpStream> {
    fn abort(&self) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

async fn serve(mut stream: impl Wire, handler: Arc<impl Handler>) {
    let mut rest = Vec::new();
    while let Some(mut request) = read_head(&mut stream, &mut rest).await {
        if let Some(reply) = handler.refuse(&request) {
            let _ = send(&mut stream, &reply).await;
            return;
        }
        let tear = handler.tear(&request);
        let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let wanted = tear.map_or(length, |most| most.min(length));
        let mut buffer = vec![0; 64 << 10];
        while rest.len() < wanted {
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => rest.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
        request.body = rest.drain(..wanted.min(rest.len())).collect();
        request.torn = request.body.len() < length;
        let torn = request.torn;
        let head = request.method == "HEAD";
        let mut reply = handler.answer(request);
        if torn {
            return;
        }
        if head {
            reply.headers.push(("content-length".into(), reply.body.len().to_string()));
            reply.body.clear();
        }
        if !send(&mut stream, &reply).await {
            return;
        }
    }
}

async fn read_head(stream: &mut impl Wire, rest: &mut Vec<u8>) -> Option<Request> {
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        if let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => rest.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end + 4);
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let method = first.next()?.to_owned();
    let (path, query) =
        first.next()?.split_once('?').map_or((head_target(&head), ""), |(path, query)| (path, query));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut parsed = Request { method, path: decode(path), headers: headers.collect(), ..Request::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parsed.query.entry(decode(name)).or_default().push(decode(value));
    }
    Some(parsed)
}

fn head_target(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or("/")
}

/// Undoes percent-encoding and `+`.
pub fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).unwrap_or(b'?'));
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Sends the answer with its trouble; says whether the connection can go on.
async fn send(stream: &mut impl Wire, reply: &Reply) -> bool {
    match reply.trouble {
        Trouble::Hangup => return false,
        Trouble::Silence => return hold().await,
        Trouble::Late(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let named = |name: &str| reply.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let mut head = format!("HTTP/1.1 {} Test\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.trouble == Trouble::Endless {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if !named("content-length") && reply.status != 204 {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    body(stream, reply).await
}

async fn body(stream: &mut impl Wire, reply: &Reply) -> bool {
    match reply.trouble {
        Trouble::CutAfter(n) => {
            let _ = stream.write_all(&reply.body[..n.min(reply.body.len())]).await;
            let _ = stream.flush().await;
            false
        }
        Trouble::ResetAfter(n) => {
            let _ = stream.write_all(&reply.body[..n.min(reply.body.len())]).await;
            let _ = stream.flush().await;
            stream.abort();
            false
        }
        Trouble::Rate(bytes) => {
            for piece in reply.body.chunks((bytes / 100).max(1)) {
                if stream.write_all(piece).await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            true
        }
        Trouble::StallAfter(n) => {
            let _ = stream.write_all(&reply.body[..n.min(reply.body.len())]).await;
            let _ = stream.flush().await;
            hold().await
        }
        Trouble::Endless => {
            let _ = stream.write_all(format!("{:x}\r\n", reply.body.len()).as_bytes()).await;
            let _ = stream.write_all(&reply.body).await;
            let _ = stream.write_all(b"\r\n").await;
            let more = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
            while stream.write_all(&more).await.is_ok() {}
            false
        }
        Trouble::Drip(ms) => {
            for byte in &reply.body {
                if stream.write_all(&[*byte]).await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            true
        }
        _ => stream.write_all(&reply.body).await.is_ok() && stream.flush().await.is_ok(),
    }
}

fn hold() -> Pin<Box<dyn Future<Output = bool> + Send>> {
    Box::pin(std::future::pending())
}
