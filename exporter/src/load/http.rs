//! As much of HTTP/1.1 as Docker's API on a socket needs: one request on a connection, bounded answers.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The most that an answer may have, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The most that the head of an answer may have, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// How much is gathered before it is sent, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How long the engine may be silent: it unpacks what it was given before it answers.
const SILENCE: Duration = Duration::from_secs(600);

/// Where an engine's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Host and port, without TLS.
    Tcp(String),
}

impl Address {
    /// Reads `unix:///path` or `tcp://host:port`, as `DOCKER_HOST` has it.
    ///
    /// # Errors
    /// What forge does not speak, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", host)) => Ok(Self::Tcp(host.trim_end_matches('/').to_owned())),
            _ => Err(format!("forge reaches Docker by unix:///path and tcp://host:port, not by `{text}`")),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Box::new(stream))
            }
            Self::Tcp(host) => {
                let stream = TcpStream::connect(host)?;
                stream.set_read_timeout(Some(SILENCE))?;
                stream.set_write_timeout(Some(SILENCE))?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// What a failing engine says.
    pub fn message(&self) -> String {
        let said: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let said = said.as_ref().and_then(|said| said["message"].as_str());
        let text = said.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        format!("HTTP {}: {}", self.status, text.trim())
    }
}

/// Makes a request without a body.
pub fn ask(address: &Address, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = address.connect()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )?;
    read(stream)
}

/// Makes a request whose body is written by `write`, in chunks. Its error is told before the engine's.
pub fn send<E: From<io::Error>>(
    address: &Address,
    path: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<Answer, E> {
    let mut stream = address.connect()?;
    let head =
        "Host: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\n\r\n")?;
    let mut chunks = Chunks { stream, waiting: Vec::with_capacity(CHUNK_BYTES) };
    let written = write(&mut chunks).and_then(|()| Ok(chunks.finish()?));
    match (written, read(chunks.stream)) {
        // An engine that refuses may do so before it has read everything: what it says is the reason.
        (Ok(()), answer) => Ok(answer?),
        (Err(_), Ok(answer)) if answer.status >= 400 => Ok(answer),
        (Err(e), _) => Err(e),
    }
}

/// A body in chunks.
struct Chunks {
    stream: Box<dyn Stream>,
    waiting: Vec<u8>,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            write!(self.stream, "{:x}\r\n", self.waiting.len())?;
            self.waiting.extend_from_slice(b"\r\n");
            self.stream.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.send()?;
        self.stream.write_all(b"0\r\n\r\n")
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(stream: Box<dyn Stream>) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the answer has {what}"));
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.by_ref().take(HEAD_BYTES_MAX).read_line(&mut head)? > 2 {
        if head.len() as u64 > HEAD_BYTES_MAX {
            return Err(bad("too long a head"));
        }
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(':')).find(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = String::new();
            reader.by_ref().take(HEAD_BYTES_MAX).read_line(&mut line)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad("a chunk without size"))?;
            if size == 0 {
                break;
            }
            if body.len() as u64 + size > ANSWER_BYTES_MAX {
                return Err(bad("too many bytes"));
            }
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut line)?;
        }
    } else {
        let length = header("content-length").and_then(|(_, value)| value.trim().parse().ok());
        let most = length.unwrap_or(ANSWER_BYTES_MAX).min(ANSWER_BYTES_MAX);
        reader.take(most).read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}
