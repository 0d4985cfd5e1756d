//! As much of HTTP/1.1 as the tests need: one request's head, its body in either framing, one answer.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Of one line and of the whole head; nginx's own limits are of this order.
const LONGEST_LINE: u64 = 64 * 1024;
const MOST_HEADERS: usize = 200;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    keep_alive: bool,
    framing: Framing,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(u64),
    Chunked,
}

pub(crate) type Reader<'a> = BufReader<&'a TcpStream>;

/// The next request of this connection; none when the peer closed it between two requests.
pub(crate) fn read_request(reader: &mut Reader<'_>) -> io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(protocol)) = (words.next(), words.next(), words.next())
    else {
        return Err(bad("not a request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        keep_alive: protocol == "HTTP/1.1",
        framing: Framing::Length(0),
        expects_continue: false,
    };
    loop {
        let line = read_line(reader)?.ok_or_else(|| bad("the head ends early"))?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| bad("a header without a colon"))?;
        if request.headers.len() == MOST_HEADERS {
            return Err(bad("too many headers"));
        }
        request
            .headers
            .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let Some(connection) = request.header("connection") {
        let connection = connection.to_ascii_lowercase();
        if connection.contains("close") {
            request.keep_alive = false;
        } else if connection.contains("keep-alive") {
            request.keep_alive = true;
        }
    }
    request.framing = match (
        request.header("transfer-encoding"),
        request.header("content-length"),
    ) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        (Some(_), _) => return Err(bad("a transfer coding other than chunked")),
        (None, Some(length)) => Framing::Length(
            length
                .parse()
                .map_err(|_| bad("a length that is no number"))?,
        ),
        (None, None) => Framing::Length(0),
    };
    request.expects_continue = request
        .header("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    Ok(Some(request))
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<u64> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(known, _)| *known == name)?
            .1
            .parse()
            .ok()
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Hands the body on piece by piece as it arrives, so that an upload of any size takes no memory.
    pub(crate) fn read_body(
        &self,
        reader: &mut Reader<'_>,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if self.expects_continue {
            let mut stream: &TcpStream = reader.get_ref();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match self.framing {
            Framing::Length(length) => read_exactly(reader, length, &mut each),
            Framing::Chunked => loop {
                let line = read_line(reader)?.ok_or_else(|| bad("the body ends early"))?;
                let size = line.split(';').next().unwrap_or_default().trim();
                let size =
                    u64::from_str_radix(size, 16).map_err(|_| bad("a chunk without a size"))?;
                if size == 0 {
                    while !read_line(reader)?
                        .ok_or_else(|| bad("the body ends early"))?
                        .is_empty()
                    {}
                    return Ok(());
                }
                read_exactly(reader, size, &mut each)?;
                if read_line(reader)?.as_deref() != Some("") {
                    return Err(bad("a chunk longer than it says"));
                }
            },
        }
    }
}

/// One answer, headers and body in a single write where the length is known.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    stream: &'a TcpStream,
    head: String,
    without_body: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(
        stream: &'a TcpStream,
        request: &Request,
        status: u16,
        version: &str,
        replica: &str,
        close: bool,
    ) -> Self {
        let connection = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nX-Version: {version}\r\nX-Replica: {replica}\r\nConnection: {connection}\r\n",
            reason(status)
        );
        Self {
            stream,
            head,
            without_body: request.method == "HEAD",
        }
    }

    pub(crate) fn send(mut self, body: &str) -> io::Result<()> {
        self.head
            .push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        if !self.without_body {
            self.head.push_str(body);
        }
        self.stream.write_all(self.head.as_bytes())
    }

    /// A chunked body, each piece sent as it comes.
    pub(crate) fn stream(mut self, mut next: impl FnMut() -> Option<String>) -> io::Result<()> {
        self.head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        self.stream.write_all(self.head.as_bytes())?;
        if self.without_body {
            return Ok(());
        }
        while let Some(piece) = next() {
            self.stream
                .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
        }
        self.stream.write_all(b"0\r\n\r\n")
    }
}

fn read_line(reader: &mut Reader<'_>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(bad("a line that does not end"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| bad("a line that is no text"))
}

fn read_exactly(
    reader: &mut Reader<'_>,
    mut left: u64,
    each: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    while left > 0 {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Err(bad("the body ends early"));
        }
        let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        each(&piece[..taken]);
        reader.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
