//! A document: its versions, and what becomes of them.
//!
//! Owns the history: at most so many versions, the newest first; a deletion that can be taken back; a restored
//! version that shares its bytes with the one it came from. All of it is a pure function from one document to
//! the next. The danger that shaped it: bytes that are deleted while a version still shows them.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Header fields that an upload may bring along and a reader gets back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fields {
    /// `Content-Type`
    #[serde(rename = "t")]
    pub kind: String,
    /// `Cache-Control`
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// `Content-Disposition`
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
    /// `Content-Language`
    #[serde(rename = "l", skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// `X-Meta-…`, by the whole name in lower case.
    #[serde(rename = "m", skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// One version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts from 1.
    pub number: u64,
    /// The entity tag, without quotes: no two versions of anything have the same.
    pub tag: String,
    /// Where the bytes are.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The subject of whoever wrote it.
    pub by: String,
    /// Whose quota the bytes count for.
    pub charged: String,
    /// Compressed variants and their bytes: `br`, `gzip`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, u64>,
    /// The number of the version that it was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// What came along.
    #[serde(flatten)]
    pub fields: Fields,
}

impl Version {
    /// All bytes that are kept for it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.variants.values().fold(self.size, |sum, size| sum.saturating_add(*size))
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Whose quota the document counts for.
    pub creator: String,
    /// Whether anyone may read it.
    pub published: bool,
    /// Milliseconds since 1970 at which it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
    /// The newest first; never empty.
    pub versions: Vec<Version>,
}

impl Document {
    /// A document with its first version.
    #[must_use]
    pub fn new(published: bool, first: Version) -> Self {
        Self { creator: first.charged.clone(), published, deleted: None, versions: vec![first] }
    }

    /// What is read, unless it was deleted.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.first().filter(|_| self.deleted.is_none())
    }

    /// A version by its number.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The number of the next version.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.versions.first().map_or(1, |version| version.number.saturating_add(1))
    }

    /// With a new version in front, and at most so many in all.
    #[must_use]
    pub fn with(mut self, mut version: Version, most: usize) -> Self {
        version.number = self.next();
        self.versions.insert(0, version);
        self.versions.truncate(most.max(1));
        self.deleted = None;
        self
    }

    /// With an earlier version as the newest, under a tag of its own.
    #[must_use]
    pub fn restored(
        self,
        number: u64,
        tag: String,
        at: u64,
        by: &str,
        most: usize,
    ) -> Option<Self> {
        let old = self.find(number)?.clone();
        let version = Version { tag, at, by: by.to_owned(), of: Some(number), ..old };
        Some(self.with(version, most))
    }

    /// The places of bytes, each with its version; every place once.
    fn blobs(&self) -> BTreeMap<&str, &Version> {
        self.versions.iter().rev().map(|version| (version.blob.as_str(), version)).collect()
    }
}

/// What differs between a document before and after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Places of bytes that nobody shows any more, with the names of their variants.
    pub dropped: Vec<(String, Vec<String>)>,
    /// By caller: bytes and documents that count for them from now on, or no more.
    pub charges: BTreeMap<String, (i64, i64)>,
}

