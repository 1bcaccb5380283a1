//! A room at work.
//!
//! Owns the session, wherever a change of it comes from: it is kept, told to everyone else in the form that each
//! understands, and looked at again later (JavaScript, history, compaction). The instance's memory is a cache:
//! when an event fails, it is dropped, and the next one reads what is kept. So no door can show what is not kept,
//! and none can change the code without the others seeing it.

use crate::document::{Document, Refused};
use crate::keep::{self, Jobs, Meta};
use crate::session::{Field, Origin, Session};
use crate::settings::Settings;
use crate::{delta, structs, wire};
use guesthouse_sdk::peers;
use guesthouse_sdk::room::{
    Audience, ConnId, Delivery, Error, Message, Principal, alarms, beginning_with, connections,
    self_room, storage,
};
use serde_json::{Value, json};
use std::cell::RefCell;

/// The tag of connections that speak JSON.
pub const JSON: &str = "json";
/// The tag of connections that speak Yjs.
pub const YJS: &str = "yjs";

/// How long after an edit JavaScript is made of the code, at the latest.
const TRANSPILE_AFTER: u64 = 200;
/// How long after an edit the session goes into the history, at the latest.
const SAVE_AFTER: u64 = 30_000;
/// How long after nobody could make JavaScript it is tried again: at first, when the plugin may only be starting, and
/// twice as long each time, up to the most.
const AGAIN_AFTER: u64 = 2000;
const AGAIN_AT_MOST: u64 = 600_000;
/// Updates since the last compaction: beyond, it is time. Their keys fit into one transaction.
const MOST_UPDATES: u64 = 4000;
/// Bytes of them, or those of the document if it has more.
const MOST_LOG: usize = 256 << 10;

/// Why something was not done.
#[derive(Debug)]
pub enum Fail {
    /// The room could not; for the operator. What the event did is undone, and the room's memory is dropped.
    Broken(String),
    /// It may not be; for the client. Nothing was done.
    Refused(Refusal),
}

/// A "no" for a client.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// As HTTP has it.
    pub status: u16,
    /// A sentence.
    pub message: String,
}

/// Makes a refusal.
pub fn refuse(status: u16, message: impl Into<String>) -> Fail {
    Fail::Refused(Refusal { status, message: message.into() })
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What comes of an event.
pub type Done<T> = Result<T, Fail>;

/// The updates of the document since it was compacted.
#[derive(Debug, Default)]
struct Log {
    next: u64,
    entries: u64,
    bytes: usize,
    snapshot: usize,
    /// Structs of all of them, as they are written; what follows another becomes one with it later.
    structs: usize,
}

impl Log {
    fn of(snapshot: &[u8]) -> Self {
        let structs = structs::count(snapshot).unwrap_or_default();
        Self { snapshot: snapshot.len(), structs, ..Self::default() }
    }

    fn add(&mut self, update: &[u8]) {
        self.entries += 1;
        self.bytes += update.len();
        self.structs += structs::count(update).unwrap_or_default();
    }
}

/// The room in memory.
pub struct Live {
    /// What the operator has set.
    pub settings: Settings,
    /// What is kept beside the texts.
    pub meta: Meta,
    document: Document,
    session: Session,
    /// Whether `session.code` is what the document says.
    fresh: bool,
    /// Whether anything is kept of the room.
    exists: bool,
    jobs: Jobs,
    log: Log,
    /// Whether the document has something that may not be kept.
    spoilt: bool,
}

thread_local! {
    static LIVE: RefCell<Option<Live>> = const { RefCell::new(None) };
}

/// Does something with the room. What fails with [`Fail::Broken`] has to end its event, so that it is undone.
///
/// # Errors
/// What `act` says, or the room can't be read.
pub fn with<T>(act: impl FnOnce(&mut Live) -> Done<T>) -> Done<T> {
    let known = LIVE.with(|live| live.borrow_mut().take());
    let mut live = match known {
        Some(live) => live,
        None => Live::load()?,
    };
    let done = act(&mut live);
    if !matches!(done, Err(Fail::Broken(_))) && !live.spoilt {
        LIVE.with(|cell| *cell.borrow_mut() = Some(live));
    }
    done
}

/// A number that nobody can foresee, for the room's own client: rooms of the same name, one made after the
/// other was deleted, must not edit as the same one.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let number = RandomState::new().build_hasher().finish();
    u32::try_from(number >> 33).unwrap_or_default().max(1)
}

