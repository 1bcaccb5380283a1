//! A WebSocket client that is no part of the house.

use crate::{House, PATIENCE};
use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// An answer that was no 101.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// What came behind them at once.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether there is such a field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.head.contains(field)
    }
}

/// A connection to a room.
pub struct WebSocket(pub WebSocketStream<TcpStream>);

impl WebSocket {
    /// Opens one.
    pub async fn open(house: &House, path: &str) -> Self {
        Self::try_open(house, path, &[]).await.unwrap_or_else(|response| {
            panic!("{path} was answered {}", response.status);
        })
    }

    /// Opens one with header fields, or gives the answer that was no 101.
    ///
    /// # Errors
    /// That answer.
    pub async fn try_open(
        house: &House,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Self, Answer> {
        let address = house.address();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, address, path, fields).await
    }

    /// Opens one, or not, when the house dies meanwhile.
    pub async fn attempt(house: &House, path: &str) -> Option<Self> {
        let address = house.address().to_owned();
        let stream = TcpStream::connect(&address).await.ok()?;
        let path = path.to_owned();
        let opened =
            tokio::spawn(async move { Self::over(stream, &address, &path, &[]).await.ok() });
        opened.await.ok().flatten()
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// The answer that was no 101.
    pub async fn over(
        stream: TcpStream,
        address: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Self, Answer> {
        let mut stream = stream;
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            if !fields.iter().any(|(given, _)| *given == name) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let more = tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await;
            assert!(more.expect("no answer").unwrap() > 0, "cut off: {read:?}");
        };
        let rest = read.split_off(end);
        let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 101 {
            return Err(Answer { status, head, body: rest });
        }
        // The proof for the key above, as RFC 6455 has it.
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        Ok(Self(
            WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await,
        ))
    }

    /// Sends a text.
    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; pings are not of interest.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match next.expect("no message came") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                next => return next,
            }
        }
    }

    /// The next message, which must be a text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// Says something and gives the next text.
    pub async fn ask(&mut self, text: &str) -> String {
        self.say(text).await;
        self.text().await
    }

    /// Reads to the end: the code of the close frame, or 1006 when there was none.
    pub async fn code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Close(None))) => return 1005,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return 1006,
            }
        }
    }

    /// Closes, and waits for the answer.
    pub async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.next().await {}
    }

    /// Whether anything comes within this time. For showing that nothing does: keep it short.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.next()).await.is_err()
    }
}
