//! Writing: uploads, deletions, restoring, publishing.
//!
//! Owns the order of the steps of an upload: what can be refused is refused before the body is read; the bytes are
//! kept; then the document changes, if its conditions still hold. A body that is cut changes nothing. Small bodies
//! are written together with the document; large ones stream into the storage without entering the plugin's memory.

use crate::context::{Context, Target};
use crate::document::{Document, Version};
use crate::fields;
use crate::kind;
use crate::read::{Conditions, key_of};
use crate::store::{Failure, Key};
use guesthouse_sdk::kv::{Condition, Expiry, PutOptions};
use guesthouse_sdk::{ReadError, Request};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;

/// Bytes of a body that is read as a whole.
const SMALL: u64 = 256 << 10;
/// Bytes of a text that is compressed, at least and at most.
const COMPRESSED: std::ops::RangeInclusive<u64> = 512..=2 << 20;
/// How hard brotli tries, of 11: beyond, the writer would wait for what few readers notice.
const BROTLI: u32 = 5;

/// What a writer is answered.
#[derive(Debug)]
pub struct Written {
    /// Whether there was no such document before.
    pub created: bool,
    /// The entity tag, without quotes.
    pub tag: String,
    /// The number of the version.
    pub number: u64,
    /// Whether anyone may read it.
    pub published: bool,
}

impl Written {
    fn of(created: bool, document: Option<&Document>) -> Result<Self, Failure> {
        let document = document.and_then(|document| Some((document, document.current()?)));
        let (document, version) =
            document.ok_or_else(|| Failure::Storage("a change left no version".to_owned()))?;
        Ok(Self {
            created,
            tag: version.tag.clone(),
            number: version.number,
            published: document.published,
        })
    }
}

fn unmet() -> Failure {
    Failure::Refused(412, "The document is not the one that was meant.".to_owned())
}

fn missing() -> Failure {
    Failure::Refused(404, "There is no such document.".to_owned())
}

/// A number that no other has: the storage's keys and the entity tags are made of it.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn tag_of(blob: &str) -> String {
    blob.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Keeps a body as the newest version of a document.
///
/// # Errors
/// Nothing has changed.
pub fn upload(
    context: &Context,
    target: &Target,
    request: &Request,
    conditions: &Conditions,
    publish: Option<bool>,
) -> Result<Written, Failure> {
    let refuse = |status: u16, text: String| Err(Failure::Refused(status, text));
    let headers = request.all_headers();
    let has = |name: &str| headers.iter().any(|(known, _)| known == name);
    if has("content-range") {
        return refuse(400, "A part of a document can't be written: send all of it.".into());
    }
    if request.header("content-encoding").is_some_and(|coding| coding != "identity") {
        return refuse(415, "Send the bytes as they are, without Content-Encoding.".into());
    }
    let mut fields = fields::of_upload(&headers).map_err(|why| Failure::Refused(400, why))?;
    let most = context.settings.max_file;
    let too_large =
        || Failure::Refused(413, format!("A document may have {most} bytes (max_file)."));
    let declared: Option<u64> =
        request.header("content-length").and_then(|length| length.trim().parse().ok());
    if declared.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let before = context.store.document(&target.key)?;
    if !conditions.hold(before.as_ref().and_then(Document::current)) {
        return Err(unmet());
    }
    context.check_room(before.is_none(), declared.unwrap_or(0))?;
    if context.settings.strict_folders {
        need_parent(context, &target.space, &target.name)?;
    }

    let blob = target.key.blob(context.now, random());
    let body = request.body();
    let mut bytes = Vec::new();
    let size = match (declared, body) {
        (_, None) => 0,
        (Some(length), Some(mut body)) if length <= SMALL => {
            let read = body.read_all(usize::try_from(length).unwrap_or(usize::MAX));
            bytes = read.map_err(|error| match error {
                ReadError::Cut => Failure::Cut,
                ReadError::TooLarge => too_large(),
            })?;
            bytes.len() as u64
        }
        (_, Some(body)) => {
            let options = PutOptions {
                metadata: Vec::new(),
                expires: Expiry::Never,
                condition: Condition::Absent,
            };
            let bucket = context.store.bucket();
            let kept = body.give(|stream| bucket.put_stream(&blob, stream, &options));
            kept.map_err(|error| match error {
                guesthouse_sdk::kv::Error::Invalid(_) => Failure::Cut,
                guesthouse_sdk::kv::Error::TooLarge(_) => Failure::TooLarge,
                error => Failure::Storage(format!("an upload: {error:?}")),
            })?;
            let info = bucket.stat(&blob).ok().flatten();
            info.map(|info| info.size)
                .ok_or_else(|| Failure::Storage("an upload that was kept is gone".to_owned()))?
        }
    };
    let streamed = size > 0 && bytes.is_empty();
    let kept =
        finish(context, target, conditions, publish, &mut fields, (blob.clone(), bytes, size));
    if kept.is_err() && streamed {
        context.store.abandon(&blob);
    }
    kept
}

