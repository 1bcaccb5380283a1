//! Documents in the storage.
//!
//! Owns the keys, and the one way in which a document changes: read, decide, write all of it in one step under the
//! condition that nothing has changed meanwhile, else again. What counts for a quota is in the same step. The
//! dangers that shaped it: two writers of whom one is forgotten, and a crash that leaves a page without its bytes.
//!
//! | key | value |
//! |---|---|
//! | `doc/{space}/{name}` | JSON: the document; its metadata is what a listing shows |
//! | `blob/{document}/{blob}` | the bytes of a version; with `.br`, `.gzip` its variants |
//! | `quota/{caller}` | JSON: who it is, and what counts for that caller |
//! | `gone/{caller}/{when}/{document}` | the key of a document that was deleted |
//!
//! Bytes are written before the document that shows them. A crash in between leaves bytes that no document shows;
//! the next change of the document removes them.

use crate::document::{Difference, Document, compare};
use crate::place::digest;
use crate::read::key_of;
use guesthouse_sdk::kv::{
    self, Bucket, Condition, DeleteOperation, Error, Expiry, ListOptions, Operation, PutOperation,
    PutOptions,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often a change is tried again when others were faster. Each time one of them has got through.
const TRIES: usize = 200;
/// Milliseconds after which bytes that no document shows are nobody's upload any more.
const ABANDONED: u64 = 86_400_000;

/// Why a change did not happen, or a read gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// The storage failed; for the log.
    Storage(String),
    /// A value is larger than the storage takes.
    TooLarge,
    /// The body of the request was cut.
    Cut,
    /// Others were faster, again and again.
    Busy,
    /// The caller has no more room: bytes, or files.
    Full(&'static str),
    /// The name is another account's.
    Foreign,
    /// What the caller of the change decided.
    Refused(u16, String),
}

impl Failure {
    fn of(what: &str, error: &Error) -> Self {
        match error {
            Error::TooLarge(_) => Self::TooLarge,
            error => Self::Storage(format!("{what}: {error:?}")),
        }
    }
}

/// What counts for a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The subject.
    pub who: String,
    /// Who vouches for it: the first who did.
    pub issuer: Option<String>,
    /// Bytes that are kept.
    pub bytes: u64,
    /// Documents that are kept, deleted ones too.
    pub files: u64,
}

/// What one caller may keep.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// `quota_bytes`
    pub bytes: u64,
    /// `quota_files`
    pub files: u64,
}

/// The key of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The whole key.
    pub text: String,
    /// The document's part in other keys.
    pub id: String,
}

impl Key {
    /// Of the document of this name; `space` is `live` or a caller's id.
    #[must_use]
    pub fn of(space: &str, name: &str) -> Self {
        Self::read(format!("doc/{space}/{name}"))
    }

    fn read(text: String) -> Self {
        let id = digest(&["document", &text]);
        Self { text, id }
    }

    /// The place of a version's bytes.
    #[must_use]
    pub fn blob(&self, now: u64, random: u64) -> String {
        format!("blob/{}/{now:012x}{random:016x}", self.id)
    }
}

/// What a listing shows of a document without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes.
    #[serde(rename = "s")]
    pub size: u64,
    /// Milliseconds since 1970.
    #[serde(rename = "a")]
    pub at: u64,
    /// The media type.
    #[serde(rename = "t")]
    pub kind: String,
    /// The entity tag, without quotes.
    #[serde(rename = "e")]
    pub tag: String,
    /// The number of the version.
    #[serde(rename = "n")]
    pub number: u64,
    /// Whether anyone may read it.
    #[serde(rename = "p")]
    pub published: bool,
    /// Whether it was deleted.
    #[serde(rename = "d")]
    pub deleted: bool,
}

impl Summary {
    fn of(document: &Document) -> Vec<u8> {
        let Some(version) = document.versions.first() else { return Vec::new() };
        let summary = Self {
            size: version.size,
            at: version.at,
            kind: version.fields.kind.clone(),
            tag: version.tag.clone(),
            number: version.number,
            published: document.published,
            deleted: document.deleted.is_some(),
        };
        serde_json::to_vec(&summary).unwrap_or_default()
    }
}

