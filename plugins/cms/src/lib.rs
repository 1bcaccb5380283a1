//! Pages and files that callers keep: `/my-cms/…` is each caller's own space, `/live-cms/…` the shared one.
//!
//! Owns the two addresses: what a method means there, and what is said when it can't be done. What a URL names, who
//! may write, what becomes of a document and what a reader gets are decided by pure functions in the modules; this
//! file reads requests and sends answers. Nothing is ever written without a verified caller. The dangers that shaped
//! it: a page of one caller that acts as the site, and a write that is lost because another came at the same time.
//!
//! docs/cms.md is the manual, with the settings.

pub mod context;
pub mod document;
pub mod fields;
pub mod kind;
pub mod listing;
pub mod page;
pub mod place;
pub mod policy;
mod query;
pub mod read;
pub mod store;
pub mod write;

use context::{Context, Settings, Target, space_key};
use document::Document;
use guesthouse_sdk::{Body, Handler, Request, Response, identity};
use place::{Place, Space};
use policy::{Caller, Refused, may_write};
use query::Query;
use read::{Ask, Conditions, Shown, reply};
use store::{Failure, Store};

/// The component.
pub struct Cms;

guesthouse_sdk::export!(Cms);

/// What is allowed on a document, and on a folder.
const ON_DOCUMENT: &str = "GET, HEAD, PUT, POST, DELETE, MKCOL, OPTIONS";
const ON_FOLDER: &str = "GET, HEAD, MKCOL, DELETE, OPTIONS";
const ON_ROOT: &str = "GET, HEAD, OPTIONS";
/// What a script of another origin may read of an answer, beside what it always may.
const EXPOSED: &str =
    "ETag, X-Version, Content-Range, Accept-Ranges, Content-Disposition, Location";

impl Handler for Cms {
    fn handle(request: Request) -> Response {
        let settings = match Settings::read() {
            Ok(settings) => settings,
            Err(why) => {
                eprintln!("{why}");
                return Response::text(500, "This part of the site is not set up.\n");
            }
        };
        let method = request.method();
        let mut response = answer(&settings, &request, &method).unwrap_or_else(failed);
        if method == "HEAD" {
            response.body = Body::Empty;
        }
        if !response.headers.iter().any(|(name, _)| name == "x-content-type-options") {
            response = response.with("x-content-type-options", "nosniff");
        }
        if !settings.cors.is_empty() {
            response = response.with("access-control-allow-origin", settings.cors.clone());
            if method != "OPTIONS" {
                response = response.with("access-control-expose-headers", EXPOSED);
            }
        }
        response
    }
}

/// What a client is told of a failure.
fn failed(failure: Failure) -> Response {
    let (status, text) = match failure {
        Failure::Storage(why) => {
            eprintln!("{why}");
            (500, "The document can't be read or written at the moment.".to_owned())
        }
        Failure::TooLarge => (413, "The document is larger than the storage takes.".to_owned()),
        Failure::Cut => (400, "The body did not come to its end; nothing was kept.".to_owned()),
        Failure::Busy => (503, "Too many write at the same time. Try again soon.".to_owned()),
        Failure::Full(what) => {
            let knob = if what == "files" { "quota_files" } else { "quota_bytes" };
            (507, format!("There is no more room for your {what} ({knob}): delete something."))
        }
        Failure::Foreign => (403, "This name is another account's here.".to_owned()),
        Failure::Refused(status, text) => (status, text),
    };
    let response = refusal(status, &text);
    match status {
        401 => response.with("www-authenticate", "Bearer realm=\"guesthouse\""),
        503 => response.with("retry-after", "1"),
        _ => response,
    }
}

fn refusal(status: u16, text: &str) -> Response {
    Response::text(status, format!("{text}\n")).with("cache-control", "no-store")
}

fn refused(why: Refused) -> Failure {
    match why {
        Refused::Unknown => Failure::Refused(401, "Say who you are.".to_owned()),
        Refused::Forbidden => Failure::Refused(403, "This is not yours to change.".to_owned()),
    }
}

fn caller() -> Option<Caller> {
    let principal = identity::caller()?;
    Some(Caller {
        claims: serde_json::from_str(&principal.claims_json).unwrap_or_default(),
        subject: principal.subject,
        issuer: principal.issuer,
    })
}