/// Compares.
#[must_use]
pub fn compare(before: Option<&Document>, after: Option<&Document>) -> Difference {
    let none = BTreeMap::new();
    let old = before.map_or(none.clone(), Document::blobs);
    let new = after.map_or(none, Document::blobs);
    let mut difference = Difference::default();
    let all: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    for blob in all {
        let (version, sign) = match (old.get(blob), new.get(blob)) {
            (Some(_), Some(_)) | (None, None) => continue,
            (Some(gone), None) => {
                let variants = gone.variants.keys().cloned().collect();
                difference.dropped.push((blob.to_owned(), variants));
                (gone, -1)
            }
            (None, Some(come)) => (come, 1),
        };
        let bytes = i64::try_from(version.bytes()).unwrap_or(i64::MAX);
        difference.charges.entry(version.charged.clone()).or_default().0 += sign * bytes;
    }
    for (document, sign) in [(before, -1), (after, 1)] {
        if let Some(document) = document {
            difference.charges.entry(document.creator.clone()).or_default().1 += sign;
        }
    }
    difference.charges.retain(|_, charge| *charge != (0, 0));
    difference
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(blob: &str, size: u64, charged: &str) -> Version {
        Version {
            number: 1,
            tag: blob.to_owned(),
            blob: blob.to_owned(),
            size,
            at: 0,
            by: charged.to_owned(),
            charged: charged.to_owned(),
            variants: BTreeMap::new(),
            of: None,
            fields: Fields::default(),
        }
    }

    #[test]
    fn a_document_is_read_again_as_it_was_written() {
        let mut first = version("b1", 3, "ann");
        first.fields.meta.insert("x-meta-a".into(), "1".into());
        first.variants.insert("br".into(), 2);
        let document = Document::new(true, first).with(version("b2", 4, "bob"), 20);
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    }

    #[test]
    fn the_newest_are_kept_and_numbers_go_on() {
        let mut document = Document::new(false, version("b1", 1, "ann"));
        for n in 2..=30 {
            document = document.with(version(&format!("b{n}"), 1, "ann"), 20);
        }
        let numbers: Vec<u64> = document.versions.iter().map(|v| v.number).collect();
        assert_eq!(numbers, (11..=30).rev().collect::<Vec<_>>());
        assert!(document.find(10).is_none());
    }

    #[test]
    fn restoring_shares_the_bytes_and_charges_nobody() {
        let one = Document::new(false, version("b1", 10, "ann")).with(version("b2", 5, "ann"), 20);
        let two = one.clone().restored(1, "t3".into(), 9, "bob", 20).unwrap();
        let now = two.current().unwrap();
        assert_eq!(
            (now.number, now.blob.as_str(), now.tag.as_str(), now.of),
            (3, "b1", "t3", Some(1))
        );
        assert_eq!(compare(Some(&one), Some(&two)), Difference::default());
        // The old one falls out of the history: its bytes are still shown.
        let short = two.clone().with(version("b4", 1, "ann"), 2);
        let difference = compare(Some(&two), Some(&short));
        assert_eq!(difference.dropped, [("b2".to_owned(), vec![])]);
        assert_eq!(difference.charges["ann"], (1 - 5, 0));
    }

    #[test]
    fn a_deleted_document_is_not_read_and_comes_back() {
        let mut document = Document::new(false, version("b1", 10, "ann"));
        document.deleted = Some(5);
        assert!(document.current().is_none());
        let back = document.restored(1, "t".into(), 6, "ann", 20).unwrap();
        assert_eq!(back.current().unwrap().number, 2);
    }

    proptest! {
        /// However documents are written, restored, deleted and purged: what is charged is what is kept.
        #[test]
        fn charges_add_up_to_what_is_kept(steps in proptest::collection::vec((0_u8..4, 1_u64..9, 0_u64..3), 1..60)) {
            let mut document: Option<Document> = None;
            let (mut bytes, mut files) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, i64>::new());
            let mut kept = BTreeSet::new();
            for (at, (what, size, who)) in steps.into_iter().enumerate() {
                let who = format!("u{who}");
                let blob = format!("b{at}");
                let before = document.clone();
                document = match (what, document) {
                    (0, None) => Some(Document::new(false, version(&blob, size, &who))),
                    (0, Some(document)) => Some(document.with(version(&blob, size, &who), 3)),
                    (1, Some(document)) => {
                        let oldest = document.versions.last().unwrap().number;
                        document.restored(oldest, blob.clone(), 0, &who, 3)
                    }
                    (2, _) => None,
                    (3, Some(mut document)) => { document.deleted = Some(1); Some(document) }
                    (_, document) => document,
                };
                let difference = compare(before.as_ref(), document.as_ref());
                if let Some(document) = &document {
                    kept.extend(document.versions.iter().map(|v| v.blob.clone()));
                }
                for (blob, _) in &difference.dropped {
                    prop_assert!(kept.remove(blob));
                }
                for (who, (b, f)) in difference.charges {
                    *bytes.entry(who.clone()).or_default() += b;
                    *files.entry(who).or_default() += f;
                }
                // Nothing that is shown was dropped, and nothing that is not shown is kept.
                let shown: BTreeSet<String> = document.iter().flat_map(|d| &d.versions).map(|v| v.blob.clone()).collect();
                prop_assert_eq!(&shown, &kept);
                let sum: i64 = document.iter().flat_map(Document::blobs).map(|(_, v)| i64::try_from(v.size).unwrap()).sum();
                prop_assert_eq!(bytes.values().sum::<i64>(), sum);
                prop_assert_eq!(files.values().sum::<i64>(), i64::from(document.is_some()));
                prop_assert!(bytes.values().all(|b| *b >= 0));
            }
        }
    }
}