/// The storage of the plugin.
pub struct Store {
    bucket: Bucket,
    quota: Quota,
}

/// A document, and under which version of the storage it was read.
type Loaded = Option<(Document, u64)>;

/// Accounts by caller, each with the version of the storage it was read under.
type Accounts = Vec<(String, Account, Option<u64>)>;

impl Store {
    /// Opens the namespace.
    ///
    /// # Errors
    /// It is not granted.
    pub fn open(namespace: &str, quota: Quota) -> Result<Self, Failure> {
        let bucket = kv::open(namespace)
            .map_err(|error| Failure::of(&format!("the namespace `{namespace}`"), &error))?;
        Ok(Self { bucket, quota })
    }

    /// The storage itself.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Result<Option<(T, u64)>, Failure> {
        let entry = self.bucket.get(key).map_err(|error| Failure::of(key, &error))?;
        let Some(entry) = entry else { return Ok(None) };
        let value = serde_json::from_slice(&entry.value)
            .map_err(|error| Failure::Storage(format!("the value of {key} is damaged: {error}")))?;
        Ok(Some((value, entry.version)))
    }

    /// A document.
    ///
    /// # Errors
    /// The storage failed.
    pub fn document(&self, key: &Key) -> Result<Option<Document>, Failure> {
        Ok(self.read::<Document>(&key.text)?.map(|(document, _)| document))
    }

    /// What counts for a caller.
    ///
    /// # Errors
    /// The storage failed.
    pub fn account(&self, caller: &str) -> Result<Option<Account>, Failure> {
        Ok(self.read(&format!("quota/{caller}"))?.map(|(account, _)| account))
    }

    /// Changes a document. `decide` says what becomes of it, and may be asked several times; `bytes` are written in
    /// the same step. `who` is told apart from others of the same name.
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn change(
        &self,
        key: &Key,
        who: &Account,
        bytes: &[(String, Vec<u8>)],
        now: u64,
        mut decide: impl FnMut(Option<&Document>) -> Result<Option<Document>, Failure>,
    ) -> Result<Change, Failure> {
        let mut may_forget = false;
        for _ in 0..TRIES {
            let before: Loaded = self.read(&key.text)?;
            let before = before.as_ref();
            let after = decide(before.map(|(document, _)| document))?;
            match self.try_change(key, who, bytes, now, before, after, may_forget) {
                Ok(Some(change)) => return Ok(change),
                Ok(None) => {}
                Err(Failure::Full(what)) => {
                    // What was deleted makes room first, then the history of this document.
                    if !self.purge_oldest(who, key, now)? {
                        if may_forget {
                            return Err(Failure::Full(what));
                        }
                        may_forget = true;
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy)
    }

    /// None: another was faster. With `may_forget` the document's own history makes room.
    #[allow(clippy::too_many_arguments, reason = "called in two places, with everything by name")]
    fn try_change(
        &self,
        key: &Key,
        who: &Account,
        bytes: &[(String, Vec<u8>)],
        now: u64,
        before: Option<&(Document, u64)>,
        mut after: Option<Document>,
        may_forget: bool,
    ) -> Result<Option<Change>, Failure> {
        let old = before.map(|(document, _)| document);
        let accounts = loop {
            let difference = compare(old, after.as_ref());
            match self.charge(who, &difference)? {
                Ok(accounts) => break (difference, accounts),
                Err("bytes") if may_forget && after.as_mut().is_some_and(forget_oldest) => {}
                Err(what) => return Err(Failure::Full(what)),
            }
        };
        let (difference, accounts) = accounts;
        let condition =
            |version: Option<u64>| version.map_or(Condition::Absent, Condition::VersionIs);
        let was = condition(before.map(|(_, version)| *version));
        let mut operations = vec![match &after {
            Some(document) => put(&key.text, json(document), Summary::of(document), was),
            None => delete(&key.text, was),
        }];
        for (name, account, version) in accounts {
            let key = format!("quota/{name}");
            operations.push(
                if account.bytes == 0 && account.files == 0 && account.who.is_empty() {
                    delete(&key, condition(version))
                } else {
                    put(&key, json(&account), Vec::new(), condition(version))
                },
            );
        }
        let gone = |document: Option<&Document>| {
            document.and_then(|document| Some((document.creator.clone(), document.deleted?)))
        };
        let (was_gone, is_gone) = (gone(old), gone(after.as_ref()));
        if was_gone != is_gone {
            let name = |(creator, at): (String, u64)| format!("gone/{creator}/{at:013}/{}", key.id);
            operations.extend(was_gone.map(|gone| delete(&name(gone), Condition::None)));
            operations.extend(is_gone.map(|gone| {
                put(&name(gone), key.text.clone().into_bytes(), Vec::new(), Condition::None)
            }));
        }
        for (blob, variants) in &difference.dropped {
            operations.push(delete(blob, Condition::None));
            let variants = variants.iter().map(|variant| key_of(blob, Some(variant)));
            operations.extend(variants.map(|key| delete(&key, Condition::None)));
        }
        operations.extend(
            bytes.iter().map(|(key, bytes)| put(key, bytes.clone(), Vec::new(), Condition::None)),
        );
        match self.bucket.write(&operations) {
            Ok(()) => {
                self.collect(key, after.as_ref(), now);
                Ok(Some(Change { before: old.cloned(), after }))
            }
            Err(Error::Conflict(_)) => Ok(None),
            Err(error) => Err(Failure::of(&key.text, &error)),
        }
    }

    /// The accounts after a change, each with the version of the storage it was read under; or what they lack.
    fn charge(
        &self,
        who: &Account,
        difference: &Difference,
    ) -> Result<Result<Accounts, &'static str>, Failure> {
        let id = crate::place::id_of(&who.who);
        let mut charges = difference.charges.clone();
        // Whoever writes is in the book from the first time on, under the issuer of that time.
        charges.entry(id.clone()).or_default();
        let mut accounts = Vec::new();
        for (name, (bytes, files)) in charges {
            let found: Option<(Account, u64)> = self.read(&format!("quota/{name}"))?;
            let version = found.as_ref().map(|(_, version)| *version);
            let mut account = found.map(|(account, _)| account).unwrap_or_default();
            if name == id {
                if version.is_some() && account.issuer != who.issuer {
                    return Err(Failure::Foreign);
                }
                account.who.clone_from(&who.who);
                account.issuer.clone_from(&who.issuer);
            }
            account.bytes = account.bytes.saturating_add_signed(bytes);
            account.files = account.files.saturating_add_signed(files);
            if bytes > 0 && account.bytes > self.quota.bytes {
                return Ok(Err("bytes"));
            }
            if files > 0 && account.files > self.quota.files {
                return Ok(Err("files"));
            }
            if (bytes, files) != (0, 0) || version.is_none() {
                accounts.push((name, account, version));
            }
        }
        Ok(Ok(accounts))
    }

    /// Removes for good what the caller deleted longest ago, but not `except`. False: there is nothing.
    fn purge_oldest(&self, who: &Account, except: &Key, now: u64) -> Result<bool, Failure> {
        let prefix = format!("gone/{}/", crate::place::id_of(&who.who));
        let options = ListOptions { prefix: prefix.clone(), limit: 2, cursor: None };
        let page = self.bucket.list(&options).map_err(|error| Failure::of(&prefix, &error))?;
        for found in page.keys {
            let entry = self.bucket.get(&found.key).map_err(|e| Failure::of(&found.key, &e))?;
            let Some(entry) = entry else { continue };
            let Ok(text) = String::from_utf8(entry.value) else { continue };
            let key = Key::read(text);
            if key == *except {
                continue;
            }
            let before: Loaded = self.read(&key.text)?;
            let Some(before) = before.filter(|(document, _)| document.deleted.is_some()) else {
                continue;
            };
            return Ok(self.try_change(&key, who, &[], now, Some(&before), None, false)?.is_some());
        }
        Ok(false)
    }

    /// Removes bytes that no document shows: uploads that a crash has cut off from their document.
    fn collect(&self, key: &Key, document: Option<&Document>, now: u64) {
        let prefix = format!("blob/{}/", key.id);
        let options = ListOptions { prefix: prefix.clone(), limit: 0, cursor: None };
        let Ok(page) = self.bucket.list(&options) else { return };
        let shown = |blob: &str| {
            document
                .iter()
                .flat_map(|document| &document.versions)
                .any(|version| version.blob == blob)
        };
        for found in page.keys {
            let name = found.key.strip_prefix(&prefix).unwrap_or_default();
            let began = name.get(..12).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            let blob = found.key.split('.').next().unwrap_or_default();
            let old = began.is_none_or(|began| began.saturating_add(ABANDONED) < now);
            if old
                && !shown(blob)
                && let Err(error) = self.bucket.delete(&found.key, Condition::None)
            {
                eprintln!("bytes that no document shows were not removed: {error:?}");
            }
        }
    }

    /// Removes bytes that were written for a change that did not happen.
    pub fn abandon(&self, blob: &str) {
        if let Err(error) = self.bucket.delete(blob, Condition::None) {
            eprintln!("the bytes of a refused upload were not removed: {error:?}");
        }
    }
}

/// What a change did.
#[derive(Clone, Debug)]
pub struct Change {
    /// The document before.
    pub before: Option<Document>,
    /// And after.
    pub after: Option<Document>,
}

/// Takes the oldest version out of a history; false: only one is left.
fn forget_oldest(document: &mut Document) -> bool {
    document.versions.len() > 1 && document.versions.pop().is_some()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn put(key: &str, value: Vec<u8>, metadata: Vec<u8>, condition: Condition) -> Operation {
    let options = PutOptions { metadata, expires: Expiry::Never, condition };
    Operation::Put(PutOperation { key: key.to_owned(), value, options })
}

fn delete(key: &str, condition: Condition) -> Operation {
    Operation::Delete(DeleteOperation { key: key.to_owned(), condition })
}

/// The documents of a space, a page of them.
#[derive(Debug)]
pub struct Listing {
    /// Names and what is known of them.
    pub found: BTreeMap<String, Summary>,
    /// Where the next page begins.
    pub cursor: Option<String>,
}

impl Store {
    /// Whether no document's name in a space begins with this.
    ///
    /// # Errors
    /// The storage failed.
    pub fn is_empty(&self, space: &str, prefix: &str) -> Result<bool, Failure> {
        let mut cursor = None;
        loop {
            let listing = self.list(space, prefix, 0, cursor)?;
            if !listing.found.is_empty() {
                return Ok(false);
            }
            cursor = listing.cursor;
            if cursor.is_none() {
                return Ok(true);
            }
        }
    }

    /// The documents of a space whose names begin with this. Deleted ones are left out, so that a page may have
    /// fewer than `limit`.
    ///
    /// # Errors
    /// The storage failed, or the cursor is none of its own.
    pub fn list(
        &self,
        space: &str,
        prefix: &str,
        limit: u32,
        cursor: Option<String>,
    ) -> Result<Listing, Failure> {
        let root = format!("doc/{space}/");
        let options = ListOptions { prefix: format!("{root}{prefix}"), limit, cursor };
        let page = self.bucket.list(&options).map_err(|error| match error {
            Error::Invalid(_) => {
                Failure::Refused(400, "The cursor is none of this listing.".into())
            }
            error => Failure::of(&root, &error),
        })?;
        let summary = |found: &kv::KeyInfo| -> Option<(String, Summary)> {
            let name = found.key.strip_prefix(&root)?.to_owned();
            Some((name, serde_json::from_slice(&found.info.metadata).ok()?))
        };
        let found = page.keys.iter().filter_map(summary).filter(|(_, s)| !s.deleted).collect();
        Ok(Listing { found, cursor: page.cursor })
    }
}
