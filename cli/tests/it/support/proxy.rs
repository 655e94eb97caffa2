//! A forward proxy: takes http by its whole URL and https by CONNECT, and sends everything to one place.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running proxy. Its threads end with the test's process.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Whatever host is asked for, `to` gets the request.
    pub fn to(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, to) = (asked.clone(), to.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, to) = (log.clone(), to.clone());
                std::thread::spawn(move || serve(stream, &to, &log));
            }
        });
        Self { address, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts that were asked for, with a `CONNECT ` before those of https.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// One connection: the first request's head is rewritten, everything behind it goes through as it is. The other
/// side is told to close, so a connection has one request.
fn serve(client: TcpStream, to: &str, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let first = head.remove(0);
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut server = TcpStream::connect(to)?;
    if method == "CONNECT" {
        log.lock().unwrap().push(format!("CONNECT {target}"));
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        let (host, path) = target.trim_start_matches("http://").split_once('/').unwrap_or_default();
        log.lock().unwrap().push(host.to_owned());
        head.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        write!(server, "{method} /{path} HTTP/1.1\r\nConnection: close\r\n{}\r\n", head.concat())?;
    }
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    let down = std::thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let rest = reader.buffer().to_vec();
    server.write_all(&rest)?;
    let mut straight = reader.into_inner();
    let mut bytes = [0; 16 << 10];
    while let Ok(n @ 1..) = straight.read(&mut bytes) {
        server.write_all(&bytes[..n])?;
    }
    let _ = server.shutdown(Shutdown::Write);
    let _ = down.join();
    Ok(())
}
