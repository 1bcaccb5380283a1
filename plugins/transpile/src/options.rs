//! What a caller may choose.
//!
//! Owns the names, values and defaults. A name or value that is not known is refused by name: a caller who
//! misspells an option must not get a result that was made without it.

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Language level of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target(pub &'static str);

/// Below ES2017 the transformer makes wrong code, so there is nothing to offer.
const TARGETS: [&str; 10] = [
    "es2017", "es2018", "es2019", "es2020", "es2021", "es2022", "es2023", "es2024", "es2025",
    "esnext",
];

/// How JSX is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Jsx {
    /// Imports of the source's `jsx-runtime`.
    Automatic,
    /// Calls of a function that is in scope.
    Classic,
    /// As it is.
    Preserve,
}

/// Whether and where there is a source map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceMap {
    /// None.
    None,
    /// A data URL in the last line.
    Inline,
    /// Beside the code, in JSON.
    External,
}

/// What the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loader {
    /// TypeScript.
    Ts,
    /// TypeScript with JSX.
    Tsx,
    /// JavaScript.
    Js,
    /// JavaScript with JSX.
    Jsx,
}

/// Which decorators the source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decorators {
    /// Those of the standard, which can't be lowered and are refused.
    Standard,
    /// Those of TypeScript's `experimentalDecorators`.
    Legacy,
}

/// Everything that a caller chose.
#[derive(Clone, Debug, Hash)]
pub struct Options {
    /// `target`
    pub target: Target,
    /// `jsx`
    pub jsx: Jsx,
    /// `jsxImportSource`
    pub jsx_import_source: String,
    /// `jsxFactory`
    pub jsx_factory: String,
    /// `jsxFragment`
    pub jsx_fragment: String,
    /// `sourcemap`
    pub sourcemap: SourceMap,
    /// `minify`
    pub minify: bool,
    /// `loader`; by default what the file's name says, else TSX.
    pub loader: Option<Loader>,
    /// `decorators`
    pub decorators: Decorators,
    /// `useDefineForClassFields`
    pub use_define: bool,
    /// `importMap`
    pub import_map: bool,
    /// `helpers=external`: import them instead of having them in the output.
    pub external_helpers: bool,
    /// `filename`, for messages and source maps.
    pub filename: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: Target("es2024"),
            jsx: Jsx::Automatic,
            jsx_import_source: "@emotion/react".to_owned(),
            jsx_factory: "React.createElement".to_owned(),
            jsx_fragment: "React.Fragment".to_owned(),
            sourcemap: SourceMap::None,
            minify: false,
            loader: None,
            decorators: Decorators::Standard,
            use_define: true,
            import_map: false,
            external_helpers: false,
            filename: String::new(),
        }
    }
}

