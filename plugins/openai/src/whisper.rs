//! `POST /whisper`: a recording becomes text.
//!
//! The form is rewritten as it passes: the recording, whatever its field was called, becomes `file`, and the
//! model is the operator's choice. The recording is never held: it goes out as it comes in.

use crate::multipart::{Event, Form, Head, Malformed, boundary};
use ai_common::log::Pending;
use ai_common::{Api, Usage, base_url, call, setting_or, with_cors};
use guesthouse_sdk::{Body, Cut, IncomingBody, Request, Response, fetch};
use serde_json::json;
use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Fields that may come along.
const PASSED: [&str; 4] = ["language", "prompt", "temperature", "timestamp_granularities[]"];
/// Bytes of fields before the recording.
const MOST_BEFORE: usize = 64 << 10;
pub(crate) fn transcribe(request: &Request) -> Response {
    let refuse =
        |message: &str| with_cors(Api::OpenAi.error(400, "invalid_request_error", message));
    let Some(boundary) = request.header("content-type").and_then(|kind| boundary(&kind)) else {
        return refuse(
            "The body must be multipart/form-data with a recording as `file` or `record.wav`.",
        );
    };
    let Some(body) = request.body() else { return refuse("There is no body.") };
    let broken = Rc::new(Cell::new(false));
    let out_boundary = random_boundary();
    let mut rewriter = Rewriter {
        body,
        form: Form::new(&boundary),
        boundary: out_boundary.clone(),
        waiting: VecDeque::new(),
        part: Part::Left,
        has_file: false,
        ended: false,
        broken: broken.clone(),
    };
    let begin = match rewriter.up_to_file() {
        Ok(Some(begin)) => begin,
        Ok(None) => return refuse("The form has no recording: send it as `file` or `record.wav`."),
        Err(Malformed) => return refuse("The body is not a form, or ended early."),
    };
    let mut log = Pending::begin(Api::OpenAi, request.path(), request.header("x-request-id"));
    let mut begin = Some(begin);
    let out =
        fetch::Request::new("POST", format!("{}/audio/transcriptions", base_url(Api::OpenAi)))
            .with("content-type", format!("multipart/form-data; boundary={out_boundary}"))
            .with("accept", "application/json")
            .body(Body::Pieces(Box::new(move || match begin.take() {
                Some(begin) => Some(Ok(begin)),
                None => rewriter.next(),
            })));
    let answer = call(Api::OpenAi, out, 0);
    let response = match answer {
        _ if broken.get() => refuse("The form ended early, or is not one."),
        Ok(answer) => {
            with_cors(Response::json(200, json!({ "response": answer.value }).to_string()))
        }
        Err(error) => error.response(Api::OpenAi),
    };
    if let Some(log) = &mut log {
        log.answered(response.status, None);
    }
    if let Some(log) = log {
        let model = Some(setting_or("whisper_model", "whisper-1"));
        log.finish(Usage { model, ..Usage::default() }, true);
    }
    response
}

/// What becomes of the part that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Passed,
    Left,
}

struct Rewriter {
    body: IncomingBody,
    form: Form,
    /// Of the form that goes out.
    boundary: String,
    waiting: VecDeque<Event>,
    part: Part,
    has_file: bool,
    ended: bool,
    broken: Rc<Cell<bool>>,
}

impl Rewriter {
    /// Everything before the recording's first byte; none when there is no recording.
    fn up_to_file(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let mut begin = Vec::new();
        self.field(&mut begin, "model", &setting_or("whisper_model", "whisper-1"));
        loop {
            match self.event()? {
                None => return Ok(None),
                Some(event) => self.rewrite(event, &mut begin),
            }
            if self.has_file {
                return Ok(Some(begin));
            }
            if begin.len() > MOST_BEFORE {
                return Err(Malformed);
            }
        }
    }

    /// The next bytes to send.
    fn next(&mut self) -> Option<Result<Vec<u8>, Cut>> {
        if self.ended {
            return None;
        }
        let mut out = Vec::new();
        while out.is_empty() {
            match self.event() {
                Ok(Some(event)) => self.rewrite(event, &mut out),
                Ok(None) => {
                    self.ended = true;
                    out.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
                }
                Err(Malformed) => {
                    self.broken.set(true);
                    return Some(Err(Cut));
                }
            }
        }
        Some(Ok(out))
    }

    fn event(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            if self.form.ended() {
                return Ok(None);
            }
            let piece = self.body.read().map_err(|Cut| Malformed)?.ok_or(Malformed)?;
            self.waiting.extend(self.form.feed(&piece)?);
        }
    }

    fn begin(&self, out: &mut Vec<u8>, head: &str) {
        out.extend_from_slice(format!("--{}\r\n{head}\r\n", self.boundary).as_bytes());
    }

    fn field(&self, out: &mut Vec<u8>, name: &str, value: &str) {
        self.begin(out, &format!("Content-Disposition: form-data; name=\"{name}\"\r\n"));
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn rewrite(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Part(head)
                if !self.has_file && matches!(head.name.as_str(), "file" | "record.wav") =>
            {
                self.has_file = true;
                self.part = Part::Passed;
                self.begin(out, &file_head(&head));
            }
            Event::Part(head) if PASSED.contains(&head.name.as_str()) => {
                self.part = Part::Passed;
                self.begin(
                    out,
                    &format!("Content-Disposition: form-data; name=\"{}\"\r\n", head.name),
                );
            }
            Event::Part(_) => self.part = Part::Left,
            Event::Data(data) if self.part == Part::Passed => out.extend_from_slice(&data),
            Event::PartEnd if self.part == Part::Passed => out.extend_from_slice(b"\r\n"),
            Event::Data(_) | Event::PartEnd | Event::End => {}
        }
    }
}

/// Known to nobody before: who knew it could write fields into a recording.
fn random_boundary() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("guesthouse-{:016x}{:016x}", random(), random())
}

/// The name tells the upstream the format, so there always is one; what could end the line is left out.
fn file_head(head: &Head) -> String {
    let name = head.filename.as_deref().filter(|name| name.contains('.')).unwrap_or("record.wav");
    let name: String = name.chars().filter(|c| !c.is_control() && *c != '"').collect();
    let kind = head.content_type.as_deref().unwrap_or("application/octet-stream");
    let kind: String = kind.chars().filter(|c| !c.is_control()).collect();
    format!(
        "Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n"
    )
}
