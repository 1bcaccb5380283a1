//! The transpile plugin, against esbuild and against sources that are built to break it.

use guesthouse_tests::{House, clients, house_folder, plugin};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::time::Instant;

fn house() -> House {
    let component = house_folder().join("plugins/transpile.wasm");
    let rest = "routes = [\"/transpile\"]\nkv = [\"default\"]\ninstances = { reuse = 1000 }\nstack_overflow = 422\n\
                breaker = { failures = 1, backoff = \"1h\" }\n\
                config = { import_map = '{\"imports\": {\"react\": \"/reactMod.mjs\"}}', cache_from = \"100\" }";
    House::start(&plugin("transpile", &component, rest))
}

async fn post(house: &House, query: &str, source: impl Into<reqwest::Body>) -> Response {
    let url = format!("{}/transpile{query}", house.url);
    Client::new().post(url).body(source).send().await.unwrap()
}

/// Status and text of an answer; whatever goes wrong is said with the name of the case.
async fn asked(
    client: &Client,
    house: &House,
    name: &str,
    source: impl Into<reqwest::Body>,
) -> (u16, String) {
    let began = Instant::now();
    let sent = client.post(format!("{}/transpile", house.url)).body(source).send().await;
    let failed = |what: &str, error: reqwest::Error| -> ! {
        panic!("{name}: {what} after {:?}: {error:?}", began.elapsed())
    };
    let answer = sent.unwrap_or_else(|error| failed("no answer", error));
    let status = answer.status().as_u16();
    let text = answer.text().await;
    (status, text.unwrap_or_else(|error| failed(&format!("{status}, but no text"), error)))
}

#[test]
fn what_comes_out_does_the_same_as_what_esbuild_makes_of_it() {
    if clients::tool("GUESTHOUSE_NODE").is_none() {
        return;
    }
    let house = house();
    let Some(output) = clients::node("transpile.mjs", &[&house.url]) else { return };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert!(found["tried"].as_u64().unwrap() >= 60, "{found}");
    assert_eq!(found["differences"], json!([]), "{:#}", found["differences"]);
    assert_eq!(found["explained"], json!([]));
}

#[test]
fn what_npm_packages_ship_as_typescript_does_the_same_as_what_esbuild_makes_of_it() {
    let Some(sources) = clients::tool("GUESTHOUSE_SOURCES") else { return };
    let house = house();
    let sources = sources.display().to_string();
    let Some(output) = clients::node("transpile-npm.mjs", &[&house.url, &sources]) else { return };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    let number = |key: &str| found[key].as_u64().unwrap();
    assert_eq!(found["refused"], json!([]), "{:#}", found["refused"]);
    assert_eq!(found["differences"], json!([]), "{:#}", found["differences"]);
    assert!(number("packages") >= 10 && number("files") >= 300, "{found:#}");
    // docs/transpile.md explains them.
    let explained = ["external", "helpers/errorUtil", "helpers/util", "index"];
    assert_eq!(found["explained"], json!(explained.map(|file| format!("zod/src/v3/{file}.js"))));
    assert_eq!(number("equal") + explained.len() as u64, number("files"));
    // That both fail in the same way says little: most must run. The others are parts of a build that is not here.
    assert!(number("loaded") * 10 >= number("files") * 8, "{found:#}");
    assert!(number("calls") > 1000, "{found:#}");
}

