//! One request and its answer, for those who wait for a version to answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer takes a millisecond; an address that nobody has yet answers never.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Version`.
    pub(crate) version: String,
}

/// GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, io::Error>(text)
    };
    let text = timeout(ANSWER_WITHIN, exchange)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let version = text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-version")
            .then(|| value.trim().to_owned())
    });
    Ok(Answer {
        status: status.ok_or_else(|| io::Error::other("no status line"))?,
        version: version.unwrap_or_default(),
    })
}
