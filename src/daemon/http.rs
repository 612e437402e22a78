//! Just enough HTTP/1.1 for a Prometheus scrape: bytes in, one whole response
//! out, and the connection is closed after it. No socket here.

/// A request longer than this is refused; a scraper's has a few hundred bytes.
pub const REQUEST_LEN_MAX: usize = 8192;

/// More header lines than any scraper or browser sends.
const HEADERS_MAX: usize = 64;

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers what has been received so far of a request: none while more must be
/// read, else the response to send before closing. `render` is called for
/// `GET /metrics` and `HEAD /metrics` alone.
pub fn answer(received: &[u8], render: impl FnOnce() -> String) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if received.len() < REQUEST_LEN_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(problem("431 Request Header Fields Too Large", ""));
        }
        Err(_) => return Some(problem("400 Bad Request", "")),
    }
    let target = request.path.unwrap_or("");
    let path = target.split('?').next().unwrap_or("");
    Some(match (request.method.unwrap_or(""), path) {
        ("GET", "/metrics") => response("200 OK", METRICS_TYPE, "", &render(), true),
        ("HEAD", "/metrics") => response("200 OK", METRICS_TYPE, "", &render(), false),
        ("GET", _) => problem("404 Not Found", ""),
        ("HEAD", _) => response("404 Not Found", "text/plain", "", "", false),
        _ => problem("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
    })
}

fn problem(status: &str, extra: &str) -> Vec<u8> {
    let body = format!("{status}\nptntp's metrics are at /metrics\n");
    response(status, "text/plain; charset=utf-8", extra, &body, true)
}

fn response(status: &str, kind: &str, extra: &str, body: &str, send_body: bool) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n",
        body.len()
    );
    if send_body {
        text.push_str(body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> Option<String> {
        answer(request.as_bytes(), || "up 1\n".to_owned())
            .map(|reply| String::from_utf8(reply).unwrap())
    }

    #[test]
    fn a_scrape_gets_the_metrics() {
        let reply = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.contains("Content-Type: text/plain; version=0.0.4"));
        assert!(reply.contains("Content-Length: 5\r\n"));
        assert!(reply.ends_with("\r\n\r\nup 1\n"));
        assert!(
            ask("GET /metrics?x=1 HTTP/1.0\r\n\r\n")
                .unwrap()
                .contains("200")
        );
    }

    #[test]
    fn a_head_request_gets_the_length_alone() {
        let reply = ask("HEAD /metrics HTTP/1.1\r\n\r\n").unwrap();
        assert!(reply.contains("Content-Length: 5\r\n"));
        assert!(reply.ends_with("\r\n\r\n"));
    }

    #[test]
    fn everything_else_is_an_error_with_a_hint() {
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("HEAD / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\u{1}\u{2}garbage\r\n\r\n", "400"),
        ] {
            let reply = ask(request).unwrap();
            assert!(
                reply.starts_with(&format!("HTTP/1.1 {status}")),
                "{request:?}: {reply}"
            );
        }
        let mut many = "GET /metrics HTTP/1.1\r\n".to_owned();
        many.extend((0..100).map(|n| format!("H{n}: x\r\n")));
        assert!(ask(&many).unwrap().starts_with("HTTP/1.1 431"));
    }

    #[test]
    fn a_request_may_come_in_pieces_but_not_for_ever() {
        let whole = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(ask(&whole[..length]), None, "{length}");
        }
        let endless = format!("GET /{} ", "a".repeat(REQUEST_LEN_MAX));
        assert!(ask(&endless).unwrap().starts_with("HTTP/1.1 431"));
    }
}
