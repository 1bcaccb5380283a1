//! The host side of the resources that guests hold.

/// A granted namespace, as a guest holds it (`guesthouse:kv` and both drafts of `wasi:keyvalue`).
#[derive(Clone, Debug)]
pub struct Namespace {
    /// The name under which the storage knows it.
    pub name: std::sync::Arc<str>,
}

/// A granted secret; the text is looked up when the guest asks to reveal it.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The name of the secret, never its text.
    pub name: String,
}

/// A compare-and-swap handle of `wasi:keyvalue@0.2.0-draft2`.
#[derive(Clone, Debug)]
pub struct Cas {
    /// The namespace.
    pub namespace: std::sync::Arc<str>,
    /// The key.
    pub key: String,
    /// The version of the key when the handle was made; none when it did not exist.
    pub version: Option<u64>,
    /// The value at that version.
    pub value: Option<bytes::Bytes>,
}

/// Tokens of a budget that are set aside.
pub struct Reservation {
    /// Spends so many in place of what was reserved; taken by the first call.
    pub settle: Option<Box<dyn FnOnce(u64) + Send>>,
}
