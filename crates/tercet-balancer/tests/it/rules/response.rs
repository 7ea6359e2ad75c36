//! Responses to GET. An invalid response is a 502.

use super::Rule;
use super::Verdict::{Accepted, Refused};

pub(crate) const RESPONSES: &[Rule] = &[
    Rule {
        title: "RFC 9112 section 4: version SP three digits SP reason",
        cases: &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Accepted),
            (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", Accepted),
            (b"HTTP/1.1 200 caf\xe9\r\nContent-Length: 0\r\n\r\n", Accepted),
            (b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 \x1b[31m\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9112 section 2.3: a response starts with HTTP/1.0 or HTTP/1.1",
        cases: &[
            (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"<html>hello</html>\r\n\r\n", Refused(502)),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9112 sections 2.2, 5: the header section as in a request",
        cases: &[
            (b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nX\x00: a\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nX y: a\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nConnection: a b\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9112 section 6.3: exactly one framing",
        cases: &[
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Accepted),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok", Refused(502)),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Refused(502),
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Refused(502)),
            (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9110 sections 6.4.1, 15.3.5, 15.4.5: 204 and 304 have no body",
        cases: &[
            (b"HTTP/1.1 204 No Content\r\n\r\n", Accepted),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Accepted),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", Accepted),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9110 section 15.2: interim responses precede the final one, and not in HTTP/1.0",
        cases: &[
            (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Accepted),
            (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok", Refused(502)),
            (b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(502)),
            (b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n", Refused(502)),
        ],
    },
    Rule {
        title: "RFC 9110 section 15.2.2: no unsolicited protocol switch",
        cases: &[
            (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Refused(502)),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Refused(502)),
        ],
    },
];