/// The bytes are there: what they are, their variants, and the document.
fn finish(
    context: &Context,
    target: &Target,
    conditions: &Conditions,
    publish: Option<bool>,
    fields: &mut crate::document::Fields,
    (blob, bytes, size): (String, Vec<u8>, u64),
) -> Result<Written, Failure> {
    let most = context.settings.max_file;
    if size > most {
        return Err(Failure::Refused(413, format!("A document may have {most} bytes (max_file).")));
    }
    let streamed = size > 0 && bytes.is_empty();
    let bucket = context.store.bucket();
    let read = |length: u64| -> Result<Vec<u8>, Failure> {
        let gone = || Failure::Storage("an upload that was kept can't be read".to_owned());
        let found = bucket.get_range(&blob, 0, Some(length)).map_err(|_| gone())?;
        let stream = found.ok_or_else(gone)?.body;
        let mut all = Vec::new();
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(piece) => all.extend(piece),
                Err(guesthouse_sdk::StreamError::Closed) => return Ok(all),
                Err(_) => return Err(gone()),
            }
        }
    };
    if fields.kind.is_empty() {
        let first = if streamed { read(kind::LOOK as u64)? } else { bytes.clone() };
        fields.kind = kind::of(&target.name, &first);
    }
    let mut parts = Vec::new();
    let mut variants = BTreeMap::new();
    if kind::is_text(&fields.kind) && COMPRESSED.contains(&size) {
        let plain = if streamed { read(size)? } else { bytes.clone() };
        for (name, packed) in [("br", brotli(&plain)), ("gzip", gzip(&plain))] {
            let Some(packed) = packed else { continue };
            // Less than a tenth saved is not worth a second copy.
            if (packed.len() as u64).saturating_mul(10) < size.saturating_mul(9) {
                variants.insert(name.to_owned(), packed.len() as u64);
                parts.push((key_of(&blob, Some(name)), packed));
            }
        }
    }
    if !streamed {
        parts.push((blob.clone(), bytes));
    }
    let version = Version {
        number: 1,
        tag: tag_of(&blob),
        blob,
        size,
        at: context.now,
        by: context.who.who.clone(),
        charged: context.id.clone(),
        variants,
        of: None,
        fields: fields.clone(),
    };
    let change =
        context.store.change(&target.key, &context.who, &parts, context.now, |before| {
            let current = before.and_then(Document::current);
            if !conditions.hold(current) {
                return Err(unmet());
            }
            let mut after = match before {
                Some(document) => document.clone().with(version.clone(), context.settings.history),
                None => Document::new(target.public, version.clone()),
            };
            if let Some(publish) = publish {
                after.published = publish || target.public;
            }
            Ok(Some(after))
        })?;
    let created = change.before.as_ref().and_then(Document::current).is_none();
    Written::of(created, change.after.as_ref())
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).ok()?;
    packer.finish().ok()
}

fn brotli(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packed = Vec::new();
    let mut packer = brotli::CompressorWriter::new(&mut packed, 64 << 10, BROTLI, 22);
    packer.write_all(bytes).ok()?;
    packer.flush().ok()?;
    drop(packer);
    Some(packed)
}

/// Deletes a document; with `purge` also its history, for good.
///
/// # Errors
/// Nothing has changed.
pub fn delete(
    context: &Context,
    target: &Target,
    conditions: &Conditions,
    purge: bool,
) -> Result<(), Failure> {
    let change = context.store.change(&target.key, &context.who, &[], context.now, |before| {
        let Some(document) = before else { return Err(missing()) };
        let current = document.current();
        if current.is_none() && !purge {
            return Err(missing());
        }
        if !conditions.hold(current) {
            return Err(unmet());
        }
        if purge {
            return Ok(None);
        }
        Ok(Some(Document { deleted: Some(context.now), ..document.clone() }))
    });
    change.map(drop)
}

/// The media type of a folder that was made by hand.
pub const FOLDER: &str = "httpd/unix-directory";
/// Documents of a folder that one request deletes.
const AT_ONCE: u32 = 1000;

/// The folder of a document is there if anything is in it, or if it was made.
fn need_parent(context: &Context, space: &str, name: &str) -> Result<(), Failure> {
    match name.rsplit_once('/') {
        Some((parent, _)) if context.store.is_empty(space, &format!("{parent}/"))? => {
            let text = "The folder in which it would be is not there.".to_owned();
            Err(Failure::Refused(409, text))
        }
        _ => Ok(()),
    }
}

