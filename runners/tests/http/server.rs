//! Small servers: one that answers by the path, the same behind TLS, and a proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;

/// A server that answers by the path, and echoes what it was sent. Ends with the test's process.
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

/// The same behind TLS, with a certificate for 127.0.0.1 that nobody has signed.
pub fn serve_tls() -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let stream = stream.unwrap();
            std::thread::spawn(move || answer(rustls::StreamOwned::new(session, stream)));
        }
    });
    address
}

/// A proxy that tells the head of each request that it gets; it serves plain ones itself, and opens tunnels.
pub fn proxy() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                let Some((head, _)) = read_request(&mut stream) else { return };
                sender.send(head.clone()).unwrap();
                let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                    let _ =
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nproxied");
                    return;
                };
                let there = TcpStream::connect(target).unwrap();
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let (mut from, mut to) = (stream.try_clone().unwrap(), there.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut &there, &mut &stream);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, receiver)
}

fn answer(mut stream: impl Read + Write) {
    let Some((head, body)) = read_request(&mut stream) else { return };
    let target = head.split_whitespace().nth(1).unwrap_or_default();
    let (status, kind, text) = match target.split('?').next().unwrap_or_default() {
        "/json" => ("200 OK", "application/json; charset=utf-8", "{\"a\": [1, 2]}".to_owned()),
        "/broken" => ("200 OK", "application/json", "{".to_owned()),
        "/missing" => ("404 Not Found", "text/plain", "nothing".to_owned()),
        "/multi" => ("207 Multi-Status", "text/plain", "m".to_owned()),
        "/moved" => ("302 Found\r\nLocation: /json", "text/plain", String::new()),
        "/elsewhere" => {
            let to = target.split_once('?').map_or("", |(_, to)| to);
            (&*format!("302 Found\r\nLocation: {to}"), "text/plain", String::new())
        }
        "/loop" => ("302 Found\r\nLocation: /loop", "text/plain", String::new()),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(30));
            ("200 OK", "text/plain", String::new())
        }
        _ => ("200 OK", "text/plain", format!("{head}\r\n\r\n{body}")),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nX-Twice: a\r\nX-Twice: b\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.write_all(reply.as_bytes());
}

fn read_request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}
