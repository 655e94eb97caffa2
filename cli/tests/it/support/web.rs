//! A web server for files: it counts what it is asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// What a server answers: status, headers, body.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// A running server. Its thread ends with the test's process.
pub struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Answers by request line and headers, which come as one text.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut head = String::new();
                let mut lines = BufReader::new(&stream);
                while lines.read_line(&mut head).is_ok_and(|n| n > 2) {}
                let (status, headers, body) = answer(&head);
                log.lock().unwrap().push(head);
                let mut reply = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
                headers.iter().for_each(|(name, value)| reply += &format!("{name}: {value}\r\n"));
                if !headers.iter().any(|(name, _)| *name == "Content-Length") {
                    reply += &format!("Content-Length: {}\r\n", body.len());
                }
                reply += "\r\n";
                let _ = (&stream).write_all(&[reply.as_bytes(), &body].concat());
            }
        });
        Self { address, asked }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often it was asked so far.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}
