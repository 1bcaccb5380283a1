//! Serves a published site from KV.
//!
//! Owns the meaning of a URL of the site. The answer is decided by pure functions over the index of the
//! release (`site`, `answer`); this file only reads the index and streams the bytes.
//!
//! What `guesthouse assets publish` writes into the namespace (setting `namespace`, default `assets`):
//!
//! | key | value |
//! |---|---|
//! | `current` | JSON: the id of the release that is served |
//! | `release/{id}` | JSON: the manifest, and for each path its file |
//! | `file/{sha256}` | a file's bytes; with `.br`, `.gz` or `.zst` the compressed ones |
//!
//! Switching to another release is one write of `current`. An instance keeps the index between requests
//! and looks at `current` each time, so it never serves a release that is no longer the one.

mod answer;
mod site;

pub use answer::{Ask, Content, Reply, answer};
pub use short_hash::short_hash;
pub use site::{File, Pointer, Release, Site};

use guesthouse_sdk::kv::{self, Bucket};
use guesthouse_sdk::{Body, Handler, Request, Response, config, now_ms};
use std::cell::RefCell;

/// The component.
pub struct Assets;

guesthouse_sdk::export!(Assets);

thread_local! {
    /// The namespace of the site. Which one it is does not change in the life of an instance.
    static BUCKET: RefCell<Option<Bucket>> = const { RefCell::new(None) };
    /// The index of the release, and the version of `current` that it belongs to.
    static SITE: RefCell<Option<(u64, Site)>> = const { RefCell::new(None) };
}

impl Handler for Assets {
    fn handle(request: Request) -> Response {
        let answer = BUCKET.with_borrow_mut(|kept| {
            let bucket = match kept.take() {
                Some(bucket) => bucket,
                None => open()?,
            };
            serve(&request, kept.insert(bucket))
        });
        answer.unwrap_or_else(|why| {
            eprintln!("{why}");
            Response::text(500, "The site can't be read at the moment.\n")
        })
    }
}

fn open() -> Result<Bucket, String> {
    let namespace = config::get("namespace").unwrap_or_else(|| "assets".to_owned());
    kv::open(&namespace)
        .map_err(|error| format!("the namespace `{namespace}` can't be opened: {error:?}"))
}

fn serve(request: &Request, bucket: &Bucket) -> Result<Response, String> {
    let read = |key: &str| {
        bucket.get(key).map_err(|error| format!("the key `{key}` can't be read: {error:?}"))
    };
    let Some(current) = read("current")? else {
        return Ok(Response::text(
            404,
            "Nothing is published here yet. Publish a site with `guesthouse assets publish DIR`.\n",
        ));
    };
    SITE.with_borrow_mut(|kept| {
        let fresh = kept.as_ref().is_some_and(|(version, _)| *version == current.version);
        if !fresh {
            let pointer = Pointer::parse(&current.value)?;
            let release = read(&format!("release/{}", pointer.release))?
                .ok_or_else(|| format!("the release `{}` is missing", pointer.release))?;
            let spa = config::get("spa");
            *kept = Some((current.version, Site::new(&release.value, spa)?));
        }
        let Some((_, site)) = kept else { return Err("there is no index".to_owned()) };
        if site.older.is_none() && answer::asks_for_older(site, request.path()) {
            let mut older = Vec::new();
            for id in &site.former {
                // One that was collected in the meantime is no fault.
                if let Some(release) = read(&format!("release/{id}"))? {
                    older.push(Site::new(&release.value, None)?);
                }
            }
            site.older = Some(older);
        }
        let ask = Ask {
            method: request.method(),
            path: request.path().to_owned(),
            accept_encoding: request.header("accept-encoding"),
            if_none_match: request.header("if-none-match"),
            if_modified_since: request.header("if-modified-since"),
            range: request.header("range"),
            if_range: request.header("if-range"),
            now_ms: now_ms(),
        };
        let reply = answer(site, &ask);
        send(bucket, reply)
    })
}

fn send(bucket: &Bucket, reply: Reply) -> Result<Response, String> {
    let mut response = Response::new(reply.status);
    for (name, value) in reply.headers {
        response = response.with(name, value);
    }
    Ok(match reply.content {
        Content::None => response,
        Content::Text(text) => response.body(Body::Bytes(text.into_bytes())),
        Content::File { key, offset, length } => {
            let found = bucket
                .get_range(&key, offset, Some(length))
                .map_err(|error| format!("the file `{key}` can't be read: {error:?}"))?
                .ok_or_else(|| format!("the file `{key}` of the release is missing"))?;
            response.body(Body::Stream(found.body))
        }
    })
}