impl Live {
    fn load() -> Done<Self> {
        let settings = Settings::read();
        let name = self_room::name();
        let Some(meta) = keep::get_json::<Meta>(b"m")? else {
            let session = first(&settings, &name)?;
            return Ok(Self::new(settings, session));
        };
        let mut document = Document::new(meta.client);
        let broken =
            |_: Refused| Fail::Broken("the document that is kept can't be read".to_owned());
        let snapshot = keep::get_blob(b"s")?;
        if !snapshot.is_empty() {
            document.load(&snapshot).map_err(broken)?;
        }
        let mut log = Log { next: 1, ..Log::of(&snapshot) };
        let mut within = beginning_with(b"u");
        loop {
            let page = storage::scan(&within, 1000, false)?;
            let Some(last) = page.last() else { break };
            within.start = [last.key.as_slice(), &[0]].concat();
            let number = last.key.get(1..).and_then(|bytes| bytes.try_into().ok());
            log.next = number.map_or(log.next, |bytes| u64::from_be_bytes(bytes) + 1);
            for pair in &page {
                document.load(&pair.value).map_err(broken)?;
                log.add(&pair.value);
            }
        }
        let mut session = Session { code_space: name, ..Session::default() };
        for field in [Field::Html, Field::Css, Field::Transpiled] {
            let bytes = keep::get_blob(&field_key(field))?;
            *session.get_mut(field) = String::from_utf8_lossy(&bytes).into_owned();
        }
        let jobs = keep::get_json(b"j")?.unwrap_or_default();
        Ok(Self {
            settings,
            meta,
            document,
            session,
            fresh: false,
            exists: true,
            jobs,
            log,
            spoilt: false,
        })
    }

    /// A room of which nothing is kept yet.
    fn new(settings: Settings, session: Session) -> Self {
        let meta = Meta { client: random(), created_at: self_room::now(), ..Meta::default() };
        let document = Document::new(meta.client);
        let log = Log { next: 1, ..Log::default() };
        let jobs = Jobs::default();
        Self {
            settings,
            meta,
            document,
            session,
            fresh: true,
            exists: false,
            jobs,
            log,
            spoilt: false,
        }
    }

    /// Whether anything is kept of the room.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Keeps the room from here on. The first whom the house knows owns it.
    ///
    /// # Errors
    /// The storage does not take it.
    pub fn create(&mut self, by: Option<&Principal>) -> Done<()> {
        if self.exists {
            return Ok(());
        }
        self.meta.rights.owner = by.map(|principal| principal.subject.clone());
        if let Some(update) = self.document.edit(&self.session.code) {
            self.append(&update)?;
        }
        for field in [Field::Html, Field::Css, Field::Transpiled] {
            keep::put_blob(&field_key(field), self.session.get(field).as_bytes())?;
        }
        self.exists = true;
        self.keep_meta()?;
        if self.session.transpiled.is_empty() {
            self.code_changed()?;
        }
        Ok(())
    }

    /// Keeps what is in `meta`.
    ///
    /// # Errors
    /// The storage does not take it.
    pub fn keep_meta(&self) -> Done<()> {
        Ok(keep::put_json(b"m", &self.meta)?)
    }

    /// Whether this caller may change the room.
    #[must_use]
    pub fn may_write(&self, who: Option<&Principal>) -> bool {
        let who = who.map(|principal| principal.subject.as_str());
        self.meta.rights.may_write(who, self.settings.anonymous)
    }

    /// Lets only those go on who may write, and keeps the room.
    ///
    /// # Errors
    /// 403 for others.
    pub fn writable(&mut self, who: Option<&Principal>) -> Done<()> {
        if !self.may_write(who) {
            return Err(refuse(403, "You may read this room but not change it"));
        }
        self.create(who)
    }

    /// The session as it is.
    pub fn session(&mut self) -> &Session {
        if !self.fresh {
            self.session.code = self.document.code();
            self.fresh = true;
        }
        &self.session
    }

    /// What the document has.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Whether a session is one that the room may have.
    ///
    /// # Errors
    /// 413 when a field is too long.
    pub fn fits(&self, new: &Session) -> Done<()> {
        for field in Field::ALL {
            let most = if field == Field::Code { self.settings.code } else { self.settings.field };
            if new.get(field).len() > most {
                let name = field.name();
                return Err(refuse(413, format!("`{name}` may have {most} bytes")));
            }
        }
        Ok(())
    }