#[test]
fn the_command_line_transpiles_files_and_says_what_is_wrong_with_them() {
    let house = house();
    let url = format!("{}/transpile", house.url);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("good.tsx"), "export const a: number = 1;\nexport const b = <i/>;\n")
        .unwrap();
    std::fs::write(path("bad.ts"), "let fine = 1;\nlet y = ;\n").unwrap();
    std::fs::write(path("plain.js"), "export const c = 3;\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["transpile", "--url", &url];
        all.extend(arguments);
        house.run(&all)
    };

    let (code, text) = run(&[&path("good.tsx")]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("export const a = 1;") && text.contains("@emotion/react/jsx-runtime"),
        "{text}"
    );
    let (code, text) = run(&["-o", "minify=1", "-o", "jsxImportSource=preact", &path("good.tsx")]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("const a=1") && text.contains("preact/jsx-runtime"), "{text}");

    // One that is wrong is said as a terminal shows it, and keeps none of the others from being written.
    let out = path("out");
    let (code, text) = run(&["--out", &out, &path("bad.ts"), &path("good.tsx"), &path("plain.js")]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("bad.ts:2:9: ") && text.contains("2 | let y = ;"), "{text}");
    let mut written: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, ["good.js", "plain.js"]);
    let good = std::fs::read_to_string(folder.path().join("out/good.js")).unwrap();
    assert!(good.contains("export const a = 1;") && !good.contains("number"), "{good}");

    for (arguments, said) in [
        (vec!["-o", "target=es5", "X"], "`es5` is not a value of `target`"),
        (vec!["-o", "minify", "X"], "`minify` is not NAME=VALUE"),
        (vec!["nowhere.ts"], "nowhere.ts can't be read"),
        (
            vec!["--url", "http://127.0.0.1:1/transpile", "X"],
            "Is it running? Name its address with --url",
        ),
    ] {
        let good = path("good.tsx");
        let arguments: Vec<&str> = arguments
            .into_iter()
            .map(|argument| if argument == "X" { &good } else { argument })
            .collect();
        let (code, text) = if arguments[0] == "--url" {
            house.run(&[&["transpile"], arguments.as_slice()].concat())
        } else {
            run(&arguments)
        };
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[tokio::test]
async fn a_component_is_answered_as_a_module_with_its_type() {
    let house = house();
    let source =
        "const A = (p: { n: number }) => <b css={{ color: 'red' }}>{p.n}</b>; export default A;";
    let answer = post(&house, "", source).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let text = answer.text().await.unwrap();
    assert_eq!(text.len(), length);
    assert!(text.contains("@emotion/react/jsx-runtime"), "{text}");
    assert!(!text.contains("number"), "{text}");

    let body = json!({"code": "export const x: number = 1", "filename": "x.ts", "options": {"minify": true}});
    let url = format!("{}/transpile", house.url);
    let answer = Client::new().post(&url).json(&body).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap().trim(), "export const x=1;");

    let preflight = Client::new().request(reqwest::Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-methods"], "POST, OPTIONS");
    let get = reqwest::get(&url).await.unwrap();
    assert_eq!(
        (get.status().as_u16(), &get.headers()["allow"]),
        (405, &"POST, OPTIONS".parse().unwrap())
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_422_with_its_place() {
    let house = house();
    for (source, line, column, message) in [
        ("let x = 1;\nlet y = ;\n", 2, 9, "token"),
        ("let x = 1;\nlet x = 2;\n", 1, 5, "already been declared"),
        ("const 😀 = 1", 1, 7, ""),
        ("function d(a: any, b: any) {}\nclass K { @d m() {} }\n", 2, 11, "decorators=legacy"),
        (
            "class A {}\nclass B extends A {\n constructor(public x = super()) {}\n}",
            3,
            25,
            "super()",
        ),
    ] {
        let answer = post(&house, "", source).await;
        assert_eq!(answer.status(), 422, "{source}");
        let body: Value = answer.json().await.unwrap();
        let error = &body["errors"][0];
        assert!(error["message"].as_str().unwrap().contains(message), "{source}: {error}");
        assert_eq!(
            (&error["line"], &error["column"]),
            (&json!(line), &json!(column)),
            "{source}: {error}"
        );
        assert!(error["frame"].as_str().unwrap().contains(" | "), "{error}");
    }
    let early = post(&house, "?target=es2021", "export const x = await 1;").await;
    assert_eq!(early.status(), 422, "an await at the top can't be lowered");
    let url = format!("{}/transpile?filename=a.ts", house.url);
    let text = Client::new().post(url).header("accept", "text/plain").body("let y = ;");
    let text = text.send().await.unwrap();
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    let text = text.text().await.unwrap();
    assert!(
        text.starts_with("a.ts:1:9: ") && text.contains("1 | let y = ;\n  |         ^"),
        "{text}"
    );
}

#[tokio::test]
async fn what_would_come_out_wrong_is_refused_and_says_so() {
    let house = house();
    let derived = |rest: &str| format!("class A {{}} class B extends A {{ {rest} }}");
    let long = "An enum that goes on in another block";
    for (query, source, message) in [
        ("?decorators=legacy", "class K { @d #x = 1; }".to_owned(), "private member"),
        ("?decorators=legacy", "class K { @d #m() {} }".to_owned(), "private member"),
        (
            "?decorators=legacy",
            "class K { @d static get #g() { return 1 } }".to_owned(),
            "private member",
        ),
        ("?decorators=legacy", "class K { #m(@d a) {} }".to_owned(), "private member"),
        ("?decorators=legacy", "class K { @d constructor() {} }".to_owned(), "constructor"),
        ("?decorators=legacy", "const K = @d class {};".to_owned(), "class expression"),
        ("?decorators=legacy", "f(class { @d m() {} });".to_owned(), "class expression"),
        ("?decorators=legacy", "f(class { m(@d a) {} });".to_owned(), "class expression"),
        ("?decorators=legacy", "f(class { m(@d ...a) {} });".to_owned(), "class expression"),
        ("?decorators=legacy", "f(class { @d x = 1 });".to_owned(), "class expression"),
        ("?decorators=legacy", "class K { @d accessor x = 1 }".to_owned(), "accessor"),
        ("?decorators=legacy", "class K { #x; @d((k) => k.#x) m() {} }".to_owned(), "outside"),
        ("?decorators=legacy", "class K { #x; m(@d((k) => k.#x) a) {} }".to_owned(), "outside"),
        ("?decorators=legacy", "class K { @d declare [b]: number }".to_owned(), "only declared"),
        (
            "?useDefineForClassFields=0",
            "class A { static b = class { static [this.c] = 1 } }".to_owned(),
            "computed name",
        ),
        (
            "?useDefineForClassFields=0",
            "function* f() { class A { [yield 1] = 1 } }".to_owned(),
            "computed name",
        ),
        ("", derived("constructor(public x: number) { const a = super(); }"), "super()"),
        (
            "",
            derived("constructor(public x: number) { if (x) super(); else super(1); }"),
            "super()",
        ),
        ("", derived("constructor(readonly x: number) { (super(), x); }"), "super()"),
        (
            "",
            derived("constructor(readonly x: number) { const s = () => super(); s(); }"),
            "super()",
        ),
        ("", derived("constructor(private x: number) { super(x); super(x); }"), "super()"),
        (
            "?useDefineForClassFields=0",
            derived("f = 1; constructor() { const a = super(); }"),
            "super()",
        ),
        (
            "?target=es2021",
            derived("constructor(public x: number) { const a = super(); }"),
            "super()",
        ),
        (
            "",
            "namespace N { export enum E { A } } namespace N { export enum E { B } }".to_owned(),
            long,
        ),
        (
            "",
            "namespace N { export namespace E { f() } } namespace N { export enum E { B } }"
                .to_owned(),
            long,
        ),
        (
            "",
            "namespace N { class N {} export let x = 1; f(x) }".to_owned(),
            "means something else",
        ),
        (
            "",
            "namespace N { export const x = 1 } namespace N { function f(N: any) { return x } }"
                .to_owned(),
            "means something else",
        ),
    ] {
        let answer = post(&house, query, source.clone()).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 422, "{source}: {text}");
        assert!(text.contains(message), "{source}: {text}");
    }
}

#[tokio::test]
async fn an_option_that_is_not_known_is_400_and_named() {
    let house = house();
    for (query, named) in [
        ("?target=es5", "`es5` is not a value of `target`"),
        ("?target=es2016", "es2016"),
        ("?jsx=react", "`jsx`"),
        ("?minfy=1", "no option `minfy`"),
        ("?minify=yes", "`minify`"),
        ("?sourcemap=both", "`sourcemap`"),
        ("?jsxFactory=a(b)", "`jsxFactory`"),
        ("?helpers=none", "`helpers`"),
    ] {
        let answer = post(&house, query, "let x").await;
        assert_eq!(answer.status(), 400, "{query}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"].as_str().unwrap().contains(named), "{query}: {body}");
    }
}

#[tokio::test]
async fn sources_that_are_built_to_break_it_are_errors_and_no_traps() {
    let house = house();
    let client = Client::new();
    let many = |piece: &str, times: usize| piece.repeat(times);
    for (name, source, status) in [
        ("10 MB of brackets", many("(", 10 << 20), 413),
        ("brackets", many("(", 100_000), 422),
        ("lists", many("[", 100_000), 422),
        ("blocks", many("{", 100_000), 422),
        ("calls in calls", many("f(", 50_000) + &many(")", 50_000), 422),
        ("unary", many("!", 100_000) + "x", 422),
        ("typeof", many("typeof ", 100_000) + "x", 422),
        ("a long sum", "x".to_owned() + &many("+x", 100_000), 422),
        ("assignments", many("a=", 100_000) + "1", 422),
        ("conditions", many("a?b:", 100_000) + "c", 422),
        ("arrows", many("a=>", 100_000) + "1", 422),
        ("else if", "if(a){}".to_owned() + &many("else if(a){}", 50_000), 422),
        ("elements", many("<a>", 50_000), 422),
        ("templates", many("`${", 50_000), 422),
        ("members", "a".to_owned() + &many(".b", 100_000), 422),
        ("types", "type T = ".to_owned() + &many("keyof ", 100_000) + "X", 422),
        ("arrays of arrays", "let x: T".to_owned() + &many("[]", 100_000), 422),
        ("regex groups", "/".to_owned() + &many("(", 50_000) + &many(")", 50_000) + "/", 422),
        ("regex classes", "/".to_owned() + &many("[", 50_000) + &many("]", 50_000) + "/v", 422),
        ("regex groups in a class", "/".to_owned() + &many("[(?:", 50_000) + "/v", 422),
        (
            "brackets behind a division",
            "a++/".to_owned() + &many("[", 50_000) + &many("]", 50_000),
            422,
        ),
        // These deceive the estimate.
        ("behind an apostrophe in JSX", "x=<a>'{".to_owned() + &many("(", 100_000), 422),
        ("behind a quote in JSX", "x=<a>\"{".to_owned() + &many("[", 100_000), 422),
        ("behind slashes in JSX", "x=<a>//{".to_owned() + &many("f(", 100_000), 422),
        ("behind a comment in JSX", "x=<a>/*{".to_owned() + &many("<a>{", 50_000), 422),
        ("behind a backtick in JSX", "x=<a>`{".to_owned() + &many("!", 100_000) + "x", 422),
        ("closed in texts of JSX", "x=".to_owned() + &many("(<a>'</a>,(' )+'),", 50_000), 422),
        ("behind a division", "x={}/'1'/1".to_owned() + &many("+x", 100_000), 422),
        ("a regex bomb", "/(a+)+$/.test('a')".to_owned(), 200),
        ("no text", "\0\0\0".to_owned(), 422),
        ("nothing", String::new(), 200),
    ] {
        let (answered, text) = asked(&client, &house, name, source).await;
        assert_eq!(answered, status, "{name}: {text}");
    }
    let (status, text) = asked(&client, &house, "after all that", "let x = 1").await;
    assert_eq!(status, 200, "the breaker stays closed: {text}");
    let large = (0..20_000)
        .map(|n| format!("export const v{n} = f({n}, 'text') + 1;\n"))
        .collect::<String>();
    let (status, text) = asked(&client, &house, "a long source", large).await;
    assert_eq!(status, 200, "what is long is not deep: {text}");
    // Just below the estimate of what is too deep: it must not be one level too generous.
    for (before, piece, after) in [
        ("x=/", "[", "]"),
        ("x=/", "(", ")"),
        ("x=", "(", ")"),
        ("x=", "[", "]"),
        ("", "{", "}"),
        ("x=", "{a:", "}"),
        ("", "f(", ")"),
        ("", "function f(){", "}"),
        ("", "!", ""),
        ("", "- ", ""),
        ("", "typeof ", ""),
        ("y=x", "+x", ""),
        ("", "a=", "1"),
        ("", "a?b:", ""),
        ("", "a=>", ""),
        ("if(a){}", "else if(a){}", ""),
        ("x=", "<a>", "</a>"),
        ("a", ".b", ""),
        ("a", "()", ""),
        ("type T = ", "keyof ", ""),
        ("let x: T", "[]", ""),
        ("let x: ", "A<", ">"),
        ("", "a:", ""),
        ("y=x", "!", ""),
        ("y=x", " as any", ""),
        ("", "new ", ""),
    ] {
        let end = if after.is_empty() || after == "1" { "x" } else { "" };
        let last = if before.ends_with('/') { "/v" } else { "" };
        let source = |depth: usize| {
            format!("{before}{}{end}{}{last}", piece.repeat(depth), after.repeat(depth))
        };
        let (mut fits, mut deep) = (0, 4096);
        while deep - fits > 1 {
            let middle = (fits + deep) / 2;
            let name = format!("{before}{piece}{after} {middle} times");
            let (status, text) = asked(&client, &house, &name, source(middle)).await;
            assert!(matches!(status, 200 | 422), "{name}: {status} {text}");
            if text.contains("nested too deeply") { deep = middle } else { fits = middle }
        }
        assert!(fits >= 50, "{before}{piece}{after}: only {fits} levels");
    }
    let (not_utf8, text) = asked(&client, &house, "no UTF-8", vec![0xFF, 0xFE]).await;
    assert_eq!(not_utf8, 400, "{text}");
}

#[tokio::test]
async fn a_result_is_kept_under_its_source_and_options() {
    let house = house();
    let source = format!("export const text: string = '{}'", "x".repeat(200));
    let mut tags = Vec::new();
    for (query, state) in
        [("", "miss"), ("", "hit"), ("?minify=1", "miss"), ("?minify=1", "hit"), ("", "hit")]
    {
        let answer = post(&house, query, source.clone()).await;
        assert_eq!(answer.headers()["x-cache"], state, "{query}");
        tags.push(answer.headers()["etag"].clone());
    }
    assert_eq!(tags[0], tags[1]);
    assert_ne!(tags[0], tags[2]);
    let mut tags = Vec::new();
    for (query, source) in [("", "let x"), ("", "let x"), ("", "let y"), ("?minify=1", "let x")] {
        let small = post(&house, query, source).await;
        assert_eq!(small.headers()["x-cache"], "bypass", "a small one");
        tags.push(small.headers()["etag"].clone());
    }
    assert_eq!(tags[0], tags[1], "the same, and not kept");
    assert!(tags[0] != tags[2] && tags[0] != tags[3], "{tags:?}");
}

#[tokio::test]
async fn helpers_stand_in_the_output_unless_they_are_external() {
    let house = house();
    let source = "using a = b;";
    let inline = post(&house, "", source).await.text().await.unwrap();
    assert!(!inline.contains("import ") && inline.contains("function _usingCtx"), "{inline}");
    let external = post(&house, "?helpers=external", source).await.text().await.unwrap();
    assert!(external.contains("@oxc-project/runtime/helpers/usingCtx"), "{external}");
    let maps =
        post(&house, "?sourcemap=external&filename=a.ts", "let a: number = 1;\nlet b = a;").await;
    let maps: Value = maps.json().await.unwrap();
    assert_eq!(maps["map"]["sources"], json!(["a.ts"]));
    let inline = post(&house, "?sourcemap=inline", source).await.text().await.unwrap();
    assert!(inline.contains("//# sourceMappingURL=data:application/json"), "{inline}");
}

#[tokio::test]
async fn what_classic_jsx_calls_is_imported_and_what_nothing_calls_is_not() {
    let house = house();
    let import = "import React = require('react'); import other = require('other');";
    for (query, rest, kept) in [
        ("?jsx=classic", "export const a = <a/>;", true),
        ("?jsx=classic", "export const a = <></>;", true),
        ("?jsx=classic", "export const a = 1;", false),
        ("?jsx=automatic", "export const a = <a/>;", false),
        ("?jsx=classic&jsxFactory=h&jsxFragment=f", "export const a = <a/>;", false),
    ] {
        let text = post(&house, query, format!("{import} {rest}")).await.text().await.unwrap();
        let is_kept = text.contains("const React = require(\"react\")");
        assert_eq!(is_kept, kept, "{query} {rest}: {text}");
        assert!(!text.contains("other"), "{query} {rest}: {text}");
    }
}

#[tokio::test]
async fn imports_are_rewritten_as_the_original_did() {
    let house = house();
    let source = "import React from 'react'; import { a, b } from 'lodash'; import './x'; import k from './k.js';\n\
                  import Button from '@/components/button.tsx'; export * from 'd3'; const m = import('three?v=1');\n\
                  export { React, a, b, Button, k, m };";
    let text = post(&house, "?importMap=1", source).await.text().await.unwrap();
    let external =
        "?bundle=true&external=react,react-dom,framer-motion,@emotion/react,@emotion/styled";
    for expected in [
        "/** importMapReplace */\n".to_owned(),
        "from \"react\"".to_owned(),
        format!("from \"/lodash{external}&exports=a,b\""),
        "import \"./x.mjs\"".to_owned(),
        "from \"./k.js\"".to_owned(),
        "from \"/@/components/button.mjs\"".to_owned(),
        format!("export * from \"/d3{external}\""),
        format!("import(\"/three{external}&v=1\")"),
    ] {
        assert!(text.contains(&expected), "no {expected} in\n{text}");
    }
}

#[test]
fn source_maps_lead_back_to_the_names() {
    if clients::tool("GUESTHOUSE_NODE").is_none() {
        return;
    }
    let house = house();
    let Some(output) = clients::node("transpile-maps.mjs", &[&house.url]) else { return };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert_eq!(found["wrong"], json!([]), "{:#}", found["wrong"]);
    assert!(found["checked"].as_u64().unwrap() > 50, "{found}");
}

#[test]
fn a_react_component_with_emotion_renders_in_a_browser() {
    if clients::tool("GUESTHOUSE_NODE").is_none() || clients::chromium().is_none() {
        return;
    }
    let house = house();
    let Some(output) = clients::node("transpile-browser.mjs", &[&house.url]) else { return };
    let found: Value = serde_json::from_str(&clients::text_of(&output)).unwrap();
    assert_eq!(found, json!({"style": "rgb(1, 2, 3)", "padding": "7px", "wrong": []}));
}
