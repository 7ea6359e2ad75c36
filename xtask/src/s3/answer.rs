//! The operations of the S3 API that pgBackRest uses, by its reference: GetObject, HeadObject, PutObject, DeleteObject,
//! DeleteObjects, ListObjectsV2, and uploads in parts.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind};

use ring::digest;

use super::Service;
use super::body::{elements, escaped};
use super::request::{Request, Response, decoded};
use super::signature::hex;
use super::store::{Entry, Object};

impl Service {
    /// Carries out a request, if it is signed.
    pub(super) fn answer(&self, request: &Request) -> Response {
        if let Err(refusal) = self.credentials.check(request) {
            return refusal;
        }
        if let Some(fault) = self.fault.instead_of(request) {
            return fault;
        }
        let path = request.path.strip_prefix('/').unwrap_or_default();
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if bucket != self.bucket {
            return Response::error(404, "NoSuchBucket", &format!("there is only {}", self.bucket));
        }
        self.operation(request, &decoded(key)).unwrap_or_else(|error| refusal(&error))
    }

    fn operation(&self, request: &Request, key: &str) -> Result<Response, Error> {
        let upload = request.parameter("uploadId");
        match (request.method.as_str(), upload) {
            ("GET", None) if key.is_empty() => self.list(request),
            ("POST", None) if key.is_empty() && request.parameter("delete").is_some() => {
                let keys = elements(&request.body, "Key");
                keys.iter().try_for_each(|key| self.store.delete(key))?;
                Ok(Response::new(200, "<DeleteResult></DeleteResult>"))
            }
            ("HEAD", None) => Ok(about(&self.store.about(key)?, Vec::new())),
            ("GET", None) => {
                let object = about(&self.store.about(key)?, self.store.get(key)?);
                let Some(range) = request.header("range") else { return Ok(object) };
                let out_of_range = || Response::error(416, "InvalidRange", "the object has no such range");
                Ok(part(object, range).unwrap_or_else(out_of_range))
            }
            ("PUT", None) => {
                self.store.put(key, &request.body)?;
                Ok(tagged(&request.body))
            }
            ("DELETE", None) => {
                self.store.delete(key)?;
                Ok(Response::new(204, ""))
            }
            ("POST", None) if request.parameter("uploads").is_some() => {
                let id = self.store.begin(key)?;
                let key = escaped(key);
                Ok(Response::new(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                ))
            }
            ("PUT", Some(id)) => {
                let number = request.parameter("partNumber").and_then(|it| it.parse().ok());
                self.store.put_part(id, key, number.ok_or(ErrorKind::InvalidInput)?, &request.body)?;
                Ok(tagged(&request.body))
            }
            ("POST", Some(id)) => {
                let parts = elements(&request.body, "PartNumber");
                let parts: Option<Vec<u32>> = parts.iter().map(|it| it.parse().ok()).collect();
                self.store.complete(id, key, &parts.ok_or(ErrorKind::InvalidInput)?)?;
                let etag = etag(request.body.as_slice());
                Ok(Response::new(
                    200,
                    format!(
                        "<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
                    ),
                ))
            }
            ("DELETE", Some(id)) => {
                self.store.abort(id, key)?;
                Ok(Response::new(204, ""))
            }
            _ => Ok(Response::error(501, "NotImplemented", "pgBackRest does not use this")),
        }
    }

    /// ListObjectsV2: a page of the keys after the continuation token, which is the last name of the page before.
    fn list(&self, request: &Request) -> Result<Response, Error> {
        if request.parameter("list-type") != Some("2") {
            return Ok(Response::error(501, "NotImplemented", "only version 2 of a list"));
        }
        let parameter = |name| request.parameter(name).unwrap_or_default();
        let after = parameter("continuation-token");
        let page = request.parameter("max-keys").and_then(|it| it.parse().ok()).unwrap_or(self.page);
        let entries = self.store.list(parameter("prefix"), parameter("delimiter"))?;
        let mut left = entries.iter().filter(|entry| after.is_empty() || entry.name() > after).peekable();
        let mut text = String::from("<ListBucketResult>");
        let mut last = "";
        for entry in left.by_ref().take(page.min(self.page)) {
            last = entry.name();
            // Writing to a String cannot fail.
            let _ = match entry {
                Entry::Prefix(prefix) => {
                    write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(prefix))
                }
                Entry::Object(object) => {
                    let time = jiff::Timestamp::try_from(object.modified).unwrap_or_default();
                    let time = time.strftime("%Y-%m-%dT%H:%M:%S.000Z");
                    let (key, size) = (escaped(&object.key), object.size);
                    write!(
                        text,
                        "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><Size>{size}</Size></Contents>"
                    )
                }
            };
        }
        let truncated = left.peek().is_some();
        if truncated {
            text += &format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(last));
        }
        text += &format!("<IsTruncated>{truncated}</IsTruncated></ListBucketResult>");
        Ok(Response::new(200, text))
    }
}

fn about(object: &Object, content: Vec<u8>) -> Response {
    let mut response = Response::new(200, content);
    response.headers.push(("last-modified", httpdate::fmt_http_date(object.modified)));
    response.length = object.size;
    response
}

/// A range of an object (RFC 9110 section 14.2): `bytes=FIRST-LAST` or `bytes=FIRST-`.
fn part(mut object: Response, range: &str) -> Option<Response> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = if last.is_empty() { object.body.len() } else { last.parse::<usize>().ok()? + 1 };
    let size = object.body.len();
    let end = end.min(size);
    object.body = object.body.get(first..end)?.to_vec();
    object.length = object.body.len() as u64;
    object.status = 206;
    object.headers.push(("content-range", format!("bytes {first}-{}/{size}", end.saturating_sub(1))));
    Some(object)
}

fn tagged(body: &[u8]) -> Response {
    let mut response = Response::new(200, "");
    response.headers.push(("etag", etag(body)));
    response
}

/// Any text that differs with the content: clients must not read more into it.
fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hex(&digest::digest(&digest::SHA256, body).as_ref()[..16]))
}

fn refusal(error: &Error) -> Response {
    match error.kind() {
        ErrorKind::NotFound => Response::error(404, "NoSuchKey", "there is no such object or upload"),
        ErrorKind::InvalidInput => Response::error(400, "InvalidArgument", "not a key or number for here"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Response::error(507, "InsufficientStorage", &error.to_string())
        }
        _ => Response::error(500, "InternalError", &error.to_string()),
    }
}