    /// Replaces the session, and tells everyone but `except`.
    ///
    /// # Errors
    /// 413 when a field is too long.
    pub fn set(&mut self, new: &Session, except: Option<ConnId>) -> Done<()> {
        self.fits(new)?;
        let old = self.session().clone();
        let code = old.code != new.code;
        if code && let Some(update) = self.document.edit(&new.code) {
            self.append(&update)?;
            let message = Message::Binary(wire::update(&update));
            connections::broadcast(&everyone(YJS, None), &message, Delivery::Reliable)?;
        }
        for field in [Field::Html, Field::Css, Field::Transpiled] {
            if old.get(field) != new.get(field) {
                keep::put_blob(&field_key(field), new.get(field).as_bytes())?;
                new.get(field).clone_into(self.session.get_mut(field));
            }
        }
        new.code.clone_into(&mut self.session.code);
        // Whoever sends JavaScript along has made it of the code.
        if code && old.transpiled == new.transpiled {
            self.code_changed()?;
        } else if old.transpiled != new.transpiled {
            self.set_errors(None)?;
            self.plan(Jobs { transpile: None, save: self.save_at(), failures: 0 })?;
        } else if old != *new {
            self.plan(Jobs { save: self.save_at(), ..self.jobs.clone() })?;
        }
        self.tell(&old, except)
    }

    /// Takes an update of the document from a connection, and tells everyone else.
    ///
    /// # Errors
    /// 400, 413: nothing was done, but the room's memory must be dropped.
    pub fn merge(&mut self, update: &[u8], from: ConnId) -> Done<()> {
        let heard = connections::count(Some(JSON)) > 0;
        let old = if heard { Some(self.session().clone()) } else { None };
        self.has_place_for(update)?;
        match self.document.merge(update, &self.settings.caps()) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(Refused::Malformed) => return Err(refuse(400, "the update is malformed")),
            Err(Refused::TooLarge) => {
                let most = self.settings.update;
                return Err(refuse(413, format!("an update may have {most} bytes (max_update)")));
            }
            Err(Refused::CodeTooLong) => {
                self.spoilt = true;
                let most = self.settings.code;
                return Err(refuse(413, format!("`code` may have {most} bytes (max_code)")));
            }
        }
        self.fresh = false;
        self.append(update)?;
        let message = Message::Binary(wire::update(update));
        connections::broadcast(&everyone(YJS, Some(from)), &message, Delivery::Reliable)?;
        self.code_changed()?;
        if let Some(old) = old {
            self.session();
            self.tell(&old, None)?;
        }
        let long = self.log.bytes >= MOST_LOG.max(self.log.snapshot);
        if self.log.entries >= if long { MOST_UPDATES } else { 2 * MOST_UPDATES } {
            self.compact()?;
        }
        Ok(())
    }

    /// Whether the document may have this, too: bytes, and structs, which take much more in memory than they have
    /// bytes. It is looked at before anything is made of them.
    fn has_place_for(&mut self, update: &[u8]) -> Done<()> {
        let Some(more) = structs::count(update) else {
            return Err(refuse(400, "the update is malformed"));
        };
        let (bytes, structs) = (self.settings.document, self.settings.structs);
        let full = |log: &Log| {
            let has = log.bytes + log.snapshot + update.len();
            (has > bytes, log.structs + more > structs)
        };
        if full(&self.log) != (false, false) {
            self.compact()?;
        }
        match full(&self.log) {
            (true, _) => {
                Err(refuse(413, format!("the document may have {bytes} bytes (max_document)")))
            }
            (_, true) => {
                Err(refuse(413, format!("the document may have {structs} structs (max_structs)")))
            }
            (false, false) => Ok(()),
        }
    }

    fn append(&mut self, update: &[u8]) -> Done<()> {
        storage::put(&keep::numbered(b"u", self.log.next), update)?;
        self.log.next += 1;
        self.log.add(update);
        Ok(())
    }

    /// Replaces the updates by the document that they have made.
    fn compact(&mut self) -> Done<()> {
        if self.log.entries < 2 {
            return Ok(());
        }
        let snapshot = self.document.snapshot();
        keep::put_blob(b"s", &snapshot)?;
        keep::delete_all(b"u")?;
        self.log = Log { next: self.log.next, ..Log::of(&snapshot) };
        Ok(())
    }

    /// Tells connections that speak JSON what has changed.
    fn tell(&self, old: &Session, except: Option<ConnId>) -> Done<()> {
        let to = everyone(JSON, except);
        if connections::count(Some(JSON)) > 0
            && let Some(patch) = delta::patch(old, &self.session)
        {
            let message = Message::Text(patch.to_string());
            connections::broadcast(&to, &message, Delivery::Reliable)?;
        }
        Ok(())
    }

    fn save_at(&self) -> Option<u64> {
        Some(self.jobs.save.unwrap_or_else(|| self_room::now() + SAVE_AFTER))
    }

    /// JavaScript must be made anew, and the history has something to take.
    fn code_changed(&mut self) -> Done<()> {
        let transpile = (!self.settings.transpile.is_empty())
            .then(|| self.jobs.transpile.unwrap_or_else(|| self_room::now() + TRANSPILE_AFTER));
        self.plan(Jobs { transpile, save: self.save_at(), ..self.jobs.clone() })
    }

    fn plan(&mut self, jobs: Jobs) -> Done<()> {
        if self.jobs == jobs || !self.exists {
            return Ok(());
        }
        if self.jobs.first() != jobs.first() {
            match jobs.first() {
                Some(at) => alarms::set(at),
                None => alarms::clear(),
            }
        }
        keep::put_json(b"j", &jobs)?;
        self.jobs = jobs;
        Ok(())
    }

    /// What is wrong with the code, if anything is.
    fn set_errors(&mut self, errors: Option<Value>) -> Done<()> {
        if self.meta.errors == errors {
            return Ok(());
        }
        self.meta.errors = errors;
        if !self.exists {
            return Ok(());
        }
        self.keep_meta()?;
        let errors = self.meta.errors.clone().unwrap_or_else(|| json!([]));
        let message = json!({ "type": "errors", "errors": errors }).to_string();
        connections::broadcast(&everyone(JSON, None), &Message::Text(message), Delivery::Reliable)?;
        Ok(())
    }

    /// Makes JavaScript of the code, if that is due or `now` says so. While the code is wrong, the last that
    /// was made stays. False: nobody could be asked.
    ///
    /// # Errors
    /// The storage does not take it.
    pub fn transpile(&mut self, now: bool) -> Done<bool> {
        if self.jobs.transpile.is_none() && !now {
            return Ok(true);
        }
        if self.settings.transpile.is_empty() {
            return Ok(false);
        }
        let old = self.session().clone();
        let made = crate::javascript::make(&self.settings, &old.code);
        match made {
            Ok(Ok(text)) if text.len() <= self.settings.field => {
                if text != old.transpiled {
                    // Of a room that nobody has changed nothing is kept, however often it is looked at.
                    if self.exists {
                        keep::put_blob(&field_key(Field::Transpiled), text.as_bytes())?;
                    }
                    self.session.transpiled = text;
                    self.tell(&old, None)?;
                }
                self.set_errors(None)?;
            }
            Ok(Ok(_)) => {
                let most = self.settings.field;
                let message =
                    format!("the JavaScript would have more than {most} bytes (max_field)");
                self.set_errors(Some(json!([{ "message": message }])))?;
            }
            Ok(Err(errors)) => self.set_errors(Some(errors))?,
            Err(why) => {
                eprintln!("no JavaScript: {why}");
                return Ok(false);
            }
        }
        self.plan(Jobs { transpile: None, save: self.jobs.save, failures: 0 })?;
        Ok(true)
    }

    /// Does what is due.
    ///
    /// # Errors
    /// It must be tried again.
    pub fn alarm(&mut self) -> Done<()> {
        let now = self_room::now();
        if self.jobs.transpile.is_some_and(|at| at <= now) && !self.transpile(false)? {
            // Nobody waits for it: whoever asks for the JavaScript has it made.
            let failures = self.jobs.failures.saturating_add(1);
            let pause = AGAIN_AFTER.saturating_mul(1 << failures.min(20)) / 2;
            let transpile = Some(now + pause.min(AGAIN_AT_MOST));
            self.plan(Jobs { transpile, failures, save: self.jobs.save })?;
        }
        if self.jobs.save.is_some_and(|at| at <= now) {
            crate::history::save(self)?;
            self.compact()?;
            self.plan(Jobs { save: None, ..self.jobs.clone() })?;
        }
        // The alarm that went off is gone, whatever was planned.
        if let Some(at) = self.jobs.first() {
            alarms::set(at);
        }
        Ok(())
    }
}