/// Makes a folder, for clients that do so before they write into it; nobody has to. It is a document without bytes
/// whose name ends with a slash.
///
/// # Errors
/// It is there, or a document is where it would be, or its parent is not there.
pub fn make_folder(context: &Context, target: &Target) -> Result<Written, Failure> {
    let refuse = |status: u16, text: &str| Err(Failure::Refused(status, text.to_owned()));
    let name = target.name.trim_end_matches('/');
    let is_there = |name: &str| {
        let document = context.store.document(&Key::of(&target.space, name))?;
        Ok::<_, Failure>(document.is_some_and(|document| document.current().is_some()))
    };
    if is_there(name)? {
        return refuse(405, "There is a document of this name.");
    }
    need_parent(context, &target.space, name)?;
    let blob = target.key.blob(context.now, random());
    let version = Version {
        number: 1,
        tag: tag_of(&blob),
        blob: blob.clone(),
        size: 0,
        at: context.now,
        by: context.who.who.clone(),
        charged: context.id.clone(),
        variants: BTreeMap::new(),
        of: None,
        fields: crate::document::Fields { kind: FOLDER.to_owned(), ..Default::default() },
    };
    let parts = [(blob, Vec::new())];
    let change =
        context.store.change(&target.key, &context.who, &parts, context.now, |before| {
            if before.is_some_and(|document| document.current().is_some()) {
                return Err(Failure::Refused(405, "The folder is there.".to_owned()));
            }
            Ok(Some(match before {
                Some(document) => document.clone().with(version.clone(), 1),
                None => Document::new(target.public, version.clone()),
            }))
        })?;
    Written::of(true, change.after.as_ref())
}

/// Deletes a folder with all that is in it. Each document for itself: those that are gone can be restored, one by
/// one.
///
/// # Errors
/// There is none, or it has more documents than one request deletes: those are gone then, and the rest is there.
pub fn delete_folder(context: &Context, name: &str, space: &str) -> Result<(), Failure> {
    let prefix = format!("{}/", name.trim_end_matches('/'));
    let (mut cursor, mut deleted) = (None, 0);
    loop {
        let listing = context.store.list(space, &prefix, AT_ONCE, cursor)?;
        for (name, summary) in &listing.found {
            if deleted == AT_ONCE {
                let text =
                    format!("{AT_ONCE} documents are gone, and there are more. Delete again.");
                return Err(Failure::Refused(503, text));
            }
            let target = Target {
                key: Key::of(space, name),
                name: name.clone(),
                space: space.to_owned(),
                public: false,
            };
            // A folder itself has nothing to restore.
            match delete(context, &target, &Conditions::default(), summary.kind == FOLDER) {
                Ok(()) => deleted += 1,
                Err(Failure::Refused(404, _)) => {}
                Err(failure) => return Err(failure),
            }
        }
        cursor = listing.cursor;
        if cursor.is_none() {
            return if deleted > 0 { Ok(()) } else { Err(missing()) };
        }
    }
}

/// Makes an earlier version the newest.
///
/// # Errors
/// Nothing has changed.
pub fn restore(
    context: &Context,
    target: &Target,
    conditions: &Conditions,
    number: u64,
) -> Result<Written, Failure> {
    let tag = tag_of(&target.key.blob(context.now, random()));
    let change = context.store.change(&target.key, &context.who, &[], context.now, |before| {
        let document = before.ok_or_else(missing)?;
        if !conditions.hold(document.current()) {
            return Err(unmet());
        }
        let restored = document.clone().restored(
            number,
            tag.clone(),
            context.now,
            &context.who.who,
            context.settings.history,
        );
        let none = || Failure::Refused(404, format!("The document has no version {number}."));
        restored.map(Some).ok_or_else(none)
    })?;
    let created = change.before.as_ref().and_then(Document::current).is_none();
    Written::of(created, change.after.as_ref())
}

/// Says whether anyone may read a document.
///
/// # Errors
/// Nothing has changed.
pub fn publish(
    context: &Context,
    target: &Target,
    conditions: &Conditions,
    published: bool,
) -> Result<Written, Failure> {
    let change = context.store.change(&target.key, &context.who, &[], context.now, |before| {
        let document =
            before.filter(|document| document.current().is_some()).ok_or_else(missing)?;
        if !conditions.hold(document.current()) {
            return Err(unmet());
        }
        Ok(Some(Document { published, ..document.clone() }))
    })?;
    Written::of(false, change.after.as_ref())
}