fn answer(settings: &Settings, request: &Request, method: &str) -> Result<Response, Failure> {
    let place = Place::of(request.path()).map_err(|wrong| {
        let (status, text) = wrong.answer();
        Failure::Refused(status, text)
    })?;
    let allowed = match (place.folder, place.name.is_empty()) {
        (_, true) => ON_ROOT,
        (true, false) => ON_FOLDER,
        (false, false) => ON_DOCUMENT,
    };
    let query = Query::read(request.query().unwrap_or_default())
        .map_err(|why| Failure::Refused(400, why))?;
    let host = request.authority();
    let own = settings.content_host.as_ref();
    let own_host = own
        .is_some_and(|own| host.as_deref().is_some_and(|h| h.eq_ignore_ascii_case(&own.authority)));
    match method {
        "OPTIONS" => return Ok(preflight(request, allowed)),
        "GET" | "HEAD" => {}
        "PUT" | "POST" if !place.folder && !own_host => {}
        "DELETE" | "MKCOL" if !place.name.is_empty() && !own_host => {}
        _ => {
            let allowed = if own_host { ON_ROOT } else { allowed };
            return Ok(refusal(405, "This method is not allowed here.").with("allow", allowed));
        }
    }
    // A host for documents is nobody's: whoever comes there is not asked who it is.
    let caller = if own_host { None } else { caller() };
    let store = Store::open(&settings.namespace, settings.quota)?;
    let site = Site { settings, store, place, query, caller, own_host };
    match method {
        "GET" | "HEAD" => site.get(request),
        _ => {
            let token = request.header("authorization").is_some();
            let origin = request.header("origin");
            if !policy::is_from_here(origin.as_deref(), host.as_deref(), token) {
                let text = "A page of another origin can't write with your cookies.".to_owned();
                return Err(Failure::Refused(403, text));
            }
            site.change(request, method)
        }
    }
}

/// What a browser asks before it lets a script of another origin write.
fn preflight(request: &Request, allowed: &str) -> Response {
    let response =
        Response::new(204).with("allow", allowed).with("dav", "1").with("vary", "Origin");
    if request.header("access-control-request-method").is_none() {
        return response;
    }
    let known = [
        "accept",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-language",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "x-publish",
    ];
    let asked = request.header("access-control-request-headers").unwrap_or_default();
    let mut fields: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
    fields.extend(
        asked
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| name.starts_with("x-meta-")),
    );
    response
        .with("access-control-allow-methods", allowed)
        .with("access-control-allow-headers", fields.join(", "))
        .with("access-control-max-age", "86400")
}

/// A request, read.
struct Site<'a> {
    settings: &'a Settings,
    store: Store,
    place: Place,
    query: Query,
    caller: Option<Caller>,
    own_host: bool,
}

/// A document that may be read, and how.
struct Found {
    document: Document,
    at_home: bool,
}

