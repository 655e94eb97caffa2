//! As much of HTTP/1.1 as Docker's API needs: one request on a connection, bounded answers. The connection is a
//! socket's, TLS's, or what a program such as ssh passes on.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Program;

/// The most that an answer may have, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The most that the head of an answer may have, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// How much is gathered before it is sent, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How long the engine may be silent: it unpacks what it was given before it answers.
const SILENCE: Duration = Duration::from_secs(600);

/// How much of a program's complaints is told, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 2 << 10;

/// Where an engine's API is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Host and port, without TLS.
    Tcp(String),
    /// Host and port, by TLS.
    Tls(String, Arc<ClientConfig>),
    /// A program whose input and output are the connection.
    Command {
        /// The program.
        program: Program,
        /// Its arguments.
        args: Vec<String>,
        /// The address that it stands for.
        shown: String,
    },
}

impl Address {
    /// Reads `unix:///path` or `tcp://host:port`, as `DOCKER_HOST` has it; the latter by TLS where there is a
    /// configuration for it.
    ///
    /// # Errors
    /// What forge does not speak, and what to do.
    pub fn parse(text: &str, tls: Option<Arc<ClientConfig>>) -> Result<Self, String> {
        let host = |host: &str| host.split('/').next().unwrap_or_default().to_owned();
        match (text.split_once("://"), tls) {
            (Some(("unix", path)), _) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            (Some(("tcp" | "https", at)), Some(tls)) => Ok(Self::Tls(host(at), tls)),
            (Some(("tcp" | "http", at)), None) => Ok(Self::Tcp(host(at))),
            _ => Err(format!(
                "forge reaches Docker by unix:///path, tcp://host:port and ssh://host, not by `{text}`"
            )),
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
            Self::Tcp(host) => Ok(Box::new(tcp(host)?)),
            Self::Tls(host, config) => {
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Ok(Box::new(StreamOwned::new(connection, tcp(host)?)))
            }
            Self::Command { program, args, .. } => Ok(Box::new(Spoken::start(program, args)?)),
        }
    }
}

fn tcp(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// A program that passes the connection on; ended with the value.
struct Spoken {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Spoken {
    fn start(program: &Program, args: &[String]) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        command.args(args).env_clear().envs(program.environment.iter().map(|(name, value)| (name, value)));
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn()?;
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (input, output) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        Ok(Self { child, input, output })
    }

    /// Why it ended, in its own words.
    fn complaint(&mut self) -> Option<String> {
        let mut said = Vec::new();
        self.child.stderr.take()?.take(COMPLAINT_BYTES_MAX).read_to_end(&mut said).ok()?;
        let said = String::from_utf8_lossy(&said).trim().replace(['\r', '\n'], " ");
        (!said.is_empty()).then_some(said)
    }
}

impl Read for Spoken {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.output.read(bytes)? {
            0 => self.complaint().map_or(Ok(0), |said| Err(io::Error::other(said))),
            n => Ok(n),
        }
    }
}

impl Write for Spoken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One that ended before it listened has said why.
        self.input.write(bytes).map_err(|broken| match broken.kind() {
            io::ErrorKind::BrokenPipe => self.complaint().map_or(broken, io::Error::other),
            _ => broken,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) | Self::Tls(host, _) => write!(f, "tcp://{host}"),
            Self::Command { shown, .. } => f.write_str(shown),
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
    stream.flush()?;
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
        self.stream.write_all(b"0\r\n\r\n")?;
        self.stream.flush()
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