impl Options {
    /// Reads a query string.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn read_query(&mut self, query: &str) -> Result<(), String> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "1"));
            self.set(&decode(name)?, &decode(value)?)?;
        }
        Ok(())
    }

    /// Reads `{"filename": …, "options": {…}}` of a JSON body; the code is the caller's business.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn read_json(&mut self, body: &serde_json::Map<String, Value>) -> Result<(), String> {
        for (name, value) in body {
            match (name.as_str(), value) {
                ("code", _) => {}
                ("filename", Value::String(name)) => self.set("filename", name)?,
                ("options", Value::Object(options)) => {
                    for (name, value) in options {
                        match value {
                            Value::String(text) => self.set(name, text)?,
                            Value::Bool(_) | Value::Number(_) => {
                                self.set(name, &value.to_string())?
                            }
                            _ => {
                                return Err(format!(
                                    "`options.{name}` must be a text or a truth value"
                                ));
                            }
                        }
                    }
                }
                ("filename" | "options", _) => return Err(format!("`{name}` has the wrong type")),
                _ => {
                    return Err(format!("there is no `{name}`; known are code, filename, options"));
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "target" => {
                let known = TARGETS.into_iter().find(|target| *target == value);
                self.target = Target(known.ok_or_else(|| wrong(name, value, &TARGETS))?);
            }
            "jsx" => {
                self.jsx = choose(
                    name,
                    value,
                    &[
                        ("automatic", Jsx::Automatic),
                        ("classic", Jsx::Classic),
                        ("preserve", Jsx::Preserve),
                    ],
                )?;
            }
            "jsxImportSource" => self.jsx_import_source = module(name, value)?,
            "jsxFactory" => self.jsx_factory = identifiers(name, value)?,
            "jsxFragment" => self.jsx_fragment = identifiers(name, value)?,
            "sourcemap" => {
                self.sourcemap = choose(
                    name,
                    value,
                    &[
                        ("none", SourceMap::None),
                        ("inline", SourceMap::Inline),
                        ("external", SourceMap::External),
                    ],
                )?;
            }
            "minify" => self.minify = truth(name, value)?,
            "loader" => {
                let known = [
                    ("ts", Loader::Ts),
                    ("tsx", Loader::Tsx),
                    ("js", Loader::Js),
                    ("jsx", Loader::Jsx),
                ];
                self.loader = Some(choose(name, value, &known)?);
            }
            "decorators" => {
                let known = [("standard", Decorators::Standard), ("legacy", Decorators::Legacy)];
                self.decorators = choose(name, value, &known)?;
            }
            "useDefineForClassFields" => self.use_define = truth(name, value)?,
            "importMap" => self.import_map = truth(name, value)?,
            "helpers" => {
                self.external_helpers =
                    choose(name, value, &[("inline", false), ("external", true)])?;
            }
            "filename" => {
                if value.len() > 1000 || value.chars().any(char::is_control) {
                    return Err(
                        "`filename` must be up to 1000 bytes without control characters".to_owned()
                    );
                }
                value.clone_into(&mut self.filename);
            }
            _ => {
                return Err(format!(
                    "there is no option `{name}`; known are target, jsx, jsxImportSource, jsxFactory, jsxFragment, \
                     sourcemap, minify, loader, decorators, useDefineForClassFields, importMap, helpers, filename"
                ));
            }
        }
        Ok(())
    }

    /// The loader that was chosen, or that the file's name stands for.
    #[must_use]
    pub fn loader(&self) -> Loader {
        self.loader.unwrap_or_else(|| match self.filename.rsplit('.').next() {
            Some("ts" | "mts" | "cts") => Loader::Ts,
            Some("js" | "mjs" | "cjs") => Loader::Js,
            Some("jsx") => Loader::Jsx,
            _ => Loader::Tsx,
        })
    }

    /// Only a file that says so is no ES module.
    #[must_use]
    pub fn is_commonjs(&self) -> bool {
        self.filename.ends_with(".cts") || self.filename.ends_with(".cjs")
    }
}

fn decode(text: &str) -> Result<String, String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "the query is not UTF-8".to_owned())
}

fn wrong(name: &str, value: &str, known: &[&str]) -> String {
    format!("`{value}` is not a value of `{name}`; known are {}", known.join(", "))
}

fn choose<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(text, _)| *text == value).map(|(_, choice)| *choice);
    found
        .ok_or_else(|| wrong(name, value, &known.iter().map(|(text, _)| *text).collect::<Vec<_>>()))
}

fn truth(name: &str, value: &str) -> Result<bool, String> {
    let known = [("1", true), ("true", true), ("0", false), ("false", false)];
    choose(name, value, &known)
}

/// `React.createElement`, `h`.
fn identifiers(name: &str, value: &str) -> Result<String, String> {
    let is_identifier = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '$')
            && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
    };
    if value.len() <= 200 && value.split('.').all(is_identifier) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "`{value}` is not a value of `{name}`: it must be a name, as React.createElement"
        ))
    }
}

fn module(name: &str, value: &str) -> Result<String, String> {
    if value.is_empty() || value.len() > 500 || value.chars().any(char::is_control) {
        return Err(format!("`{name}` must be the name of a module"));
    }
    Ok(value.to_owned())
}