impl Site<'_> {
    /// Whether the caller sees everything in this space. An account of the same name from another issuer does not.
    fn at_home(&self) -> Result<bool, Failure> {
        let Some(caller) = &self.caller else { return Ok(false) };
        let writers = &self.settings.live_writers;
        if !policy::is_at_home(Some(caller), &self.place.space, writers) {
            return Ok(false);
        }
        if self.place.space == Space::Live {
            return Ok(true);
        }
        let account = self.store.account(&caller.id())?;
        match account {
            Some(account) if account.issuer != caller.issuer => Err(Failure::Foreign),
            _ => Ok(true),
        }
    }

    fn target(&self, name: &str) -> Result<Target, Failure> {
        Target::of(&self.place, name, self.caller.as_ref()).ok_or_else(|| refused(Refused::Unknown))
    }

    /// The address of the space, with a slash at its end.
    fn root(&self) -> String {
        match &self.place.space {
            Space::Live => "/live-cms/".to_owned(),
            Space::Mine => "/my-cms/".to_owned(),
            Space::Of(name) => format!("/my-cms/~{}/", place::encoded(name)),
        }
    }

    fn get(&self, request: &Request) -> Result<Response, Failure> {
        let is_root = self.place.name.is_empty();
        if is_root && !request.path().ends_with('/') {
            return Ok(Response::new(308).with("location", self.root()));
        }
        if self.query.list.is_some() {
            return self.list(request);
        }
        let is_mine = self.place.space == Space::Mine;
        if is_root && is_mine && !self.own_host {
            return if prefers_html(request) { Ok(self.page()) } else { self.list(request) };
        }
        let at_home = self.at_home()?;
        if is_mine && !at_home {
            return Err(refused(Refused::Unknown));
        }
        for name in self.place.candidates() {
            let target = self.target(&name)?;
            let Some(document) = self.store.document(&target.key)? else { continue };
            if self.query.versions && at_home {
                return Ok(json(listing::history(&document)));
            }
            let found = Found { document, at_home };
            if let Some(response) = self.show(request, &target, &found)? {
                return Ok(response);
            }
        }
        if is_root && self.place.space == Space::Live && !self.own_host {
            return if prefers_html(request) { Ok(self.page()) } else { self.list(request) };
        }
        Err(Failure::Refused(404, "There is no such document.".to_owned()))
    }

    /// None: there is nothing here that this reader may see.
    fn show(
        &self,
        request: &Request,
        target: &Target,
        found: &Found,
    ) -> Result<Option<Response>, Failure> {
        let Found { document, at_home } = found;
        let public = document.published || target.public;
        if !public && !at_home {
            return Ok(None);
        }
        let version = match self.query.version {
            // What was taken back stays between those who may write.
            Some(number) if *at_home => document.find(number),
            Some(_) => None,
            None => document.current(),
        };
        let Some(version) = version else { return Ok(None) };
        if let Some(own) = &self.settings.content_host
            && public
            && !self.own_host
            && self.query.version.is_none()
            && can_act(&version.fields.kind)
        {
            let root = if self.place.space == Space::Mine {
                let who = self.caller.as_ref().map(|caller| place::encoded(&caller.subject));
                format!("/my-cms/~{}/", who.unwrap_or_default())
            } else {
                self.root()
            };
            let location = format!("{}{root}{}", own.origin, place::encoded(&target.name));
            let response = Response::new(307).with("location", location);
            return Ok(Some(response.with("cache-control", "no-cache")));
        }
        let shown = Shown {
            public: public && self.query.version.is_none(),
            immutable: self.query.version.is_some(),
            own_host: self.own_host,
            longest: self.settings.max_age,
            embedder_policy: self.settings.embedder_policy.clone(),
        };
        let ask = Ask {
            head: request.method() == "HEAD",
            accept_encoding: request.header("accept-encoding"),
            if_match: request.header("if-match"),
            if_none_match: request.header("if-none-match"),
            if_modified_since: request.header("if-modified-since"),
            if_unmodified_since: request.header("if-unmodified-since"),
            range: request.header("range"),
            if_range: request.header("if-range"),
        };
        let reply = reply(version, &shown, &ask);
        let mut response = Response::new(reply.status);
        response.headers = reply.headers;
        if let Some((key, first, length)) = reply.bytes {
            let stream = self.store.bucket().get_range(&key, first, Some(length));
            let found = stream.map_err(|error| Failure::Storage(format!("{key}: {error:?}")))?;
            let found =
                found.ok_or_else(|| Failure::Storage(format!("the bytes {key} are missing")))?;
            response = response.body(Body::Stream(found.body));
        }
        Ok(Some(response))
    }

    fn list(&self, request: &Request) -> Result<Response, Failure> {
        let at_home = self.at_home()?;
        if self.place.space != Space::Live && !at_home {
            return Err(refused(match self.caller {
                None => Refused::Unknown,
                Some(_) => Refused::Forbidden,
            }));
        }
        let space = space_key(&self.place.space, self.caller.as_ref())
            .ok_or_else(|| refused(Refused::Unknown))?;
        let mut prefix = self.place.name.clone();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        prefix.push_str(self.query.list.as_deref().unwrap_or_default());
        let limit = self.query.limit.unwrap_or(0);
        let listing = self.store.list(&space, &prefix, limit, self.query.cursor.clone())?;
        let response = if self.query.list.is_some() && prefers_html(request) {
            let nonce = nonce();
            self.html(&nonce, listing::as_html(&listing, &self.root(), &prefix, &nonce))
        } else {
            let account = match (&self.caller, at_home) {
                (Some(caller), true) => Some(self.store.account(&caller.id())?.unwrap_or_default()),
                _ => None,
            };
            let quota = self.settings.quota;
            json(listing::as_json(&listing, &self.root(), account.as_ref(), quota))
        };
        Ok(response.with("vary", "Accept, Authorization, Cookie"))
    }

    fn page(&self) -> Response {
        let nonce = nonce();
        let who = self.caller.as_ref().map(|caller| caller.subject.as_str());
        self.html(&nonce, page::page(&self.root(), who, &nonce))
            .with("vary", "Accept, Authorization, Cookie")
    }

    fn html(&self, nonce: &str, text: String) -> Response {
        Response::new(200)
            .with("content-type", "text/html; charset=utf-8")
            .with("cache-control", "private, no-store")
            .with("content-security-policy", page::policy(nonce))
            .with("referrer-policy", "no-referrer")
            .body(Body::Bytes(text.into_bytes()))
    }

    fn change(&self, request: &Request, method: &str) -> Result<Response, Failure> {
        let space = &self.place.space;
        may_write(self.caller.as_ref(), space, &self.settings.live_writers).map_err(refused)?;
        let Some(caller) = &self.caller else { return Err(refused(Refused::Unknown)) };
        let space = space_key(space, Some(caller)).ok_or_else(|| refused(Refused::Unknown))?;
        let context = Context::new(self.settings, &self.store, caller);
        let conditions = Conditions {
            if_match: request.header("if-match"),
            if_none_match: request.header("if-none-match"),
        };
        let query = &self.query;
        let name = &self.place.name;
        if method == "MKCOL" {
            if request.body().is_some_and(|mut body| !matches!(body.read(), Ok(None))) {
                let text = "A folder is made by a request without a body.".to_owned();
                return Err(Failure::Refused(415, text));
            }
            let target = self.target(&format!("{name}/"))?;
            write::make_folder(&context, &target)?;
            return Ok(Response::new(201));
        }
        if method == "DELETE" && self.place.folder {
            write::delete_folder(&context, name, &space)?;
            return Ok(Response::new(204));
        }
        let target = self.target(name)?;
        let written = match (method, query.restore.or(query.version), query.publish) {
            ("DELETE", ..) => {
                write::delete(&context, &target, &conditions, query.purge)?;
                return Ok(Response::new(204));
            }
            ("PUT", Some(number), _) | ("POST", Some(number), _) => {
                if request.body().is_some_and(|mut body| !matches!(body.read(), Ok(None))) {
                    let text = "A version is restored by a request without a body.".to_owned();
                    return Err(Failure::Refused(400, text));
                }
                write::restore(&context, &target, &conditions, number)?
            }
            ("POST", None, Some(publish)) => {
                write::publish(&context, &target, &conditions, publish || target.public)?
            }
            ("POST", None, None) => {
                let text =
                    "POST needs ?restore=VERSION or ?publish=1; a document is sent with PUT.";
                return Err(Failure::Refused(400, text.to_owned()));
            }
            _ => {
                let wish = match request.header("x-publish").as_deref().map(str::trim) {
                    Some("1" | "true") => Some(true),
                    Some("0" | "false") => Some(false),
                    _ => query.publish,
                };
                write::upload(&context, &target, request, &conditions, wish)?
            }
        };
        let address = format!("{}{}", self.root(), place::encoded(&target.name));
        let response = Response::new(if written.created { 201 } else { 204 })
            .with("etag", format!("\"{}\"", written.tag))
            .with("x-version", written.number.to_string())
            .with("x-published", if written.published { "1" } else { "0" });
        Ok(if written.created { response.with("location", address) } else { response })
    }
}

fn json(text: String) -> Response {
    Response::json(200, text).with("cache-control", "private, no-cache")
}

/// Whether a person asks: a browser names HTML, and a program that names nothing gets JSON.
fn prefers_html(request: &Request) -> bool {
    request.header("accept").is_some_and(|accept| {
        accept.split(',').any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
        })
    })
}

/// Whether a browser runs what is in a document of this type, when it is opened.
fn can_act(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "text/html" || kind == "text/xml" || kind == "application/xml" || kind.ends_with("+xml")
}

/// For one page.
fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8))
}
