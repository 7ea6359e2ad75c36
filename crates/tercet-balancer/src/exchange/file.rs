//! Answers a request with a file.
//!
//! Reading is a system call on the event loop, as nginx does it: files that are served often are in the page cache. A slow
//! disk delays the requests of one thread.

use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use tercet_observe::event::BalancerEvent;
use tercet_observe::request_id;

use super::Exchange;
use super::failure::Failure;
use crate::accept_encoding::AcceptEncoding;
use crate::buffer::{LARGE, SMALL};
use crate::client::After;
use crate::files::range::{self, Part};
use crate::files::{Files, Found, OpenFile, Precondition};
use crate::http1::{Method, write};
use crate::local_reply;
use crate::path;
use crate::request_buffers::RequestBuffers;

impl Exchange<'_> {
    /// Sends the file of the request's path.
    pub(super) async fn send_file(
        &self,
        files: &Files,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        let received = buffers.client.filled();
        if !matches!(self.head.method, Method::Get | Method::Head) {
            return Err(Failure::MethodNotAllowed);
        }
        let target = self.head.path.in_buffer(received);
        let prefix = self.selected.stripped;
        // Links in the page of the route's folder are relative to it.
        if prefix > 0 && path::of_target(target).len() == prefix {
            return Err(Failure::Moved(with_slash(target)));
        }
        let stripped = path::stripped(target, prefix);
        let accepted = AcceptEncoding::parse(self.head.values_named(received, b"accept-encoding"));
        let found = match files.find(path::of_target(&stripped), &accepted)? {
            Found::File(found) => found,
            Found::Folder => return Err(Failure::Moved(with_slash(target))),
        };

        let value = |name: &[u8]| self.head.value_named(received, name);
        let mut part = Part::Whole;
        let status = match found.validators.evaluate(value) {
            Precondition::NotModified => 304,
            Precondition::Failed => 412,
            Precondition::Holds => {
                if let Some(range) = value(b"range")
                    && self.head.method == Method::Get
                    && found.validators.permit_range(value(b"if-range"))
                {
                    part = range::parse(range, found.length);
                }
                match part {
                    Part::Whole => 200,
                    Part::Bytes(..) => 206,
                    Part::Unsatisfiable => 416,
                }
            }
        };
        let keep_alive = self.keeps_client();
        self.progress.status.set(status);
        if buffers.response.capacity() == 0 {
            buffers.response = self.worker.buffer_pool.take_output();
        }
        let output = &mut buffers.response;
        output.clear();
        push_head(output, status, &found, part, files);
        write::push_line(output, request_id::HEADER.as_bytes(), &buffers.request[self.id_range.clone()]);
        self.client.push_transport_security(output);
        write::push_persistence(output, self.head.version, keep_alive);
        output.extend_from_slice(b"\r\n");
        let (start, length) = match (status, part) {
            _ if self.head.method == Method::Head => (0, 0),
            (206, Part::Bytes(first, last)) => (first, last - first + 1),
            (200, _) => (0, found.length),
            _ => (0, 0),
        };
        Ok(match self.send_part(&found, start, length, buffers).await {
            Sent::All if keep_alive => After::Keep,
            Sent::All => After::Close,
            Sent::Truncated => After::Abort,
            Sent::Nothing(error) => return Err(Failure::Unreadable(error)),
        })
    }

    /// Logs why a file cannot be read, which the client is not told.
    pub(super) fn log_unreadable(&self, error: &io::Error) {
        let (address, reason) = (self.client.address.to_string(), error.to_string());
        self.worker.shared.events.event(BalancerEvent::FileUnreadable { client: &address, reason: &reason });
    }

    /// Sends the head in `buffers.response`, and then `length` bytes of the file.
    async fn send_part(
        &self,
        found: &OpenFile,
        start: u64,
        length: u64,
        buffers: &mut RequestBuffers,
    ) -> Sent {
        let RequestBuffers { response, server: content, .. } = buffers;
        let pool = &self.worker.buffer_pool;
        if content.capacity() == 0 {
            *content = pool.take_response();
        }
        content.clear();
        // The rest of a long file is not read at all.
        let is_sent_by_kernel = length > LARGE as u64 && self.client.socket.sends_files();
        if length > (SMALL - response.len().min(SMALL)) as u64
            && content.capacity() < LARGE
            && !is_sent_by_kernel
        {
            pool.enlarge(content, 0);
        }
        // The head and the first bytes go out in one write.
        content.extend(response);
        let (mut offset, end) = (start, start + length);
        loop {
            if offset < end && content.ensure_spare(LARGE) {
                let spare = content.spare();
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(spare.len());
                let read = found.file.read_at(&mut spare[..wanted], offset);
                let count = match read.and_then(|count| if count > 0 { Ok(count) } else { Err(truncated()) })
                {
                    Ok(count) => count,
                    // The disk fails, or the file was truncated meanwhile.
                    Err(error) if self.progress.responding.get() => {
                        self.log_unreadable(&error);
                        return Sent::Truncated;
                    }
                    Err(error) => return Sent::Nothing(error),
                };
                content.advance(count);
                self.progress.count(count as u64);
                offset += count as u64;
            }
            self.progress.responding.set(true);
            let writing = self.client.write_all(content.filled(), *self.config.timeouts.send);
            if self.client.in_time(writing).await.is_err() {
                return Sent::Truncated;
            }
            content.clear();
            if offset < end && is_sent_by_kernel {
                return self.send_rest(found, offset, end).await;
            }
            if offset == end {
                return Sent::All;
            }
        }
    }

    /// Sends the file from `offset` to `end` by sendfile(2).
    async fn send_rest(&self, found: &OpenFile, mut offset: u64, end: u64) -> Sent {
        let client = self.client;
        while offset < end {
            let count = usize::try_from((end - offset).min(PIECE)).unwrap_or(usize::MAX);
            client.deadline.set(*self.config.timeouts.send);
            let socket = &client.socket;
            let sending = poll_fn(|context| socket.poll_send_file(context, &found.file, offset, count));
            match client.in_time(sending).await {
                Ok(0) => {
                    self.log_unreadable(&truncated());
                    return Sent::Truncated;
                }
                Ok(count) => {
                    self.progress.count(count as u64);
                    offset += count as u64;
                }
                Err(_) => return Sent::Truncated,
            }
        }
        Sent::All
    }
}