/// What a room begins with: the template, or what another room is at that moment.
fn first(settings: &Settings, name: &str) -> Done<Session> {
    let template = crate::session::template(name);
    let Origin::Fork(base) = crate::session::origin(name) else { return Ok(template) };
    if settings.class.is_empty() {
        return Ok(template);
    }
    let path = format!("/live/{base}/session.json");
    let answer = peers::call(&settings.class, base, "GET", &path, &[]).map_err(|error| {
        eprintln!("the room `{base}`, of which this is a fork, can't be read: {error}");
        refuse(
            503,
            format!("This room begins as a copy of `{base}`, which can't be read at the moment"),
        )
    })?;
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status != 200 || value.get("exists") != Some(&Value::Bool(true)) {
        return Ok(template);
    }
    let session: Session = serde_json::from_value(value)
        .map_err(|error| Fail::Broken(format!("the session of `{base}`: {error}")))?;
    Ok(Session { code_space: name.to_owned(), ..session })
}

fn field_key(field: Field) -> Vec<u8> {
    format!("f/{}/", field.name()).into_bytes()
}

/// Everyone with this tag but one.
#[must_use]
pub fn everyone(tag: &str, except: Option<ConnId>) -> Audience {
    Audience { tags: vec![tag.to_owned()], except: except.into_iter().collect() }
}