/// The most bytes of a file that are sent at once, so that a client that reads fast lets others have their turn.
const PIECE: u64 = 2 << 20;

/// How much of a response was sent.
enum Sent {
    All,
    Truncated,
    /// Not even the head: another response can be.
    Nothing(io::Error),
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was sent")
}

/// Appends the status line and the header lines of the file.
fn push_head(output: &mut Vec<u8>, status: u16, found: &OpenFile, part: Part, files: &Files) {
    write::push_status_line(output, status, local_reply::reason_phrase(status).as_bytes());
    write::push_line(output, b"Date", local_reply::date().as_bytes());
    let mut line = |name: &[u8], value: &[u8]| write::push_line(output, name, value);
    let OpenFile { length, validators, media_type, coding, .. } = found;
    let mut number = itoa::Buffer::new();
    let sends_content = matches!(status, 200 | 206);
    if sends_content {
        line(b"Content-Type", media_type.as_bytes());
        let sent = match part {
            Part::Bytes(first, last) => last - first + 1,
            Part::Whole | Part::Unsatisfiable => *length,
        };
        line(b"Content-Length", number.format(sent).as_bytes());
        if let Some(coding) = coding {
            line(b"Content-Encoding", coding.name().as_bytes());
        }
        line(b"Accept-Ranges", b"bytes");
    } else if status != 304 {
        line(b"Content-Length", b"0");
    }
    match part {
        Part::Bytes(first, last) => {
            line(b"Content-Range", format!("bytes {first}-{last}/{length}").as_bytes());
        }
        Part::Unsatisfiable => line(b"Content-Range", format!("bytes */{length}").as_bytes()),
        Part::Whole => {}
    }
    line(b"ETag", validators.etag.as_bytes());
    // RFC 9110 section 8.8.2.1: never later than the response.
    if let Some(modified) = validators.modified.filter(|modified| *modified <= SystemTime::now()) {
        line(b"Last-Modified", httpdate::fmt_http_date(modified).as_bytes());
    }
    line(b"Cache-Control", files.cache_control.as_bytes());
    if found.varies {
        line(b"Vary", b"Accept-Encoding");
    }
}

/// The target with `/` at the end of its path.
fn with_slash(target: &[u8]) -> String {
    let path = path::of_target(target).len();
    let (path, query) = target.split_at(path);
    format!("{}/{}", String::from_utf8_lossy(path), String::from_utf8_lossy(query))
}
